import { type Clock, systemClock } from '../clock/clock.ts';
import { LimitError } from './errors.ts';
import { SHORTEST_WINDOW_MS, wrongLimit } from './range.ts';
import type { StoreChange } from './ratelimits.ts';
import { RedisUrl } from './redisurl.ts';
import type { SharedUses } from './shareduses.ts';
import type { Use } from './use.ts';
import { Windows } from './windows.ts';

/** What a {@link RateLimiter} allows, and where it counts. Times in milliseconds. */
export interface RateLimiterOptions {
  /** Requests a key may make in a window: a whole number from 1 on. */
  readonly maxRequests: number;
  /** How long a window lasts, from a key's first request on: 100 ms (with Redis 1 s) to 24 days. */
  readonly windowMs: number;
  /**
   * `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS: limiters with the same address, keyPrefix,
   * maxRequests and windowMs share one count. Needs the package ioredis. Left out: counted in this process.
   */
  readonly redis?: string;
  /** Tells apart limiters that use one Redis. Default `default`. */
  readonly keyPrefix?: string;
  /** How long a question to Redis may take; then this process counts by itself. Default 100 ms. */
  readonly redisTimeoutMs?: number;
  /** Keys that this process follows at once; a request of one more is denied. Default 100,000. */
  readonly maxKeys?: number;
  /** Redis was lost, and each process counts for itself, or it is back. */
  readonly onStoreChange?: (change: StoreChange) => void;
  /** Where the time comes from, for tests. Default: the real one. */
  readonly clock?: Clock;
}

/** The answer to one request, and how its key stands after it. Times in milliseconds. */
export interface RateLimitResult {
  /** Of `consume`: the request was counted. Of `peek`: a request that costs 1 would be. */
  readonly allowed: boolean;
  /** What the key may still use in this window. */
  readonly remaining: number;
  /** 0 if allowed, else how long until the window ends: at least 1. */
  readonly retryAfterMs: number;
  /** How long until the window ends; 0 if the key has none. */
  readonly resetMs: number;
  /** The limiter's maxRequests. */
  readonly limit: number;
  /** The limiter's windowMs. */
  readonly windowMs: number;
}

const LONGEST_KEY = 2_048;
const SHORTEST_REDIS_WINDOW_MS = 1_000;

/**
 * Holds keys (a user, a tenant, a peer's SPIFFE ID) to a number of requests in a window of time. A window is fixed and
 * begins with a key's first request. A request is counted whole or not at all: one that is denied uses nothing up.
 *
 * In memory it answers in the same turn of the event loop. With `redis`, all processes of the same limit count together,
 * exactly; while Redis cannot be asked each counts for itself in memory, and no request waits longer than
 * `redisTimeoutMs`.
 */
export class RateLimiter implements AsyncDisposable {
  readonly #options: RateLimiterOptions;
  readonly #clock: Clock;
  readonly #own: Windows;
  #shared: Promise<SharedUses> | undefined;
  #isClosed = false;

  /** Throws LimitError `bad-limit` or `bad-store-url`. Redis is connected to by the first request. */
  constructor(options: RateLimiterOptions) {
    const {
      maxRequests,
      windowMs,
      redis,
      maxKeys = 100_000,
      redisTimeoutMs = 100,
      keyPrefix,
    } = options ?? {};
    check({ maxRequests, windowMs }, redis !== undefined);
    if (!Number.isSafeInteger(maxKeys) || maxKeys < 1) {
      throw bad(`maxKeys must be a whole number from 1 on, not ${shown(maxKeys)}`);
    }
    if (keyPrefix !== undefined && (typeof keyPrefix !== 'string' || keyPrefix === '')) {
      throw bad('keyPrefix must be a text that is not empty; leave it out for the default');
    }
    if (redis !== undefined) {
      // A question that may take longer than half a window tells of a window that is over.
      if (!(redisTimeoutMs > 0 && redisTimeoutMs <= windowMs / 2)) {
        throw bad(
          `redisTimeoutMs must be above 0 and at most half of windowMs, not ${shown(redisTimeoutMs)}`,
        );
      }
      new RedisUrl(redis, 'The option redis');
    }
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#own = new Windows({ maxRequests, windowMs, clock: this.#clock, maxKeys });
  }

