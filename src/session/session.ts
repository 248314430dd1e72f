import { inspect } from 'node:util';
import type { Secret } from '../crypto/secret.ts';
import { SessionError } from './errors.ts';
import { outcomeOf, type SessionReason } from './event.ts';
import { type End, endOf, type Terms } from './expiry.ts';
import { Lifecycle, SESSION_TRANSITIONS, type SessionState } from './lifecycle.ts';

/** What a session has used. The relay adds to these numbers directly. */
export interface SessionCounters {
  calls: number;
  /** DATA bytes of calls that have ended, from and to the peer. */
  bytesIn: number;
  bytesOut: number;
  records: number;
  errors: number;
  limited: number;
  denied: number;
}

export interface SessionInit {
  /** A UUID, the same at both ends (design section 5). */
  readonly id: string;
  /** 32 bytes. Ownership passes with the call, also when it throws. */
  readonly sessionKey: Secret;
  /** SPIFFE ID of the other sidecar. */
  readonly peer: string;
  /** The upstream service that an outbound session was opened for. */
  readonly serviceId?: string | undefined;
  /** Who opened it: the peer (inbound) or this sidecar (outbound). */
  readonly direction: 'inbound' | 'outbound';
  readonly postQuantum: boolean;
  /** The earliest notAfter in either end's chain, milliseconds since the epoch. */
  readonly notAfter: number;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
}

/** What a session asks of its manager, and tells it. */
export interface SessionOwner {
  readonly terms: Terms;
  readonly maxConnections: number;
  /** Monotonic milliseconds as of the last sweep: reading it costs nothing. */
  readonly coarseNow: number;
  monotonic(): number;
  wallNow(): number;
  /** The session was used while it had no call open. Returns a number larger than any before. */
  used(session: Session): number;
  changed(session: Session, from: SessionState, to: SessionState, reason: SessionReason | undefined): void;
  draining(session: Session, reason: SessionReason, endsAt: number): void;
  /** From now on nobody may find the session. */
  ending(session: Session): void;
  ended(session: Session, reason: SessionReason): void;
  /** A listener threw. */
  listenerFailed(error: unknown): void;
}

