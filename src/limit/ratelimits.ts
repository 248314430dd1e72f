import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { LimitConfig, LimitStoreConfig } from '../config/config.ts';
import { MemoryCounter, type WindowCounter } from './counter.ts';
import { LimitError } from './errors.ts';
import type { Lease } from './lease.ts';
import { LeaseTable } from './leasetable.ts';
import { SHORTEST_WINDOW_MS, wrongLimit } from './range.ts';
import { ALLOWED, type Denied, type LimitScope, type Verdict } from './verdict.ts';

/** A store other than memory came or went. Until it is restored, limits are counted in this process alone. */
export interface StoreChange {
  readonly store: 'redis';
  readonly state: 'lost' | 'restored';
  /** For people; without secrets. */
  readonly detail: string;
  /** When it was lost. */
  readonly error?: LimitError;
}

/** Where limits are counted that a sidecar shares with its replicas. */
export interface SharedStore {
  counter(limit: LimitConfig): WindowCounter;
  close(): void;
}

export interface RateLimitsOptions {
  readonly limits: readonly LimitConfig[];
  readonly clock: Clock;
  /** Counts the limits of scope peer; memory by default. Closed with the limits. */
  readonly store?: SharedStore | undefined;
  /** Keys a scope that are followed at once; a call for one more is denied. Default 100,000. */
  readonly maxKeys?: number;
}

export interface OpenOptions {
  readonly limits: readonly LimitConfig[];
  readonly clock: Clock;
  readonly store: LimitStoreConfig;
  /** Sidecars that count together: the SPIFFE ID of this one, which its replicas share. */
  readonly namespace: string;
  readonly onStoreChange: (change: StoreChange) => void;
}

/** What one limit leaves to whom it is asked for. */
export interface LimitStatus {
  readonly scope: LimitScope;
  readonly maxRequests: number;
  readonly windowMs: number;
  /** Calls that it still allows in the present window. */
  readonly remaining: number;
  /** Milliseconds until all of them are allowed again; 0 if none has been used. */
  readonly resetMs: number;
}

const SWEEP_MS = 10_000;

/**
 * Holds calls to fixed windows, for each session and for each peer. A peer's windows outlive its sessions, so fresh
 * handshakes gain it nothing.
 *
 * All or nothing: a call is counted by every limit if all allow it, and by none if one denies it. (A block that a
 * lease has taken from a shared store is used up there even if this process does not come to use it.)
 *
 * A session lives in one sidecar, so its limits are counted in memory, whatever the store.
 */
export class RateLimits {
  readonly #clock: Clock;
  readonly #store: SharedStore | undefined;
  readonly #sessions: LeaseTable;
  readonly #peers: LeaseTable;
  readonly #isUnlimited: boolean;
  readonly #sweep: TimerHandle | undefined;

