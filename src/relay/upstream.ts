/**
 * Connections that we open: to one endpoint of a peer, or to a local app. Calls are given a stream on one of
 * them, or wait here, bounded, until one is free; a failed dial is told to all that wait and then backed off.
 */
import type { StreamError } from '../http2/errors.ts';
import type { SessionReason } from '../session/event.ts';
import type { Session } from '../session/session.ts';
import type { Call } from './call.ts';
import type { RelayContext } from './context.ts';
import { drainingError, RelayError } from './errors.ts';
import type { Forwarding } from './forwarding.ts';
import { DIAL_FOR_CALLS, Reconnect, type ReconnectPolicy } from './reconnect.ts';
import { RetryBudget } from './retrybudget.ts';
import type { PlaceHolder, SessionPlaces } from './sessionplaces.ts';
import { type Dialled, UpstreamConnection } from './upstreamconnection.ts';
import { WaitingCalls } from './waitingcalls.ts';

export interface UpstreamOptions {
  /** For errors and logs, e.g. `greeter.shop at 10.1.2.3:15008`. */
  readonly name: string;
  readonly kind: 'app' | 'session';
  /** Rejects with RelayError. */
  readonly dial: () => Promise<Dialled>;
  /** Connections at the same time. */
  readonly maxConnections: number;
  readonly onConnection?: (connection: UpstreamConnection) => void;
  readonly onClosed?: (connection: UpstreamConnection, reason: string, detail: string) => void;
  /** The identifier of each connection's first stream, 1 by default. */
  readonly firstStreamId?: number;
  /** By default nothing is dialled but for calls, and nothing is ever given up. */
  readonly reconnect?: ReconnectPolicy;
  /** How long a call waits for a connection or a stream, in milliseconds; by default as long as its caller does. */
  readonly waitMs?: number;
  /** Shared by all upstreams that hold sessions. */
  readonly places?: SessionPlaces;
  /** The endpoint has been given up, but for health checks, or is back. */
  readonly onHealth?: (up: boolean, attempts: number, error: string) => void;
  /** It cannot be dialled, or its last connection is gone: it may have moved. */
  readonly onGone?: () => void;
  /** In [0, 1): the jitter of reconnecting. */
  readonly random?: () => number;
  /** What calls are sent on as here; by default as their plan has it. */
  readonly forwarding?: Forwarding;
}

const SWEEP_MS = 1000;
/** An endpoint that refuses at once has the fewest calls under way, and would be given most. */
const APP_GONE_MS = 1000;

/** How connections end that nobody meant to end: they are opened again, also without a call. */
const BROKEN: ReadonlySet<string> = new Set([
  'truncated',
  'socket-error',
  'heartbeat-timeout',
  'bad-record',
  'record-timeout',
  'key-exhausted',
  'protocol-error',
]);

export class Upstream implements PlaceHolder {
  readonly name: string;
  readonly forwarding: Forwarding | undefined;
  readonly #context: RelayContext;
  readonly #options: UpstreamOptions;
  /** Open and taking calls. */
  readonly #connections: UpstreamConnection[] = [];
  /** All that are not closed, also those that only finish what they have. */
  readonly #all = new Set<UpstreamConnection>();
  /** The peer's SETTINGS have not come yet. */
  readonly #opening = new Set<UpstreamConnection>();
  /** Their session comes to its end, for which reason: they take calls until a successor does. */
  readonly #ageing = new Map<UpstreamConnection, SessionReason>();
  /** In the order of their coming. */
  readonly #waiting: WaitingCalls;
  readonly #reconnect: Reconnect;
  readonly #retries = new RetryBudget();
  #dialling = 0;
  #lastError: RelayError | undefined;
  #lastCall = 0;
  /** Monotonic; 0: not that anybody knew. */
  #appGoneUntil = 0;
  #wasDown = false;
  #closing = false;
  readonly #sweeper: unknown;

