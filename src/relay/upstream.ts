/**
 * Connections that we open: to one endpoint of a peer, or to a local app. Calls are given a stream on one of
 * them, or wait here, bounded, until one is free; a failed dial is told to all that wait and then backed off.
 */
import { Connection, type ConnectionHandler } from '../http2/connection.ts';
import type { ConnectionError, StreamError } from '../http2/errors.ts';
import type { Session } from '../session/session.ts';
import type { Call } from './call.ts';
import type { RelayContext } from './context.ts';
import { RelayError } from './errors.ts';
import { FloodReport } from './floodreport.ts';
import { MeteredSink, type Wire } from './wire.ts';

/** A wire that has been dialled, and for a peer the session on it. */
export interface Dialled {
  readonly wire: Wire;
  readonly session: Session | undefined;
  /** The other end, for the audit. */
  readonly remote: string;
}

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
}

/** Backoff after failed dials: full jitter over an exponentially growing span. */
const BACKOFF_BASE_MS = 100;
const BACKOFF_MAX_MS = 10_000;
const SWEEP_MS = 1000;

/**
 * While a connection has so many octets still to send, no further call is put on it: headers know no flow control,
 * and a wire whose backlog grows on and on is cut off with everybody's calls.
 */
const OPEN_BACKLOG = 4 * 1024 * 1024;

/** One connection of an Upstream. */
export class UpstreamConnection implements ConnectionHandler {
  readonly connection: Connection;
  readonly wire: Wire;
  readonly session: Session | undefined;
  /** Calls that have a stream here. */
  calls = 0;
  /** The peer's SETTINGS have come. */
  isReady = false;
  /** Why it ended, for the calls that it takes along. */
  endReason = 'closed';
  readonly #upstream: Upstream;
  readonly #floods: FloodReport;
  #error: ConnectionError | undefined;

  constructor(upstream: Upstream, context: RelayContext, dialled: Dialled, kind: 'app' | 'session') {
    this.#upstream = upstream;
    this.wire = dialled.wire;
    this.session = dialled.session;
    const side = kind === 'app' ? 'local-app' : 'peer';
    const records = side === 'peer' ? context.metrics.records : undefined;
    this.#floods = new FloodReport(context, side, dialled.remote, dialled.session);
    const sink = new MeteredSink(dialled.wire, context.metrics.bytes.of(side, 'out'), records?.of('out'));
    const bytesIn = context.metrics.bytes.of(side, 'in');
    const recordsIn = records?.of('in');
    this.connection = new Connection({
      role: 'client',
      sink,
      handler: this,
      monotonic: context.monotonic,
      schedule: context.turn.schedule,
      ...context.http2For(kind, 'client'),
    });
    const { wire, connection } = this;
    wire.onDrain = () => {
      connection.drained();
      upstream.room();
    };
    wire.onClose = (reason, detail, flood) => {
      if (flood !== undefined) this.#floods.connection(flood, detail);
      const error = this.#error;
      if (error === undefined) this.endReason = detail === '' ? reason : `${reason}: ${detail}`;
      connection.transportClosed();
      if (error === undefined) upstream.closed(this, reason, detail);
      else upstream.closed(this, error.kind === undefined ? 'protocol-error' : 'flood', error.message);
    };
    wire.onData = (octets) => {
      bytesIn.value += octets.length;
      if (recordsIn !== undefined) recordsIn.value++;
      context.turn.receive(connection, octets);
    };
  }

  /** A call may be put on it now. */
  get hasRoom(): boolean {
    return this.connection.canOpen && this.wire.backlog < OPEN_BACKLOG;
  }

  onRequest(): void {
    throw new Error('a client-role connection has no requests');
  }

  onOversizeRequest(): void {
    this.onRequest();
  }

  onReady(): void {
    this.isReady = true;
    this.#upstream.opened(this);
  }

  onRoom(): void {
    this.#upstream.room();
  }

  onGoaway(_last: number, _code: number, debug: string): void {
    this.endReason = debug === '' ? 'GOAWAY' : `GOAWAY: ${debug}`;
    this.session?.announced(debug);
    this.#upstream.retire(this);
    this.#upstream.room();
  }

  onStreamError(streamId: number, error: StreamError): void {
    this.#floods.stream(error);
    this.#upstream.streamError(streamId, error);
  }

  onEnd(error: ConnectionError | undefined): void {
    this.#error = error;
    if (error !== undefined) this.endReason = error.message;
    if (error?.kind !== undefined) this.#floods.connection(error.kind, error.message);
    this.wire.close();
    this.#upstream.retire(this);
  }
}

export class Upstream {
  readonly name: string;
  readonly #context: RelayContext;
  readonly #options: UpstreamOptions;
  /** Open and taking calls. */
  readonly #connections: UpstreamConnection[] = [];
  /** All that are not closed, also those that only finish what they have. */
  readonly #all = new Set<UpstreamConnection>();
  readonly #waiting = new Set<Call>();
  #dialling = 0;
  #failures = 0;
  #retryAt = 0;
  #lastError: RelayError | undefined;
  #closing = false;
  readonly #sweeper: unknown;

  constructor(context: RelayContext, options: UpstreamOptions) {
    this.#context = context;
    this.#options = options;
    this.name = options.name;
    this.#sweeper = context.clock.every(SWEEP_MS, () => {
      for (const { connection } of this.#all) connection.sweep();
    });
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