  /** Throws LimitError `bad-limit`. */
  constructor(options: RateLimitsOptions) {
    const { clock, limits, store, maxKeys = 100_000 } = options;
    for (const limit of limits) check(limit);
    const table = (scope: LimitScope, counter: (limit: LimitConfig) => WindowCounter) => {
      const own = limits.filter((limit) => limit.scope === scope);
      return new LeaseTable(own, own.map(counter), clock, maxKeys);
    };
    const inMemory = (limit: LimitConfig) => new MemoryCounter(limit);
    this.#clock = clock;
    this.#store = store;
    this.#sessions = table('session', inMemory);
    this.#peers = table('peer', store === undefined ? inMemory : (limit) => store.counter(limit));
    this.#isUnlimited = limits.length === 0;
    if (!this.#isUnlimited) this.#sweep = clock.every(SWEEP_MS, () => this.#forgetEnded());
  }

  /**
   * Counts one call. Answers at once, and allocates nothing when it allows, unless a block of points has to be
   * fetched first: for a key's first call in a window, and for each call if another store than memory counts.
   * The promise never rejects, unless a counter has a bug.
   */
  admit(sessionId: string, peer: string): Verdict | Promise<Verdict> {
    if (this.#isUnlimited) return ALLOWED;
    const now = this.#clock.monotonic();
    const session = this.#sessions.of(sessionId, now);
    if (session === undefined) return noRoom(this.#sessions);
    const ofPeer = this.#peers.of(peer, now);
    if (ofPeer === undefined) return noRoom(this.#peers);

    let isReady = true;
    for (let i = 0; i < session.length; i++) {
      const status = session[i]!.status(now);
      if (status === 'spent') return denied(session, ofPeer, now);
      if (status === 'empty') isReady = false;
    }
    for (let i = 0; i < ofPeer.length; i++) {
      const status = ofPeer[i]!.status(now);
      if (status === 'spent') return denied(session, ofPeer, now);
      if (status === 'empty') isReady = false;
    }
    if (!isReady) return this.#admitLater(session, ofPeer);
    for (let i = 0; i < session.length; i++) session[i]!.use();
    for (let i = 0; i < ofPeer.length; i++) ofPeer[i]!.use();
    return ALLOWED;
  }

  /**
   * What is left of each limit, those of scope session first; nothing is counted. Of a limit that replicas share it is
   * what the store said last, so that others may have used some of it since.
   */
  status(sessionId: string, peer: string): LimitStatus[] {
    const now = this.#clock.monotonic();
    return [...statusOf(this.#sessions, sessionId, now), ...statusOf(this.#peers, peer, now)];
  }

  /** A session has ended: forgets what it used. Its peer's windows stay. */
  release(sessionId: string): void {
    this.#sessions.forget(sessionId);
  }

  /** How many keys are followed. */
  stats(): { readonly sessions: number; readonly peers: number } {
    return { sessions: this.#sessions.size, peers: this.#peers.size };
  }

  close(): void {
    this.#clock.clear(this.#sweep);
    this.#store?.close();
  }

  async #admitLater(session: readonly Lease[], ofPeer: readonly Lease[]): Promise<Verdict> {
    const leases = [...session, ...ofPeer];
    for (const lease of leases) lease.join();
    try {
      for (;;) {
        const now = this.#clock.monotonic();
        const states = leases.map((lease) => lease.status(now));
        if (states.includes('spent')) return denied(session, ofPeer, now);
        const empty = leases.filter((_lease, index) => states[index] === 'empty');
        if (empty.length === 0) {
          for (const lease of leases) lease.use();
          return ALLOWED;
        }
        await Promise.all(empty.map((lease) => lease.refill()));
      }
    } finally {
      for (const lease of leases) lease.leave();
    }
  }

  #forgetEnded(): void {
    const now = this.#clock.monotonic();
    this.#sessions.sweep(now);
    this.#peers.sweep(now);
  }
}

/**
 * Limits with the store of the configuration. A Redis that cannot be reached stops nothing: the limits count in
 * memory and say so through onStoreChange, now and whenever that changes.
 *
 * Throws LimitError `bad-limit`, `bad-store-url` or `redis-client-missing`.
 */
export async function openRateLimits(options: OpenOptions): Promise<RateLimits> {
  const { limits, clock, store } = options;
  for (const limit of limits) check(limit);
  if (store.type === 'memory') return new RateLimits({ limits, clock });
  const { RedisStore } = await import('./redisstore.ts');
  return new RateLimits({ limits, clock, store: await RedisStore.open({ ...options, ...store }) });
}

function check(limit: LimitConfig): void {
  const wrong = wrongLimit(limit);
  if (wrong === 'maxRequests') {
    throw new LimitError(
      'bad-limit',
      `A ${limit.scope} limit must allow a whole number of requests from 1 on, not ${limit.maxRequests}; to allow none, deny the method in ingress.allow`,
    );
  }
  if (wrong === 'windowMs') {
    throw new LimitError(
      'bad-limit',
      `A ${limit.scope} limit's window must be from ${SHORTEST_WINDOW_MS} ms to 24 days, not ${limit.windowMs} ms`,
    );
  }
}

function statusOf(table: LeaseTable, key: string, now: number): LimitStatus[] {
  const leases = table.peek(key);
  return table.limits.map(({ scope, maxRequests, windowMs }, at) => ({
    scope,
    maxRequests,
    windowMs,
    remaining: leases?.[at]?.left(now) ?? maxRequests,
    resetMs: leases?.[at]?.msLeft(now) ?? 0,
  }));
}

/** The denial that lasts longest, so that whoever waits for it is not denied by the other. */
function denied(session: readonly Lease[], ofPeer: readonly Lease[], now: number): Denied {
  let retryAfterMs = 0;
  let limit: LimitConfig | undefined;
  for (const leases of [session, ofPeer]) {
    for (const lease of leases) {
      if (lease.status(now) !== 'spent' || lease.retryAfterMs(now) <= retryAfterMs) continue;
      retryAfterMs = lease.retryAfterMs(now);
      limit = lease.limit;
    }
  }
  return verdict(limit as LimitConfig, retryAfterMs);
}

function noRoom(table: LeaseTable): Denied {
  const limit = table.limits[0] as LimitConfig;
  return verdict(limit, limit.windowMs);
}

function verdict(limit: LimitConfig, retryAfterMs: number): Denied {
  const { scope, maxRequests, windowMs } = limit;
  return { allowed: false, scope, limit: maxRequests, windowMs, retryAfterMs };
}