  constructor(context: RelayContext, options: UpstreamOptions) {
    this.#context = context;
    this.#options = options;
    this.name = options.name;
    this.forwarding = options.forwarding;
    this.#waiting = new WaitingCalls(context.http2.queuedCalls, options.name);
    this.#reconnect = new Reconnect({
      clock: context.clock,
      policy: options.reconnect ?? DIAL_FOR_CALLS,
      random: options.random ?? Math.random,
      dial: () => this.#dialUnasked(),
    });
    this.#sweeper = context.clock.every(SWEEP_MS, () => this.#sweep());
  }

  #sweep(): void {
    for (const { connection } of this.#all) connection.sweep();
    if (this.load > 0) this.#lastCall = this.#context.clock.monotonic();
    this.#failLate();
    this.room();
    this.#dialIfWanted();
    if (this.#closing && this.#all.size === 0 && this.#dialling === 0) {
      this.#context.clock.clear(this.#sweeper);
    }
  }

  /** Calls that have waited too long. */
  #failLate(): void {
    const { waitMs } = this.#options;
    if (waitMs === undefined) return;
    const since = this.#context.clock.monotonic() - waitMs;
    for (const call of this.#waiting) {
      if (call.waitsSince === undefined || call.waitsSince > since) continue;
      this.leave(call);
      call.fail(new RelayError('wait-timeout', this.#whyItWaits(waitMs)));
    }
  }

  #whyItWaits(waitMs: number): string {
    const { places } = this.#options;
    const full = places !== undefined && places.taken >= places.max && this.#connections.length === 0;
    const why = full ? `all ${places.max} sessions of pool.maxConcurrentSessions are busy` : 'none was free';
    return `the call waited ${waitMs} ms for a stream to ${this.name}: ${why}; it was not sent`;
  }

  /** Calls here, open and waiting: what balancing compares. */
  get load(): number {
    let load = this.#waiting.size;
    for (const { calls } of this.#connections) load += calls;
    return load;
  }

  /** Connections that are not closed. */
  get open(): number {
    return this.#all.size;
  }

  get connected(): boolean {
    return this.#connections.length > 0;
  }

  /**
   * It has a connection and an app behind it, or one call may well wait for the first. False from a failure or a loss on until
   * it is back.
   */
  get healthy(): boolean {
    if (this.#appGoneUntil > 0 && this.#lacksApp) return false;
    return this.connected || (this.#dialling === 0 && this.#reconnect.isSound);
  }

  /** It has a connection, or has not failed since it had one: a first dial may be under way. */
  get sound(): boolean {
    return this.connected || this.#reconnect.isSound;
  }

  get #lacksApp(): boolean {
    if (this.#context.clock.monotonic() < this.#appGoneUntil) return true;
    this.#appGoneUntil = 0;
    return false;
  }

  /** The sidecar there has no app to give calls to: for a while they go to others, where there are any. */
  appGone(): void {
    this.#appGoneUntil = this.#context.clock.monotonic() + APP_GONE_MS;
  }

  /** A call might have come here, and went to a healthy one: it is dialled, when it is time, without making a call wait. */
  avoided(): void {
    if (this.#reconnect.mayDial) this.#dialUnasked();
  }

  /** Gives the call a stream now, or lets it wait for one. */
  assign(call: Call): void {
    this.#retries.earn();
    // Whoever waits comes first.
    if (this.#waiting.size > 0) this.room();
    for (const to of this.#connections) {
      if (to.hasRoom) {
        call.ready(to);
        return;
      }
    }
    this.#assignLater(call);
  }

  #assignLater(call: Call): void {
    if (this.#closing) {
      call.fail(drainingError());
      return;
    }
    if (!this.#waiting.add(call)) return;
    call.delayed = true;
    call.waitingAt = this;
    call.waitsSince ??= this.#context.clock.monotonic();
    this.#dialIfWanted();
  }

  /** Sends a call once more that was refused; false if too many have been. */
  takeRetry(): boolean {
    return this.#retries.take();
  }

  /** The call is over or goes elsewhere. */
  leave(call: Call): void {
    this.#waiting.delete(call);
    call.waitingAt = undefined;
  }

  /** What kept it from connecting is over: no dial waits for its backoff or for the next health check. */
  retryNow(): void {
    this.#reconnect.retryNow();
  }

  /** It has been seen to accept connections: a failed dial is backed off no longer. */
  reachable(): void {
    this.#reconnect.succeeded();
  }

  /** Streams are wanted, not only time to send: another connection is opened when those of all others are taken. */
  #mayDial(): boolean {
    const lasting = this.#connections.filter(
      (to) => !this.#ageing.has(to) && to.session?.takesCalls !== false,
    );
    return (
      this.#dialling === 0 &&
      lasting.length < this.#options.maxConnections &&
      !lasting.some(({ canOpen }) => canOpen)
    );
  }

  /**
   * Make before break: opens a connection beside `old`, which takes calls until that one does, and then only finishes
   * what it has. A dial that fails is backed off and tried again.
   */
  replace(old: UpstreamConnection, reason: SessionReason): void {
    if (!this.#connections.includes(old)) return;
    this.#ageing.set(old, reason);
    this.#dialIfWanted();
  }

  /** Opens a connection if calls wait for one, or an old one is to be replaced, and it is not too early after a failure. */
  #dialIfWanted(): void {
    if (this.#waiting.size === 0 && this.#ageing.size === 0) return;
    for (const to of [...this.#connections]) {
      if (!to.connection.exhausted) continue;
      // A new connection takes over; this one ends with its last stream.
      this.retire(to);
      to.drain('worn-out');
    }
    if (this.#closing || !this.#mayDial()) return;
    if (this.#lastError === undefined || this.#reconnect.mayDial) this.#dial();
    // Calls that wait for a stream on a living connection go on waiting.
    else if (this.#connections.length === 0) this.#failWaiting(this.#lastError);
  }

  /** A reconnect or a health check. */
  #dialUnasked(): void {
    if (!this.#closing && this.#dialling === 0 && this.#connections.length === 0) this.#dial();
  }

  #dial(): void {
    const { places, dial } = this.#options;
    if (places !== undefined && !places.take(this)) return;
    this.#dialling++;
    dial().then(
      (dialled) => this.#dialled(dialled),
      (error) => {
        places?.failed();
        this.#dialFailed(error);
      },
    );
  }

  // ---- a place among the sessions of all upstreams -------------------------------------------------

  get idleSince(): number | undefined {
    return this.#idleSession === undefined ? undefined : this.#lastCall;
  }

  get wantsPlace(): boolean {
    return this.#waiting.size > 0 || this.#ageing.size > 0;
  }

  /** All connections of a session that has no calls: a place is free when the last of them is closed. */
  get #idleSession(): UpstreamConnection[] | undefined {
    if (this.#waiting.size > 0) return undefined;
    for (const { place } of this.#connections) {
      const its = [...this.#all].filter((to) => to.place === place);
      if (its.every(({ calls, isReady }) => isReady && calls === 0)) return its;
    }
    return undefined;
  }

  giveWay(): object | undefined {
    const its = this.#idleSession ?? [];
    for (const to of its) {
      this.retire(to);
      if (to.session === undefined) to.drain('evicted');
      else to.session.drain('evicted');
    }
    return its[0]?.place;
  }

  placeFree(): void {
    this.#dialIfWanted();
  }

  #dialled(dialled: Dialled): void {
    const to = new UpstreamConnection(this, this.#context, dialled, this.#options);
    this.#options.places?.opened(to.place);
    this.#all.add(to);
    this.#opening.add(to);
    this.#options.onConnection?.(to);
    if (this.#closing) to.drain('shutdown');
  }

  #dialFailed(error: unknown): void {
    this.#dialling--;
    if (error instanceof RelayError) {
      this.#backOff(error);
      return;
    }
    this.#context.log.error({ error: String(error) }, 'dialling failed');
    const message = `could not connect to ${this.name}: the sidecar's log says why`;
    this.#backOff(new RelayError('internal', message, { cause: error }));
  }

  /** Opens no connection for a while; calls that have none to wait for fail meanwhile. */
  #backOff(error: RelayError): void {
    this.#reconnect.failed();
    this.#lastError = error;
    const { isDown, failures } = this.#reconnect;
    if (this.connected) return;
    if (isDown && !this.#wasDown) {
      this.#wasDown = true;
      this.#options.onHealth?.(false, failures, error.message);
    }
    this.#options.onGone?.();
    this.#failWaiting(error);
  }

  /** A connection ended with ENHANCE_YOUR_CALM: the next one is not opened at once. */
  calm(goaway: string): void {
    this.#backOff(new RelayError(this.#lostCode, `${this.name} ended the connection (${goaway}); slow down`));
  }

  get #lostCode(): 'app-lost' | 'session-lost' {
    return this.#options.kind === 'app' ? 'app-lost' : 'session-lost';
  }

  #failWaiting(error: RelayError): void {
    for (const call of [...this.#waiting]) {
      this.leave(call);
      call.tried ??= [];
      call.tried.push(this);
      call.plan.target.reassign(call, error);
    }
  }

  // ---- from its connections ------------------------------------------------------------------------

  /** The peer's SETTINGS are here: streams may be opened. */
  opened(to: UpstreamConnection): void {
    this.#opening.delete(to);
    this.#dialling--;
    const { failures } = this.#reconnect;
    this.#reconnect.succeeded();
    this.#lastError = undefined;
    this.#connections.push(to);
    this.#retireAged(to.session);
    if (this.#wasDown) {
      this.#wasDown = false;
      this.#options.onHealth?.(true, failures, '');
    }
    this.room();
  }

  /** A successor takes calls: what is older only finishes what it has. */
  #retireAged(successor: Session | undefined): void {
    for (const [old, reason] of [...this.#ageing]) {
      if (old.session === successor) continue;
      this.retire(old);
      old.session?.drain(reason);
    }
  }

  /** Some connection may have a stream free. */
  room(): void {
    if (this.#waiting.size === 0) return;
    for (const to of this.#connections) {
      for (const call of this.#waiting) {
        if (!to.hasRoom) break;
        this.leave(call);
        call.ready(to);
      }
    }
    this.#dialIfWanted();
  }

  streamError(streamId: number, error: StreamError): void {
    this.#context.log.debug({ upstream: this.name, streamId, error: error.message }, 'stream error');
  }

  /** Takes no more calls. */
  retire(to: UpstreamConnection): void {
    const at = this.#connections.indexOf(to);
    if (at >= 0) this.#connections.splice(at, 1);
    this.#ageing.delete(to);
  }

  closed(to: UpstreamConnection, reason: string, detail: string): void {
    if (!this.#all.delete(to)) return;
    this.retire(to);
    this.#options.onClosed?.(to, reason, detail);
    this.#options.places?.closed(to.place);
    if (to.isReady) {
      if (!this.connected) {
        if (BROKEN.has(reason)) this.#reconnect.lost();
        if (!this.#closing) this.#options.onGone?.();
      }
    } else this.neverReady(to);
    this.#dialIfWanted();
  }

  /** A connection has ended, or comes to its end, before streams could be opened on it: nobody waits for its goodbye. */
  neverReady(to: UpstreamConnection): void {
    if (!this.#opening.delete(to)) return;
    const message = `${this.name} closed the connection before it was ready (${to.endReason})`;
    this.#dialFailed(new RelayError(this.#lostCode, message));
  }

  // ---- shutdown ------------------------------------------------------------------------------------

  /** Takes no new calls; those under way finish. */
  drain(): void {
    this.#closing = true;
    this.#reconnect.stop();
    this.#options.places?.leave(this);
    this.#failWaiting(drainingError());
    for (const to of this.#all) to.drain('shutdown');
  }

  /** Ends everything now. */
  close(): void {
    this.#closing = true;
    this.#reconnect.stop();
    this.#options.places?.leave(this);
    this.#context.clock.clear(this.#sweeper);
    for (const to of [...this.#all]) to.close('shutdown');
  }

  /** Ends what is still open, after `close` has had its time. */
  destroy(): void {
    for (const { wire } of [...this.#all]) wire.destroy('shutdown');
  }
}