  /** False while a failed dial is being backed off. */
  get healthy(): boolean {
    return this.connected || this.#dialling > 0 || this.#context.clock.monotonic() >= this.#retryAt;
  }

  /** Gives the call a stream now, or lets it wait for one. */
  assign(call: Call): void {
    for (const to of this.#connections) {
      if (to.hasRoom) {
        call.ready(to);
        return;
      }
    }
    this.#assignLater(call);
  }

  #assignLater(call: Call): void {
    for (const to of [...this.#connections]) {
      if (!to.connection.exhausted) continue;
      // Its stream identifiers are used up: a new connection takes over.
      this.retire(to);
      to.connection.drain('stream identifiers used up');
    }
    if (this.#closing) {
      call.fail(
        new RelayError('draining', 'this sidecar is shutting down; the call was not sent, try another'),
      );
      return;
    }
    if (this.#waiting.size >= this.#context.http2.queuedCalls) {
      call.fail(
        new RelayError(
          'queue-full',
          `${this.#waiting.size} calls wait for ${this.name} already; slow down or raise http2.queuedCalls`,
        ),
      );
      return;
    }
    // From here on time passes, and the deadline that is sent on must be shortened by it.
    call.tried ??= [];
    call.waitingAt = this;
    this.#waiting.add(call);
    if (!this.#mayDial()) return;
    if (this.#lastError !== undefined && this.#context.clock.monotonic() < this.#retryAt) {
      this.#failWaiting(this.#lastError);
      return;
    }
    this.#dial();
  }

  /** The call is over or goes elsewhere. */
  leave(call: Call): void {
    this.#waiting.delete(call);
    call.waitingAt = undefined;
  }

  /** It has been seen to accept connections: a failed dial is backed off no longer. */
  reachable(): void {
    this.#retryAt = 0;
    this.#failures = 0;
  }

  /** Streams are wanted, not only time to send: another connection is opened when those of all others are taken. */
  #mayDial(): boolean {
    return (
      this.#dialling === 0 &&
      this.#connections.length < this.#options.maxConnections &&
      !this.#connections.some(({ connection }) => connection.canOpen)
    );
  }

  #dial(): void {
    this.#dialling++;
    this.#options.dial().then(
      (dialled) => this.#dialled(dialled),
      (error) => this.#dialFailed(error),
    );
  }

  #dialled(dialled: Dialled): void {
    const to = new UpstreamConnection(this, this.#context, dialled, this.#options.kind);
    this.#all.add(to);
    this.#options.onConnection?.(to);
    if (this.#closing) to.connection.drain('shutdown');
  }

  #dialFailed(error: unknown): void {
    this.#dialling--;
    this.#failures++;
    const span = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.min(this.#failures, 16));
    this.#retryAt = this.#context.clock.monotonic() + Math.random() * span;
    this.#lastError =
      error instanceof RelayError
        ? error
        : new RelayError('internal', `could not connect to ${this.name}: the sidecar's log says why`, {
            cause: error,
          });
    if (!(error instanceof RelayError)) this.#context.log.error({ error: String(error) }, 'dialling failed');
    // Calls that wait for a stream on a living connection go on waiting.
    if (this.#connections.length === 0) this.#failWaiting(this.#lastError);
  }

  #failWaiting(error: RelayError): void {
    for (const call of [...this.#waiting]) {
      this.leave(call);
      call.tried?.push(this);
      call.plan.target.reassign(call, error);
    }
  }

  // ---- from its connections ------------------------------------------------------------------------

  /** The peer's SETTINGS are here: streams may be opened. */
  opened(to: UpstreamConnection): void {
    this.#dialling--;
    this.#failures = 0;
    this.#lastError = undefined;
    this.#connections.push(to);
    this.room();
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
    if (this.#waiting.size > 0 && this.#mayDial() && !this.#closing) this.#dial();
  }

  streamError(streamId: number, error: StreamError): void {
    this.#context.log.debug({ upstream: this.name, streamId, error: error.message }, 'stream error');
  }

  /** Takes no more calls. */
  retire(to: UpstreamConnection): void {
    const at = this.#connections.indexOf(to);
    if (at >= 0) this.#connections.splice(at, 1);
  }

  closed(to: UpstreamConnection, reason: string, detail: string): void {
    if (!this.#all.delete(to)) return;
    this.retire(to);
    this.#options.onClosed?.(to, reason, detail);
    if (!to.isReady) {
      const code = this.#options.kind === 'app' ? 'app-lost' : 'session-lost';
      const message = `${this.name} closed the connection before it was ready (${to.endReason})`;
      this.#dialFailed(new RelayError(code, message));
    }
    if (this.#waiting.size > 0 && this.#connections.length === 0 && this.#mayDial()) this.#dial();
  }

  // ---- shutdown ------------------------------------------------------------------------------------

  /** Takes no new calls; those under way finish. */
  drain(): void {
    this.#closing = true;
    this.#failWaiting(
      new RelayError('draining', 'this sidecar is shutting down; the call was not sent, try another'),
    );
    for (const { connection } of this.#all) connection.drain('shutdown');
  }

  /** Ends everything now. */
  close(): void {
    this.#closing = true;
    this.#context.clock.clear(this.#sweeper);
    for (const { wire } of [...this.#all]) wire.close();
  }
}
