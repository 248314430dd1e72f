import { LRUCache } from 'lru-cache';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import { Deadlines } from './deadlines.ts';
import { SessionError } from './errors.ts';
import { outcomeOf, type SessionEvent, type SessionReason } from './event.ts';
import type { Terms } from './expiry.ts';
import { Holdings } from './holdings.ts';
import { Lifecycle, MANAGER_TRANSITIONS, type ManagerState } from './lifecycle.ts';
import { Session, type SessionInit, type SessionOwner } from './session.ts';

/** Times in milliseconds. */
export interface SessionManagerOptions {
  readonly clock: Clock;
  /** Default 1 h. */
  readonly idleMs?: number;
  /** Default 8 h. */
  readonly absoluteMs?: number;
  /** Default 30 s; never more than a fifth of a session's life. */
  readonly graceMs?: number;
  /** Sessions in all; default 10,000. */
  readonly max?: number;
  /** Sessions a peer; default 64. */
  readonly maxPerPeer?: number;
  /** Connections a session; default 8. */
  readonly maxConnections?: number;
  /** Between looks at what is due; default 1 s, or a tenth of the shortest lifetime if that is less. */
  readonly sweepMs?: number;
  readonly onEvent?: (event: SessionEvent) => void;
  /** A listener threw. By default that is thrown again from a microtask: nothing is hidden, no session is harmed. */
  readonly onListenerError?: (error: unknown) => void;
}

export interface SessionStats {
  readonly activeSessions: number;
  readonly maxSessions: number;
  /** 0 to 1. */
  readonly utilization: number;
  readonly peers: number;
  readonly created: number;
  /** create() calls that found no place. */
  readonly refused: number;
  readonly closed: Readonly<Partial<Record<SessionReason, number>>>;
}

const SECOND = 1_000;
const HOUR = 3_600_000;
const SESSION_KEY_LENGTH = 32;
const SHORTEST_SWEEP_MS = 10;
/** A wall clock that has departed from the monotonic one by more than this was set, or time stood still. */
const CLOCK_JUMP_MS = 500;

/**
 * All sessions of a sidecar: an expiring LRU with keys that are wiped on disposal. Nothing is dropped silently:
 * each end is an event with its reason.
 *
 * One timer serves all. A session's time is looked at when it may have come (Deadlines), not when a call slides it.
 */
