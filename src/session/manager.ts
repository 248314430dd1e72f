import { randomUUID } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import { Secret } from '../crypto/secret.ts';
import { Lifecycle } from '../lifecycle/lifecycle.ts';
import { SESSION_KEY_LENGTH, type SessionDetails, wrongArgument } from './details.ts';
import { DuplicateSessionError, ManagerShutDownError, SessionError } from './errors.ts';
import { outcomeOf, type SessionEvent, type SessionReason } from './event.ts';
import { Holdings } from './holdings.ts';
import { MANAGER_MACHINE, type ManagerState } from './lifecycle.ts';
import { Listeners, type SessionEventOf, type SessionEventType } from './listeners.ts';
import { type ManagerSettings, managerSettings, type SessionManagerOptions } from './options.ts';
import { ServiceIndex } from './serviceindex.ts';
import { Session } from './session.ts';
import type { SessionInit, SessionOwner } from './sessionowner.ts';
import { inSlices } from './slices.ts';
import { Sweep } from './sweep.ts';

/** What a session manager holds now, and what it has done since it was made. */
export interface SessionStats {
  /** Sessions that live. */
  readonly activeSessions: number;
  /** The most that may. */
  readonly maxSessions: number;
  /** The first divided by the second: 0 to 1. */
  readonly utilization: number;
  /** Peers that have a session. */
  readonly peers: number;
  /** Sessions that were made. */
  readonly created: number;
  /** Sessions for which there was no place. */
  readonly refused: number;
  /** Sessions that have ended, by reason. */
  readonly closed: Readonly<Partial<Record<SessionReason, number>>>;
}

/** How late a sweep may be at least, when the process gets no time. */
const SWEEP_LATE_MS = 60_000;

/**
 * All sessions of a sidecar, or of a program that embeds it: an expiring LRU with keys that are wiped on disposal.
 * Nothing is dropped silently: each end is an event with its reason.
 *
 * One timer serves all (Sweep).
 */
export class SessionManager implements AsyncDisposable {
  readonly #settings: ManagerSettings;
  readonly #clock: Clock;
  readonly #lifecycle = new Lifecycle<ManagerState>('The session manager', MANAGER_MACHINE, 'inactive');
  readonly #listeners: Listeners;
  readonly #listenerFailed: (error: unknown) => void;
  readonly #store: LRUCache<string, Session>;
  readonly #holdings = new Holdings();
  readonly #services = new ServiceIndex();
  readonly #sweep: Sweep;
  readonly #owner: SessionOwner & { coarseNow: number };
  readonly #closed: Partial<Record<SessionReason, number>> = {};
  /** Of sessions that have ended since the drain began. */
  readonly #keysToWipe: Secret[] = [];
  #ending = false;
  /** Sessions that nobody finds any more and that have not ended: barred ones. */
  #leaving = 0;
  #created = 0;
  #refused = 0;
  #ended = 0;
  #uses = 0;
  #sweepTimer: TimerHandle | undefined;
  #shutdownTimer: TimerHandle | undefined;
  #shutdown: Promise<void> | undefined;
  #allEnded: () => void = () => undefined;

