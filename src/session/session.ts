import { inspect } from 'node:util';
import type { Secret } from '../crypto/secret.ts';
import { Lifecycle } from '../lifecycle/lifecycle.ts';
import { type EndListener, EndListeners } from './endlisteners.ts';
import { SessionDisposedError, SessionError } from './errors.ts';
import { REST, type SessionReason } from './event.ts';
import { type End, endOf, type Life, type Succession, successionOf } from './expiry.ts';
import { SESSION_MACHINE, type SessionState } from './lifecycle.ts';
import type { SessionCounters, SessionInit, SessionOwner } from './sessionowner.ts';

/** Ends that hold for the session at both sides. */
const PASSED_ON: readonly SessionReason[] = [
  'idle',
  'expired',
  'identity-expired',
  'identity-rotated',
  'identity-untrusted',
];
/** What GOAWAY says to a peer whose session was revoked. */
const REVOKED = 'revoked';
const REVOKED_AND_BLOCKED = 'revoked and blocked';

/**
 * The logical level between two sidecars: who the peer is, since when, and what it has used. Made by
 * SessionManager.create.
 *
 * The relay attaches each connection that belongs to it, calls callStarted and callEnded around every call, sends
 * GOAWAY when it drains, and destroys the connections when it is disposed.
 */
export class Session implements AsyncDisposable {
  readonly id: string;
  readonly peer: string;
  /** Where the peer was when it began, without a port; empty if nobody has told. */
  readonly address: string;
  readonly serviceId: string | undefined;
  readonly direction: 'inbound' | 'outbound';
  readonly postQuantum: boolean;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly notAfter: number;
  /** Free for the embedding program. */
  readonly metadata: Record<string, unknown>;
  readonly counters: SessionCounters = {
    calls: 0,
    bytesIn: 0,
    bytesOut: 0,
    recordsIn: 0,
    recordsOut: 0,
    errors: 0,
    limited: 0,
    denied: 0,
  };

  readonly #owner: SessionOwner;
  readonly #key: Secret;
  readonly #lifecycle: Lifecycle<SessionState>;
  readonly #created: number;
  #lastActivity: number;
  #usedAt = 0;
  #openCalls = 0;
  #active = false;
  #connections = 0;
  #resumptions = 0;
  #resumedAt: number | undefined;
  #resumable = false;
  /** Why the last connection went, while the session rests. */
  #lost: SessionReason | undefined;
  #ended: SessionReason | undefined;
  #finished = false;
  #revocation: { readonly mayReturn: boolean } | undefined;
  #draining: SessionReason | undefined;
  #aged = false;
  #listeners: EndListeners | undefined;

  constructor(init: SessionInit, owner: SessionOwner) {
    this.id = init.id;
    this.peer = init.peer;
    this.address = init.address ?? '';
    this.serviceId = init.serviceId;
    this.direction = init.direction;
    this.postQuantum = init.postQuantum;
    this.notAfter = init.notAfter;
    this.metadata = { ...init.metadata };
    this.createdAt = owner.wallNow();
    this.#owner = owner;
    this.#key = init.sessionKey;
    this.#created = owner.monotonic();
    this.#lastActivity = this.#created;
    this.#lifecycle = new Lifecycle(`Session ${init.id}`, SESSION_MACHINE, 'created');
  }

  get state(): SessionState {
    return this.#lifecycle.state;
  }

  get isDisposed(): boolean {
    return this.#ended !== undefined;
  }

  /** Whether a call may begin: its time may be over before anybody has looked. Cheap enough for every call. */
  get takesCalls(): boolean {
    return this.#ended === undefined && !this.isOver;
  }