  /**
   * Counts a request of `key` that costs `cost` (a whole number from 1 to maxRequests), if the window has so much left.
   *
   * Rejects with LimitError `bad-request` for a key or cost that cannot be counted, `closed`, or, with `redis`,
   * `redis-client-missing`. That Redis is away is no error.
   */
  async consume(key: string, cost = 1): Promise<RateLimitResult> {
    this.#check(key);
    const { maxRequests } = this.#options;
    if (!Number.isSafeInteger(cost) || cost < 1 || cost > maxRequests) {
      throw new LimitError(
        'bad-request',
        `A request must cost a whole number from 1 to ${maxRequests}, all that a window has, not ${shown(cost)}`,
      );
    }
    if (this.#options.redis === undefined) return this.#result(this.#own.take(key, cost));
    const shared = await this.#connected();
    const use = await shared.take(key, cost);
    return this.#result(use ?? this.#own.take(key, cost));
  }

  /** How a key stands, counting nothing. Rejects as `consume`. */
  async peek(key: string): Promise<RateLimitResult> {
    this.#check(key);
    const shared = this.#options.redis === undefined ? undefined : await this.#connected();
    const use = (await shared?.look(key)) ?? this.#own.look(key);
    return this.#result({ ...use, granted: use.used < this.#options.maxRequests });
  }

  /** Ends a key's window, such as after a login that has succeeded. Rejects as `consume`. */
  async reset(key: string): Promise<void> {
    this.#check(key);
    this.#own.forget(key);
    if (this.#options.redis !== undefined) await (await this.#connected()).forget(key);
  }

  /** Ends the connection to Redis and forgets every key of this process. What is used afterwards rejects with `closed`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#own.close();
    const shared = this.#shared;
    this.#shared = undefined;
    // Whoever waited for the connection has been told why there was none.
    await shared?.then(
      (store) => store.close(),
      () => undefined,
    );
  }

  /** `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #check(key: string): void {
    if (this.#isClosed) throw closed();
    if (typeof key !== 'string' || key === '' || key.length > LONGEST_KEY) {
      throw new LimitError(
        'bad-request',
        `A key must be a text of 1 to ${LONGEST_KEY} characters, not ${
          typeof key === 'string' ? `one of ${key.length}` : shown(key)
        }`,
      );
    }
  }

  /** The one connection of this limiter. A client that could not be loaded is looked for again by the next request. */
  async #connected(): Promise<SharedUses> {
    this.#shared ??= this.#connect();
    const connecting = this.#shared;
    try {
      const shared = await connecting;
      if (this.#isClosed) throw closed();
      return shared;
    } catch (error) {
      if (this.#shared === connecting) this.#shared = undefined;
      throw error;
    }
  }

  async #connect(): Promise<SharedUses> {
    const { maxRequests, windowMs, redis, keyPrefix, redisTimeoutMs, onStoreChange } = this.#options;
    const { SharedUses } = await import('./shareduses.ts');
    return SharedUses.open({
      url: redis as string,
      maxRequests,
      windowMs,
      timeoutMs: redisTimeoutMs ?? 100,
      namespace: keyPrefix ?? 'default',
      clock: this.#clock,
      onStoreChange: onStoreChange ?? (() => undefined),
    });
  }

  #result({ granted, used, msLeft }: Use): RateLimitResult {
    const { maxRequests, windowMs } = this.#options;
    // A Redis whose clock was set may answer with any time.
    const resetMs = Math.ceil(Math.min(Math.max(msLeft, 0), windowMs));
    return {
      allowed: granted,
      remaining: Math.max(maxRequests - used, 0),
      retryAfterMs: granted ? 0 : Math.max(resetMs, 1),
      resetMs,
      limit: maxRequests,
      windowMs,
    };
  }
}

function check(limit: { readonly maxRequests: number; readonly windowMs: number }, isShared: boolean): void {
  const wrong = wrongLimit(limit);
  if (wrong === 'maxRequests') {
    throw bad(`maxRequests must be a whole number from 1 on, not ${shown(limit.maxRequests)}`);
  }
  const shortest = isShared ? SHORTEST_REDIS_WINDOW_MS : SHORTEST_WINDOW_MS;
  if (wrong === 'windowMs' || limit.windowMs < shortest) {
    throw bad(
      `windowMs must be a number of milliseconds from ${shortest}${isShared ? ' (with redis)' : ''} to 24 days, not ${shown(limit.windowMs)}`,
    );
  }
}

function bad(what: string): LimitError {
  return new LimitError('bad-limit', `new RateLimiter(options): ${what}`);
}

function closed(): LimitError {
  return new LimitError('closed', 'This RateLimiter is closed; make a new one');
}

/** A value of which only the kind is known, for a message. */
function shown(value: unknown): string {
  return typeof value === 'number' || value === undefined || value === null
    ? String(value)
    : `a ${typeof value}`;
}