export type DrainingListener = (reason: SessionReason, endsAt: number) => void;
export type DisposedListener = (reason: SessionReason) => void;

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
    records: 0,
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
  #ended: SessionReason | undefined;
  #draining: SessionReason | undefined;
  #drainingListeners: Set<DrainingListener> | undefined;
  #disposedListeners: Set<DisposedListener> | undefined;

  constructor(init: SessionInit, owner: SessionOwner) {
    this.id = init.id;
    this.peer = init.peer;
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
    this.#lifecycle = new Lifecycle(`Session ${init.id}`, SESSION_TRANSITIONS, 'created');
  }

  get state(): SessionState {
    return this.#lifecycle.state;
  }

  get isDisposed(): boolean {
    return this.#ended !== undefined;
  }

  /** True from the grace period on: take no new calls to it. Never becomes false again. */
  get isDraining(): boolean {
    return this.#draining !== undefined;
  }

  /** Whether somebody winds its connections down when it drains. */
  get hasDrainingListener(): boolean {
    return this.#drainingListeners !== undefined && this.#drainingListeners.size > 0;
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
    return this.createdAt + (this.#lastActivity - this.#created);
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
    return endOf(
      {
        createdAt: this.createdAt,
        created: this.#created,
        lastActivity: this.#lastActivity,
        notAfter: this.notAfter,
        openCalls: this.#openCalls,
      },
      this.#owner.terms,
      now,
      wallNow,
    );
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

  /** A connection has joined the session. Throws SessionError `disposed` or `too-many-connections`. */
  attach(): void {
    if (this.#ended !== undefined) throw this.#disposedError('attach a connection');
    if (this.#connections >= this.#owner.maxConnections) {
      throw new SessionError(
        'too-many-connections',
        `Session ${this.id} with ${this.peer} has ${this.#connections} connections already; no more may join it`,
      );
    }
    this.#connections++;
    if (this.state === 'created') {
      this.#to('connecting');
      if (!this.isDisposed) this.#to('connected');
    }
  }

  /**
   * An attached connection has closed. The session ends with its last one, for that one's reason; if that was closed
   * in order because the session's time was coming to its end, for the reason of that.
   */
  detach(reason: SessionReason): void {
    if (this.#connections === 0) {
      throw new SessionError('unbalanced-detach', `Session ${this.id}: detach without attach`);
    }
    this.#connections--;
    if (this.#connections > 0) return;
    const inOrder = reason === 'local-closed' || reason === 'peer-closed';
    const timed = this.#draining !== undefined && outcomeOf(this.#draining) === 'expired';
    this.end(inOrder && timed ? (this.#draining as SessionReason) : reason);
  }

  /** Announces the end: the relay sends GOAWAY. A second call does nothing. */
  drain(reason: SessionReason, endsAt: number = this.expiresAt): void {
    if (this.#ended !== undefined || this.#draining !== undefined) return;
    this.#draining = reason;
    this.#owner.draining(this, reason, endsAt);
    for (const listener of this.#drainingListeners ?? []) {
      if (!this.isDisposed) this.#call(() => listener(reason, endsAt));
    }
  }

  /** The peer has announced the end of a connection. When it says that the session's time is over, so it is here. */
  announced(why: string): void {
    if (why === 'idle' || why === 'expired' || why === 'identity-expired') this.drain(why);
  }

  /** Ends the session now: wipes the key, then tells the listeners, which cut its connections. Idempotent. */
  end(reason: SessionReason): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#key.wipe();
    this.#owner.ending(this);
    this.#to('disconnecting', reason);
    for (const listener of this.#disposedListeners ?? []) this.#call(() => listener(reason));
    this.#drainingListeners = undefined;
    this.#disposedListeners = undefined;
    this.#to('disconnected', reason);
    this.#to('disposed', reason);
    this.#owner.ended(this, reason);
  }

  /** Becomes idle unless it has a call or was used since `since` (monotonic). True when it is not active any more. */
  rest(since: number): boolean {
    if (this.#ended !== undefined || this.state !== 'active') return true;
    if (this.#openCalls > 0 || this.#lastActivity >= since) return false;
    this.#active = false;
    this.#to('idle');
    return true;
  }

  /** Called once, at the start of the grace period; at once if that has come. Returns a function that removes it. */
  onDraining(listener: DrainingListener): () => void {
    const reason = this.#draining;
    if (this.#ended === undefined) {
      this.#drainingListeners ??= new Set();
      this.#drainingListeners.add(listener);
      if (reason !== undefined) this.#call(() => listener(reason, this.expiresAt));
    }
    return () => void this.#drainingListeners?.delete(listener);
  }

  /** Called once, at the end; at once if that has come. Returns a function that removes it. */
  onDisposed(listener: DisposedListener): () => void {
    const reason = this.#ended;
    if (reason !== undefined) {
      this.#call(() => listener(reason));
      return () => undefined;
    }
    this.#disposedListeners ??= new Set();
    this.#disposedListeners.add(listener);
    return () => void this.#disposedListeners?.delete(listener);
  }

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
      createdAt: this.createdAt,
      lastActivity: this.lastActivity,
      expiresAt: this.expiresAt,
      connections: this.#connections,
      openCalls: this.#openCalls,
      metadata: this.metadata,
      counters: this.counters,
    };
  }

  [inspect.custom](): Record<string, unknown> {
    return this.toJSON();
  }

  #activate(): void {
    this.#to('active');
    this.#active = true;
  }

  #to(next: SessionState, reason?: SessionReason): void {
    const from = this.#lifecycle.to(next);
    this.#owner.changed(this, from, next, reason);
  }

  #disposedError(what: string): SessionError {
    return new SessionError(
      'disposed',
      `Cannot ${what} in session ${this.id} with ${this.peer}: it has ended (${this.#ended}); open a new one`,
    );
  }

  #call(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#owner.listenerFailed(error);
    }
  }
}