  /** A number is the idle time to live in milliseconds. Throws SessionError `bad-option`. */
  constructor(options: number | SessionManagerOptions = {}) {
    const given = typeof options === 'number' ? { idleMs: options } : options;
    this.#settings = managerSettings(given);
    this.#clock = this.#settings.clock;
    this.#listenerFailed = given.onListenerError ?? rethrowLater;
    this.#listeners = new Listeners(given.onEvent, this.#listenerFailed);
    const now = this.#clock.monotonic();
    const { clock, terms, cleanupIntervalMs: intervalMs } = this.#settings;
    const all = (): Session[] => this.getSessionsByLastUsed();
    this.#sweep = new Sweep({ clock, terms, intervalMs, all }, now);
    this.#store = new LRUCache<string, Session>({
      max: this.#settings.max,
      // create() makes room first, so the cache never chooses by itself; if it did, that would be an end like any other.
      dispose: (session) => session.end('evicted'),
    });
    this.#owner = this.#makeOwner(now);
  }

  get state(): ManagerState {
    return this.#lifecycle.state;
  }

  /** Live sessions. */
  get size(): number {
    return this.#store.size;
  }

  /** Calls `listener` with each event of a type. Returns a function that removes it. */
  on<T extends SessionEventType>(type: T, listener: (event: SessionEventOf<T>) => void): () => void {
    return this.#listeners.add(type, listener);
  }

  // ---- making ---------------------------------------------------------------------------------------

  /**
   * A session with a service, over a connection that the program has made and keeps itself: it is `connected` at once.
   * `sessionKey` is 32 bytes: a Secret passes to the session, which wipes it at its end; bytes are copied and stay the
   * caller's to wipe. Throws as `create`.
   */
  createSession(
    serviceId: string,
    sessionKey: Secret | Uint8Array,
    metadata?: Readonly<Record<string, unknown>>,
    details: SessionDetails = {},
  ): Session {
    const { id = randomUUID() } = details;
    const wrong = wrongArgument(serviceId, sessionKey, id, details.notAfter);
    if (wrong !== undefined) {
      if (sessionKey instanceof Secret) sessionKey.wipe();
      throw new SessionError('bad-option', wrong);
    }
    const session = this.create({
      id,
      sessionKey: sessionKey instanceof Secret ? sessionKey : Secret.copyOf(sessionKey),
      peer: details.peer ?? serviceId,
      serviceId,
      direction: details.direction ?? 'outbound',
      postQuantum: details.postQuantum ?? false,
      notAfter: details.notAfter ?? Number.POSITIVE_INFINITY,
      metadata,
    });
    session.attach();
    return session;
  }

  /**
   * Admits a session whose handshake has succeeded; its connections are yet to be attached. When all places are taken,
   * the least recently used session without calls goes: first one of the same peer (where it has all its places at one
   * address: one there), else one of the peer that holds most.
   *
   * Throws ManagerShutDownError, DuplicateSessionError, or SessionError `already-expired`, `bad-option`, or `capacity`
   * when every session that might go has calls.
   */
  create(init: SessionInit): Session {
    try {
      this.#admit(init);
    } catch (error) {
      init.sessionKey.wipe();
      throw error;
    }
    if (this.state === 'inactive') this.#start();
    this.#freshNow();
    const session = new Session(init, this.#owner);
    session.touch();
    this.#store.set(session.id, session);
    this.#holdings.add(session);
    this.#services.add(session);
    this.#created++;
    this.#listeners.emit({ type: 'created', session });
    this.#sweep.look(session);
    return session;
  }

  // ---- finding --------------------------------------------------------------------------------------

  /** Finds a live session and slides its expiry. Throws ManagerShutDownError once the manager is disposed. */
  getSession(id: string): Session | undefined {
    this.#checkNotDisposed();
    const session = this.peek(id);
    session?.touch();
    return session;
  }

  /** Finds a live session and leaves its expiry and its place in the order of use alone. */
  peek(id: string): Session | undefined {
    return this.#alive(this.#store.peek(id));
  }

  /** The live session that was opened for a service and used last; slides nothing. Throws as `getSession`. */
  getSessionByServiceId(serviceId: string): Session | undefined {
    this.#checkNotDisposed();
    for (;;) {
      const found = this.#services.lastUsed(serviceId);
      const session = this.#alive(found);
      if (session !== undefined || found === undefined) return session;
    }
  }

  /** Every session, or those that `where` accepts, the least recently used first; those with calls are in use, so last. */
  getSessionsByLastUsed(where: (session: Session) => boolean = () => true): Session[] {
    const idle: Session[] = [];
    const busy: Session[] = [];
    for (const session of this.#oldestFirst()) {
      if (where(session)) (session.openCalls > 0 ? busy : idle).push(session);
    }
    return [...idle, ...busy];
  }

  /** Sessions without a call that have not been used for `thresholdMs`, the least recently used first. */
  getIdleSessions(thresholdMs: number): Session[] {
    const since = this.#freshNow() - thresholdMs;
    return this.getSessionsByLastUsed((session) => session.openCalls === 0 && session.usedBefore(since));
  }

  /** How many sessions there are, and what became of those that were. */
  getStats(): SessionStats {
    const { max } = this.#settings;
    return {
      activeSessions: this.#store.size,
      maxSessions: max,
      utilization: this.#store.size / max,
      peers: this.#holdings.peers,
      created: this.#created,
      refused: this.#refused,
      closed: { ...this.#closed },
    };
  }

  // ---- using ----------------------------------------------------------------------------------------

  /**
   * Runs `fn` as a call of the session: its expiry is slid before and after, its idle time does not run meanwhile, and it
   * is not evicted. What `fn` throws is counted among the session's errors and thrown.
   *
   * Rejects with SessionError `unknown-session`, ManagerShutDownError, or what a session that has never been connected
   * or rests throws.
   */
  async executeInSession<T>(id: string, fn: (session: Session) => T | Promise<T>): Promise<T> {
    if (this.state === 'shutdown') throw new ManagerShutDownError('No new call: sessions are being drained');
    const session = this.getSession(id);
    if (session === undefined) {
      throw new SessionError('unknown-session', `There is no session ${id}, or not any more`);
    }
    session.callStarted();
    try {
      return await fn(session);
    } catch (error) {
      session.counters.errors++;
      throw error;
    } finally {
      this.#freshNow();
      session.callEnded();
    }
  }

  // ---- ending ---------------------------------------------------------------------------------------

  /** Ends a session now. False if there is none. */
  invalidateSession(id: string, reason: SessionReason = 'revoked'): boolean {
    const session = this.#store.peek(id);
    session?.end(reason);
    return session !== undefined;
  }

  /** Ends the sessions that `where` accepts now; returns them. */
  invalidateSessions(where: (session: Session) => boolean, reason: SessionReason = 'revoked'): Session[] {
    const sessions = this.getSessionsByLastUsed(where);
    for (const session of sessions) session.end(reason);
    return sessions;
  }

  /** Looks at every session and ends those whose time has come; returns how many have ended. The timer does it by itself. */
  cleanupExpiredSessions(): number {
    const before = this.#ended;
    this.#sweep.runAtOnce(this.#freshNow());
    return this.#ended - before;
  }

  /**
   * The beginning of the end: drains all sessions, telling them that they will be cut at the deadline, and disposes those
   * at once that nobody would close. Refuses new ones from now on, unless `where` says that only some are drained.
   * `shutdown` comes after: until then the keys of sessions that end are kept.
   */
  drain(deadlineMs: number = this.#settings.terms.graceMs, where?: (session: Session) => boolean): void {
    if (this.state === 'shutdown' || this.state === 'disposed') return;
    this.#ending = true;
    if (where === undefined) this.#to('shutdown');
    const endsAt = this.#clock.now() + deadlineMs;
    inSlices(this.#clock, this.getSessionsByLastUsed(where), (session) => {
      session.drain('shutdown', Math.min(endsAt, session.expiresAt));
      endQuiet(session);
    });
  }

  /**
   * The end, in this order: refuses new sessions and drains all; disposes each once its connections have closed, or at
   * once if nobody listens for draining and it has no call, the rest at the deadline (default: the grace period); calls
   * `beforeWipe`, in which what was said is written down; wipes the keys. Resolves then, or rejects with what beforeWipe
   * threw. Calling it again with an earlier deadline brings the end forward.
   */
  shutdown(
    deadlineMs: number = this.#settings.terms.graceMs,
    beforeWipe?: () => Promise<void>,
  ): Promise<void> {
    this.#shutdown ??= this.#finish(beforeWipe);
    this.drain(deadlineMs);
    if (this.#isEmpty) this.#allEnded();
    else if (deadlineMs <= 0) this.#cutAll();
    else {
      this.#clock.clear(this.#shutdownTimer);
      this.#shutdownTimer = this.#clock.after(deadlineMs, () => this.#cutAll());
    }
    return this.#shutdown;
  }

  /** `shutdown`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  async #finish(beforeWipe: (() => Promise<void>) | undefined): Promise<void> {
    const release = this.#clock.hold();
    await new Promise<void>((resolve) => {
      this.#allEnded = resolve;
    });
    this.#clock.clear(this.#sweepTimer);
    this.#clock.clear(this.#shutdownTimer);
    try {
      await beforeWipe?.();
    } finally {
      for (const key of this.#keysToWipe.splice(0)) key.wipe();
      this.#to('disposed');
      release();
    }
  }

  #cutAll(): void {
    inSlices(this.#clock, this.getSessionsByLastUsed(), (session) => session.end('shutdown'));
  }

  // ---- inside ---------------------------------------------------------------------------------------

  /** None lives, and none is on its way out. */
  get #isEmpty(): boolean {
    return this.#store.size === 0 && this.#leaving === 0;
  }

  #checkNotDisposed(): void {
    if (this.state === 'disposed') throw new ManagerShutDownError('The session manager has been shut down');
  }

  #oldestFirst(): Iterable<Session> {
    // The cache's type allows for values that are still being fetched; there are none here.
    return this.#store.rvalues() as Iterable<Session>;
  }

  /** The session, unless its time is over: then it ends here. */
  #alive(session: Session | undefined): Session | undefined {
    if (session === undefined) return undefined;
    const end = session.endFrom(this.#freshNow(), this.#clock.now());
    if (end.inMs > 0) return session;
    session.end(end.reason);
    return undefined;
  }

  #admit(init: SessionInit): void {
    if (this.state === 'shutdown' || this.state === 'disposed') {
      throw new ManagerShutDownError('No new session: this sidecar is shutting down');
    }
    if (init.sessionKey.bytes.length !== SESSION_KEY_LENGTH) {
      throw new SessionError('bad-option', `A session key has ${SESSION_KEY_LENGTH} bytes`);
    }
    if (this.#store.has(init.id)) throw new DuplicateSessionError(`There is a session ${init.id} already`);
    if (init.notAfter <= this.#clock.now()) {
      throw new SessionError(
        'already-expired',
        `No session with ${init.peer}: a certificate of its handshake ended at ${new Date(init.notAfter).toISOString()}`,
      );
    }
    this.#makeRoom(init.peer, init.address ?? '');
  }

  #makeRoom(peer: string, address: string): void {
    const { max, maxPerPeer, peerShare } = this.#settings;
    const placeIsFull = this.#holdings.heldAt(peer, address) >= maxPerPeer;
    const shareIsFull = this.#holdings.heldBy(peer) >= peerShare;
    const peerIsFull = placeIsFull || shareIsFull;
    const allIsFull = this.#store.size >= max;
    if (!peerIsFull && !allIsFull) return;
    // Who has all its places at one address makes room there, not at those of others who share its identity.
    let spare = this.#holdings.spareOf(peer, placeIsFull ? address : undefined);
    if (spare === undefined && !peerIsFull) {
      spare = this.#holdings.spareOfGreediest(this.#oldestFirst());
    }
    if (spare === undefined) {
      this.#refused++;
      throw new SessionError(
        'capacity',
        peerIsFull
          ? `No session with ${peer}: it has ${placeIsFull ? `${maxPerPeer}${address && ` at ${address}`}` : peerShare}, all with calls; raise session.maxPerPeer if that is meant`
          : `No session with ${peer}: all ${max} have calls; raise session.max or add replicas`,
      );
    }
    spare.end('evicted');
  }

  #makeOwner(now: number): SessionOwner & { coarseNow: number } {
    const clock = this.#clock;
    const lifecycle = this.#lifecycle;
    return {
      get shutsDown() {
        return lifecycle.state === 'shutdown';
      },
      terms: this.#settings.terms,
      maxConnections: this.#settings.maxConnections,
      coarseNow: now,
      coarseLagMs: Math.max(SWEEP_LATE_MS, 2 * this.#settings.cleanupIntervalMs),
      monotonic: () => clock.monotonic(),
      wallNow: () => clock.now(),
      used: (session) => {
        this.#store.get(session.id);
        return ++this.#uses;
      },
      changed: (session, from, to, reason) => {
        if (to === 'active') this.#sweep.activated(session);
        this.#tellChange(session, from, to, reason);
      },
      aged: (session, reason) => this.#listeners.emit({ type: 'successorDue', session, reason }),
      draining: (session, reason, endsAt) =>
        this.#listeners.emit({ type: 'draining', session, reason, endsAt }),
      ending: (session, key) => {
        this.#store.delete(session.id);
        this.#holdings.delete(session);
        this.#services.delete(session);
        this.#sweep.forget(session);
        this.#leaving++;
        if (this.#ending) this.#keysToWipe.push(key);
        else key.wipe();
      },
      ended: (session, reason) => {
        this.#ended++;
        this.#leaving--;
        this.#closed[reason] = (this.#closed[reason] ?? 0) + 1;
        const { counters } = session;
        this.#listeners.emit({ type: 'disposed', session, reason, outcome: outcomeOf(reason), counters });
        if (this.#isEmpty) this.#allEnded();
      },
      listenerFailed: this.#listenerFailed,
    };
  }

  #tellChange(
    session: Session,
    from: Session['state'],
    to: Session['state'],
    reason: SessionReason | undefined,
  ): void {
    const change: SessionEvent = { type: 'stateChanged', session, from, to };
    this.#listeners.emit(reason === undefined ? change : { ...change, reason });
    if (to === 'connected') this.#listeners.emit({ type: 'connected', session });
    if (reason === undefined) return;
    if (to === 'disconnected') this.#listeners.emit({ type: 'disconnected', session, reason });
    else if (to === 'error') this.#listeners.emit({ type: 'error', session, reason });
  }

  #to(next: ManagerState): void {
    const from = this.#lifecycle.to(next);
    this.#listeners.emit({ type: 'managerStateChanged', from, to: next });
  }

  #start(): void {
    this.#to('active');
    this.#freshNow();
    this.#sweepTimer = this.#clock.every(this.#settings.cleanupIntervalMs, () => this.#sweepNow());
  }

  #freshNow(): number {
    const now = this.#clock.monotonic();
    this.#owner.coarseNow = now;
    return now;
  }

  /** What the timer does. */
  #sweepNow(): void {
    this.#sweep.run(this.#freshNow(), (done) => {
      const left = this.state === 'shutdown' ? this.getSessionsByLastUsed(isQuiet) : [];
      inSlices(this.#clock, left, endQuiet, done);
    });
  }
}

/** Nobody would close its connections, and no call needs them. */
function isQuiet(session: Session): boolean {
  return session.openCalls === 0 && !session.hasDrainingListener;
}

function endQuiet(session: Session): void {
  if (isQuiet(session)) session.end('shutdown');
}

function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