  /** Whether its time is over. An end that is far away is not looked at with the exact time. */
  get isOver(): boolean {
    const { coarseNow, coarseLagMs, terms } = this.#owner;
    const soon = coarseNow + coarseLagMs;
    if (
      soon < this.#created + terms.absoluteMs &&
      soon < this.#created + this.notAfter - this.createdAt &&
      (this.#openCalls > 0 || soon < this.#lastActivity + terms.idleMs)
    ) {
      return false;
    }
    return this.endFrom(this.#owner.monotonic(), this.#owner.wallNow()).inMs <= 0;
  }

  /** Announces its end if its time is over. */
  drainIfOver(): void {
    const wallNow = this.#owner.wallNow();
    const { inMs, reason } = this.endFrom(this.#owner.monotonic(), wallNow);
    if (inMs <= 0) this.drain(reason, wallNow);
  }

  /** Ends it if its time is over; returns whether it has ended. */
  endIfOver(): boolean {
    if (this.#ended !== undefined) return true;
    const end = this.endFrom(this.#owner.monotonic(), this.#owner.wallNow());
    if (end.inMs <= 0) this.end(end.reason);
    return this.isDisposed;
  }

  /** Why it has ended; undefined while it lives. */
  get endReason(): SessionReason | undefined {
    return this.#ended;
  }

  /** Set if it was revoked here. A session that the peer has revoked ends for the reason `revoked`, too. */
  get revocation(): { readonly mayReturn: boolean } | undefined {
    return this.#revocation;
  }

  /** True from the grace period on: take no new calls to it. Never becomes false again. */
  get isDraining(): boolean {
    return this.#draining !== undefined;
  }

  /** Whether somebody winds its connections down when it drains. */
  get hasDrainingListener(): boolean {
    return this.#listeners?.hearDraining === true;
  }

  get openCalls(): number {
    return this.#openCalls;
  }

  /** How many connections are attached. */
  get connections(): number {
    return this.#connections;
  }

  /** Milliseconds since the epoch; coarse, up to a sweep behind. */
  get lastActivity(): number {
    return this.createdAt + Math.max(0, this.#lastActivity - this.#created);
  }

  /** Whether it was last used before a moment of the monotonic clock. */
  usedBefore(moment: number): boolean {
    return this.#lastActivity <= moment;
  }

  /** Orders sessions by their last use; means nothing else. */
  get usedAt(): number {
    return this.#usedAt;
  }

  /** When the session ends if nothing more happens: milliseconds since the epoch. */
  get expiresAt(): number {
    const wallNow = this.#owner.wallNow();
    return wallNow + this.endFrom(this.#owner.monotonic(), wallNow).inMs;
  }

  /** The session key. Using its bytes after disposal throws CryptoError `key-wiped`. */
  get sessionKey(): Secret {
    return this.#key;
  }

  /** The end as seen from `now` (monotonic) and `wallNow`. */
  endFrom(now: number, wallNow: number): End {
    return endOf(this.#life, this.#owner.terms, now, wallNow);
  }

  /** When its successor is due as seen from `now` (monotonic) and `wallNow`; undefined once it has been asked for. */
  successionFrom(now: number, wallNow: number): Succession | undefined {
    return this.#aged ? undefined : successionOf(this.#life, this.#owner.terms, now, wallNow);
  }

  get #life(): Life {
    return {
      createdAt: this.createdAt,
      created: this.#created,
      lastActivity: this.#lastActivity,
      notAfter: this.notAfter,
      openCalls: this.#openCalls,
    };
  }

  /** Slides the idle expiry. Cheap enough for every call and record. */
  touch(): void {
    this.#lastActivity = this.#owner.coarseNow;
    if (this.#openCalls === 0 && this.#ended === undefined) this.#usedAt = this.#owner.used(this);
  }

  /** Stops the idle clock until callEnded. Throws SessionError `disposed`. */
  callStarted(): void {
    if (this.#ended !== undefined) throw this.#disposedError('start a call');
    if (!this.#active) {
      this.#activate();
      if (this.isDisposed) throw this.#disposedError('start a call');
    }
    this.#openCalls++;
    this.counters.calls++;
    this.#lastActivity = this.#owner.coarseNow;
  }

  /** Must follow every callStarted once, also when the session has been disposed meanwhile. */
  callEnded(): void {
    if (this.#openCalls === 0) {
      throw new SessionError('unbalanced-call', `Session ${this.id}: callEnded without callStarted`);
    }
    this.#openCalls--;
    this.touch();
  }

  /**
   * Whether it outlives its last connection, until its time is over: its owner says so while there are tickets to
   * resume it with. Set to false while it rests, it ends, for the reason for which the last connection went.
   */
  get resumable(): boolean {
    return this.#resumable;
  }

  set resumable(resumable: boolean) {
    this.#resumable = resumable;
    if (!resumable && this.#lost !== undefined) this.end(this.#lost);
  }

  /**
   * Whether a connection may join it: it has not as many as it may, and is not on its way down. One that we opened and
   * whose successor is due takes none either: that must be another session.
   */
  get joinable(): boolean {
    return (
      this.#ended === undefined &&
      this.#draining === undefined &&
      !(this.#aged && this.direction === 'outbound') &&
      this.#connections < this.#owner.maxConnections
    );
  }

  /** A connection is being made. Says so if the session has none; else nothing changes. Throws as attach does. */
  connecting(): void {
    this.#checkJoinable();
    if (this.#connections === 0 && this.state !== 'connecting') this.#to('connecting');
  }

  /** The connection that was being made did not come about. Nothing changes if the session has another. */
  connectFailed(reason: SessionReason): void {
    if (this.#ended !== undefined || this.#connections > 0) return;
    this.#rest('error', reason);
    if (!this.#resumable) this.end(reason);
  }

  /**
   * A connection has joined the session, which need not have been told that it was being made. Throws SessionError
   * `disposed` or `too-many-connections`.
   */
  attach(): void {
    this.connecting();
    // A listener may have ended the session; whoever attaches still detaches.
    this.#connections++;
    this.#lost = undefined;
    if (this.state === 'connecting') this.#to('connected');
  }

  /**
   * An attached connection has closed. With its last one a session that is `resumable` rests, unless it drains or that
   * one went for a reason that allows no return; any other ends, for the reason of that one, or if that was closed in
   * order because the session was coming to its end, for the reason of that.
   */
  detach(reason: SessionReason): void {
    if (this.#connections === 0) {
      throw new SessionError('unbalanced-detach', `Session ${this.id}: detach without attach`);
    }
    this.#connections--;
    if (this.#connections > 0 || this.#ended !== undefined) return;
    const rest = this.#resumable && this.#draining === undefined ? REST[reason] : undefined;
    if (rest !== undefined) {
      this.#rest(rest, reason);
      return;
    }
    const inOrder = reason === 'local-closed' || reason === 'peer-closed';
    const planned = this.#draining ?? (this.#owner.shutsDown ? 'shutdown' : undefined);
    this.end((inOrder ? planned : undefined) ?? reason);
  }

  /** The connection that was attached last came by resumption. */
  resumed(): void {
    this.#resumptions++;
    this.#resumedAt = this.#owner.wallNow();
  }

  /** How many of its connections have come by resumption: after a rest, or beside others. */
  get resumptions(): number {
    return this.#resumptions;
  }

  /** When the last of them came, milliseconds since the epoch; undefined if none has. */
  get resumedAt(): number | undefined {
    return this.#resumedAt;
  }

  /** Asks for its successor, because it will end for `reason`; without effect if it was never used. */
  age(reason: SessionReason): void {
    if (this.#ended !== undefined || this.#aged) return;
    this.#aged = true;
    if (this.counters.calls === 0) return;
    this.#owner.aged(this, reason);
    this.#tell(({ successorDue }) => successorDue?.(reason));
  }

  /** Announces the end: the relay sends GOAWAY. A second call does nothing. */
  drain(reason: SessionReason, endsAt: number = this.expiresAt): void {
    if (this.#ended !== undefined || this.#draining !== undefined) return;
    this.#draining = reason;
    this.#owner.draining(this, reason, endsAt);
    this.#tell(({ draining }) => draining?.(reason, endsAt));
  }

  /** The peer has announced the end of a connection. When it says that the session is over, so it is here. */
  announced(why: string): void {
    if (PASSED_ON.includes(why as SessionReason)) this.drain(why as SessionReason);
    else if (why === REVOKED || why === REVOKED_AND_BLOCKED) this.drain('revoked');
  }

  /** What GOAWAY tells the peer of the end: the reason, and after a revocation whether it need not come back. */
  get farewell(): string {
    if (this.#revocation?.mayReturn === false) return REVOKED_AND_BLOCKED;
    return this.#ended ?? 'shutdown';
  }

  /**
   * The first half of an end by an operator's command; `mayReturn` is false if its peer is blocked. Nobody finds the session
   * any more, nothing joins it or begins in it, its key goes. What it has open stays until `finishEnd`.
   */
  bar(mayReturn: boolean): void {
    if (this.#ended !== undefined) return;
    this.#revocation = { mayReturn };
    this.#leave('revoked');
  }

  /** Ends the session now: its key goes, then the listeners are told, which cut its connections. Idempotent. */
  end(reason: SessionReason): void {
    if (this.#ended !== undefined) return;
    this.#leave(reason);
    this.finishEnd();
  }

  #leave(reason: SessionReason): void {
    this.#ended = reason;
    this.#owner.ending(this, this.#key);
  }

  /** The second half of the end of a session that was barred. Idempotent. */
  finishEnd(): void {
    const reason = this.#ended;
    if (reason === undefined || this.#finished) return;
    this.#finished = true;
    const rests = this.state === 'disconnected';
    if (!rests && this.state !== 'disconnecting') this.#to('disconnecting', reason);
    const listeners = this.#listeners;
    this.#listeners = undefined;
    listeners?.tell(
      ({ disposed }) => disposed?.(reason),
      () => false,
    );
    if (!rests) this.#to('disconnected', reason);
    this.#to('disposed', reason);
    this.#owner.ended(this, reason);
  }

  /** Becomes idle unless it has a call or was used since `since` (monotonic). True when it is not active any more. */
  settle(since: number): boolean {
    if (this.#ended !== undefined || this.state !== 'active') return true;
    if (this.#openCalls > 0 || this.#lastActivity >= since) return false;
    this.#active = false;
    this.#to('idle');
    return true;
  }

  /**
   * Tells `listener` of the way down: at once, if a moment has come already, but for `successorDue`. Returns a function
   * that removes it: a session may outlive its connections.
   */
  listen(listener: EndListener): () => void {
    const listeners = this.#listeners ?? new EndListeners(this.#owner.listenerFailed);
    const [reason, ended] = [this.#draining, this.#ended];
    if (ended !== undefined) {
      listeners.tellOne(({ disposed }) => disposed?.(ended), listener);
      return () => undefined;
    }
    this.#listeners = listeners;
    listeners.add(listener);
    if (reason !== undefined) {
      listeners.tellOne(({ draining }) => draining?.(reason, this.expiresAt), listener);
    }
    return () => {
      listeners.delete(listener);
      if (listeners.isEmpty && this.#listeners === listeners) this.#listeners = undefined;
    };
  }

  #tell(call: (listener: EndListener) => void): void {
    this.#listeners?.tell(call, () => this.isDisposed);
  }

  /** `end('local-closed')`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.end('local-closed');
  }

  /** Everything but the key. Times are milliseconds since the epoch. */
  toJSON(): Record<string, unknown> {
    return {
      id: this.id,
      peer: this.peer,
      serviceId: this.serviceId,
      direction: this.direction,
      state: this.state,
      postQuantum: this.postQuantum,
      draining: this.isDraining,
      resumable: this.#resumable,
      resumptions: this.#resumptions,
      resumedAt: this.#resumedAt,
      createdAt: this.createdAt,
      lastActivity: this.lastActivity,
      expiresAt: this.expiresAt,
      connections: this.#connections,
      openCalls: this.#openCalls,
      metadata: this.metadata,
      counters: this.counters,
    };
  }

  /** As `toJSON`. */
  [inspect.custom](): Record<string, unknown> {
    return this.toJSON();
  }

  /** Has no connection now, and waits to be resumed. */
  #rest(state: 'disconnected' | 'error', reason: SessionReason): void {
    this.#lost = reason;
    this.#active = false;
    if (state === 'disconnected') {
      this.#to('disconnecting', reason);
      if (this.isDisposed) return;
    }
    this.#to(state, reason);
  }

  #checkJoinable(): void {
    if (this.#ended !== undefined) throw this.#disposedError('attach a connection');
    if (this.#connections < this.#owner.maxConnections) return;
    throw new SessionError(
      'too-many-connections',
      `Session ${this.id} with ${this.peer} has ${this.#connections} connections already; no more may join it`,
    );
  }

  #activate(): void {
    this.#to('active');
    this.#active = true;
  }

  #to(next: SessionState, reason?: SessionReason): void {
    const from = this.#lifecycle.to(next);
    this.#owner.changed(this, from, next, reason);
  }

  #disposedError(what: string): SessionDisposedError {
    return new SessionDisposedError(
      `Cannot ${what} in session ${this.id} with ${this.peer}: it has ended (${this.#ended}); open a new one`,
    );
  }
}