export class SessionManager implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #options: SessionManagerOptions;
  readonly #terms: Terms;
  readonly #max: number;
  readonly #maxPerPeer: number;
  readonly #sweepMs: number;
  readonly #lifecycle = new Lifecycle<ManagerState>('The session manager', MANAGER_TRANSITIONS, 'inactive');
  readonly #store: LRUCache<string, Session>;
  readonly #holdings = new Holdings();
  readonly #deadlines: Deadlines<Session>;
  /** Sessions in state `active`: the sweep sees when they come to rest. */
  readonly #active = new Set<Session>();
  readonly #owner: SessionOwner & { coarseNow: number };
  readonly #closed: Partial<Record<SessionReason, number>> = {};
  #created = 0;
  #refused = 0;
  #uses = 0;
  #lastSweep: number;
  #wallOffset: number;
  #sweepTimer: TimerHandle | undefined;
  #shutdownTimer: TimerHandle | undefined;
  #shutdown: Promise<void> | undefined;
  #shutdownDone: () => void = () => undefined;

  constructor(options: SessionManagerOptions) {
    this.#clock = options.clock;
    this.#options = options;
    this.#terms = {
      idleMs: positive('idleMs', options.idleMs ?? HOUR),
      absoluteMs: positive('absoluteMs', options.absoluteMs ?? 8 * HOUR),
      graceMs: notNegative('graceMs', options.graceMs ?? 30 * SECOND),
    };
    this.#max = positiveInteger('max', options.max ?? 10_000);
    this.#maxPerPeer = positiveInteger('maxPerPeer', options.maxPerPeer ?? 64);
    const tenth = Math.floor(Math.min(this.#terms.idleMs, this.#terms.absoluteMs) / 10);
    this.#sweepMs = positive(
      'sweepMs',
      options.sweepMs ?? Math.max(SHORTEST_SWEEP_MS, Math.min(SECOND, tenth)),
    );
    const now = this.#clock.monotonic();
    this.#deadlines = new Deadlines(this.#sweepMs, now);
    this.#lastSweep = now;
    this.#wallOffset = this.#clock.now() - now;
    this.#store = new LRUCache<string, Session>({
      max: this.#max,
      // create() makes room first, so the cache never chooses by itself; if it did, that would be an end like any other.
      dispose: (session) => session.end('evicted'),
    });
    this.#owner = this.#makeOwner(positiveInteger('maxConnections', options.maxConnections ?? 8), now);
  }

  get state(): ManagerState {
    return this.#lifecycle.state;
  }

  get size(): number {
    return this.#store.size;
  }

  /**
   * Admits a session whose handshake has succeeded. When all places are taken, the least recently used session
   * without calls goes: first one of the same peer, else one of the peer that holds most.
   *
   * Throws SessionError `manager-shut-down`, `duplicate-id`, `already-expired`, or `capacity` when every session
   * that might go has calls.
   */
  create(init: SessionInit): Session {
    try {
      this.#admit(init);
    } catch (error) {
      init.sessionKey.wipe();
      throw error;
    }
    if (this.state === 'inactive') this.#start();
    const now = this.#freshNow();
    const session = new Session(init, this.#owner);
    session.touch();
    this.#store.set(session.id, session);
    this.#holdings.add(session);
    this.#created++;
    this.#emit({ type: 'created', session });
    if (!session.isDisposed) this.#look(session, now, this.#clock.now());
    return session;
  }

  /** Finds a live session and slides its expiry. */
  get(id: string): Session | undefined {
    const session = this.peek(id);
    session?.touch();
    return session;
  }

  /** Finds a live session and leaves its expiry and its place in the order of use alone. */
  peek(id: string): Session | undefined {
    const now = this.#freshNow();
    const session = this.#store.peek(id);
    if (session === undefined) return undefined;
    const end = session.endFrom(now, this.#clock.now());
    if (end.inMs > 0) return session;
    session.end(end.reason);
    return undefined;
  }

  /** Every session, least recently used first. */
  list(): Session[] {
    return [...this.#oldestFirst()];
  }

  /** Ends a session now. False if there is none. */
  close(id: string, reason: SessionReason = 'local-closed'): boolean {
    const session = this.#store.peek(id);
    session?.end(reason);
    return session !== undefined;
  }

  stats(): SessionStats {
    return {
      activeSessions: this.#store.size,
      maxSessions: this.#max,
      utilization: this.#store.size / this.#max,
      peers: this.#holdings.peers,
      created: this.#created,
      refused: this.#refused,
      closed: { ...this.#closed },
    };
  }

  /**
   * Refuses new sessions, drains all, and disposes each once its connections have closed, or at once if nobody
   * listens for draining and it has no call; the rest at the deadline (default: the grace period). Resolves when
   * no session is left. Calling it again with an earlier deadline brings the end forward.
   */
  shutdown(deadlineMs: number = this.#terms.graceMs): Promise<void> {
    if (this.#shutdown === undefined) {
      this.#shutdown = new Promise((resolve) => {
        this.#shutdownDone = resolve;
      });
      this.#lifecycle.to('shutdown');
      const endsAt = this.#clock.now() + deadlineMs;
      for (const session of this.list()) {
        session.drain('shutdown', Math.min(endsAt, session.expiresAt));
        if (isQuiet(session)) session.end('shutdown');
      }
    }
    if (this.#store.size === 0) this.#finish();
    else if (deadlineMs <= 0) this.#cutAll();
    else this.#cutWithin(deadlineMs);
    return this.#shutdown;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  #oldestFirst(): Iterable<Session> {
    // The cache's type allows for values that are still being fetched; there are none here.
    return this.#store.rvalues() as Iterable<Session>;
  }

  #admit(init: SessionInit): void {
    if (this.state === 'shutdown' || this.state === 'disposed') {
      throw new SessionError('manager-shut-down', 'No new session: this sidecar is shutting down');
    }
    if (init.sessionKey.bytes.length !== SESSION_KEY_LENGTH) {
      throw new SessionError('bad-option', `A session key has ${SESSION_KEY_LENGTH} bytes`);
    }
    if (this.#store.has(init.id)) {
      throw new SessionError('duplicate-id', `There is a session ${init.id} already`);
    }
    if (init.notAfter <= this.#clock.now()) {
      throw new SessionError(
        'already-expired',
        `No session with ${init.peer}: a certificate of its handshake ended at ${new Date(init.notAfter).toISOString()}`,
      );
    }
    this.#makeRoom(init.peer);
  }

  #makeRoom(peer: string): void {
    const peerIsFull = this.#holdings.heldBy(peer) >= this.#maxPerPeer;
    const allIsFull = this.#store.size >= this.#max;
    if (!peerIsFull && !allIsFull) return;
    let spare = this.#holdings.spareOf(peer);
    if (spare === undefined && !peerIsFull) {
      spare = this.#holdings.spareOfGreediest(this.#oldestFirst());
    }
    if (spare === undefined) {
      this.#refused++;
      throw new SessionError(
        'capacity',
        peerIsFull
          ? `No session with ${peer}: it has ${this.#maxPerPeer}, all with calls; raise session.maxPerPeer if that is meant`
          : `No session with ${peer}: all ${this.#max} have calls; raise session.max or add replicas`,
      );
    }
    spare.end('evicted');
  }

  #makeOwner(maxConnections: number, now: number): SessionOwner & { coarseNow: number } {
    const clock = this.#clock;
    return {
      terms: this.#terms,
      maxConnections,
      coarseNow: now,
      monotonic: () => clock.monotonic(),
      wallNow: () => clock.now(),
      used: (session) => {
        this.#store.get(session.id);
        return ++this.#uses;
      },
      changed: (session, from, to, reason) => {
        if (to === 'active') this.#active.add(session);
        this.#emit({ type: 'stateChanged', session, from, to, ...(reason !== undefined && { reason }) });
      },
      draining: (session, reason, endsAt) => this.#emit({ type: 'draining', session, reason, endsAt }),
      ending: (session) => {
        this.#store.delete(session.id);
        this.#holdings.delete(session);
        this.#deadlines.delete(session);
        this.#active.delete(session);
      },
      ended: (session, reason) => {
        this.#closed[reason] = (this.#closed[reason] ?? 0) + 1;
        const { counters } = session;
        this.#emit({ type: 'disposed', session, reason, outcome: outcomeOf(reason), counters });
        if (this.state === 'shutdown' && this.#store.size === 0) this.#finish();
      },
      listenerFailed: (error) => this.#listenerFailed(error),
    };
  }

  #start(): void {
    this.#lifecycle.to('active');
    this.#freshNow();
    this.#sweepTimer = this.#clock.every(this.#sweepMs, () => this.#sweep());
  }

  #freshNow(): number {
    const now = this.#clock.monotonic();
    this.#owner.coarseNow = now;
    return now;
  }

  #sweep(): void {
    const now = this.#freshNow();
    const wallNow = this.#clock.now();
    for (const session of this.#active) {
      if (session.rest(this.#lastSweep)) this.#active.delete(session);
    }
    this.#lastSweep = now;
    const jumped = Math.abs(wallNow - now - this.#wallOffset) > CLOCK_JUMP_MS;
    if (jumped) this.#wallOffset = wallNow - now;
    const due = jumped ? this.list() : this.#deadlines.take(now);
    for (const session of due) {
      if (!session.isDisposed) this.#look(session, now, wallNow);
    }
    if (this.state === 'shutdown') {
      for (const session of this.list()) if (isQuiet(session)) session.end('shutdown');
    }
  }

  /** Ends or drains a session whose time has come, and sets when to look again. */
  #look(session: Session, now: number, wallNow: number): void {
    const end = session.endFrom(now, wallNow);
    if (end.inMs <= 0) {
      session.end(end.reason);
      return;
    }
    if (end.drainInMs <= 0) session.drain(end.reason, wallNow + end.inMs);
    if (session.isDisposed) return;
    // While calls are open, the idle part may begin at any moment and then takes idleMs less the grace period.
    const idleAtTheEarliest = session.isDraining ? this.#terms.idleMs : this.#terms.idleMs * (4 / 5);
    const lookIn = Math.min(session.isDraining ? end.inMs : end.drainInMs, idleAtTheEarliest);
    this.#deadlines.set(session, now + lookIn);
  }

  #cutWithin(ms: number): void {
    this.#clock.clear(this.#shutdownTimer);
    this.#shutdownTimer = this.#clock.after(ms, () => this.#cutAll());
  }

  #cutAll(): void {
    for (const session of this.list()) session.end('shutdown');
  }

  #finish(): void {
    if (this.state === 'disposed') return;
    this.#lifecycle.to('disposed');
    this.#clock.clear(this.#sweepTimer);
    this.#clock.clear(this.#shutdownTimer);
    this.#shutdownDone();
  }

  #emit(event: SessionEvent): void {
    try {
      this.#options.onEvent?.(event);
    } catch (error) {
      this.#listenerFailed(error);
    }
  }

  #listenerFailed(error: unknown): void {
    if (this.#options.onListenerError !== undefined) this.#options.onListenerError(error);
    else {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

/** Nobody would close its connections, and no call needs them. */
function isQuiet(session: Session): boolean {
  return session.openCalls === 0 && !session.hasDrainingListener;
}

function positive(name: string, value: number): number {
  if (Number.isFinite(value) && value > 0) return value;
  throw new SessionError('bad-option', `session.${name} must be greater than 0, not ${value}`);
}

function notNegative(name: string, value: number): number {
  if (Number.isFinite(value) && value >= 0) return value;
  throw new SessionError('bad-option', `session.${name} must not be negative, and is ${value}`);
}

function positiveInteger(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new SessionError('bad-option', `session.${name} must be a whole number from 1 on, not ${value}`);
}
