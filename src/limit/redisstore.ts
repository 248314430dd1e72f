import { createRequire } from 'node:module';
import type { Redis } from 'ioredis';
import type { RateLimiterRes, RateLimiterRedis as RedisLimiter } from 'rate-limiter-flexible';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { LimitConfig } from '../config/config.ts';
import { type Grant, grant, limiterOptions, MemoryCounter, type WindowCounter } from './counter.ts';
import { LimitError } from './errors.ts';
import type { SharedStore, StoreChange } from './ratelimits.ts';
import { RedisUrl } from './redisurl.ts';

const require = createRequire(import.meta.url);
const RateLimiterRedis: typeof RedisLimiter = require('rate-limiter-flexible/lib/RateLimiterRedis.js');

export type ClientLoader = () => Promise<{ readonly Redis: typeof Redis }>;

export interface RedisStoreOptions {
  /** May hold a password: neither printed nor kept where it could be. */
  readonly url: string;
  /** Deadline of each question, in milliseconds. */
  readonly timeoutMs: number;
  readonly namespace: string;
  readonly limits: readonly LimitConfig[];
  readonly clock: Clock;
  readonly onStoreChange: (change: StoreChange) => void;
  /** Where the address was given, for messages; `limitStore.url` by default. */
  readonly setting?: string;
  /** How a question is counted, instead of the script below. */
  readonly script?: string;
  /** Loads the client; replaced in tests. */
  readonly load?: ClientLoader;
}

const PROBE_MS = 1_000;
const FIRST_CONNECTION_MS = 1_000;
const LONGEST_RECONNECT_MS = 2_000;
/** rate-limiter-flexible passes whole seconds to Redis by default, and 0 of them as "for ever". */
const SHORTEST_WINDOW_MS = 1_000;

/**
 * KEYS[1] the key, ARGV[1] points, ARGV[4] the window in seconds, maybe a fraction. The same as the library's own
 * script, to the millisecond.
 */
const CONSUME = `
local window = math.floor(tonumber(ARGV[4]) * 1000 + 0.5)
redis.call('set', KEYS[1], 0, 'PX', window, 'NX')
local consumed = redis.call('incrby', KEYS[1], ARGV[1])
local ttl = redis.call('pttl', KEYS[1])
if ttl == -1 then
  redis.call('pexpire', KEYS[1], window)
  ttl = window
end
return {consumed, ttl}
`;

/**
 * Counts in Redis, together with all sidecars of the same namespace. It counts as lost when a question fails or
 * takes longer than the deadline, or the connection closes; then each limit's insurance counts in memory, without
 * waiting for Redis, until a probe has counted there again.
 */
export class RedisStore implements SharedStore {
  readonly #options: RedisStoreOptions;
  readonly #url: RedisUrl;
  readonly #client: Redis;
  readonly #probe: RedisLimiter;
  #state: 'connecting' | 'up' | 'lost' | 'closed' = 'connecting';
  #clientError: string | undefined;
  #probing = false;
  #timer: TimerHandle | undefined;
  #settled: () => void = () => undefined;

  private constructor(options: RedisStoreOptions, url: RedisUrl, Client: typeof Redis) {
    this.#options = options;
    this.#url = url;
    this.#client = new Client(url.reveal(), {
      commandTimeout: options.timeoutMs,
      enableOfflineQueue: false,
      // An answer that comes after a reconnect is no use to a call.
      maxRetriesPerRequest: 0,
      connectTimeout: 5_000,
      connectionName: 'hauberk-limits',
      lazyConnect: true,
      retryStrategy: (attempt) => {
        const delay = Math.min(50 * 2 ** Math.min(attempt, 8), LONGEST_RECONNECT_MS);
        return delay / 2 + (Math.random() * delay) / 2;
      },
    });
    this.#probe = this.limiter({ maxRequests: Number.MAX_SAFE_INTEGER, windowMs: 1_000 }, 'probe');
    this.#client.on('error', (error: Error) => {
      this.#clientError = error.message || (error as NodeJS.ErrnoException).code || error.name;
    });
    this.#client.on('close', () => this.#lose(this.#clientError ?? 'the connection closed'));
    this.#client.on('ready', () => void this.#tryAgain());
  }

  /**
   * Resolves when Redis has counted once or counts as lost, after at most a second.
   * Throws LimitError `bad-store-url`, `bad-limit` or `redis-client-missing`.
   */
  static async open(options: RedisStoreOptions): Promise<RedisStore> {
    const url = new RedisUrl(options.url, options.setting);
    for (const limit of options.limits) check(limit, options.timeoutMs);
    const store = new RedisStore(options, url, await loadClient(options.load, options.setting));
    await store.#connect();
    return store;
  }

  get isLost(): boolean {
    return this.#state !== 'up';
  }

  counter(limit: LimitConfig): WindowCounter {
    return new RedisCounter(this, limit, (insurance) =>
      this.limiter(limit, `${limit.scope}:${limit.maxRequests}/${limit.windowMs}`, insurance),
    );
  }

  /** A question failed or was not answered in time. */
  questionFailed(): void {
    this.#lose(this.#clientError ?? `no answer within ${this.#options.timeoutMs} ms, or a refusal`);
  }

  close(): void {
    this.#state = 'closed';
    this.#options.clock.clear(this.#timer);
    this.#client.disconnect();
  }

  async #connect(): Promise<void> {
    const settled = new Promise<void>((resolve) => {
      this.#settled = resolve;
    });
    const { clock } = this.#options;
    const deadline = clock.after(FIRST_CONNECTION_MS, () =>
      this.#lose(`no connection within ${FIRST_CONNECTION_MS} ms`),
    );
    this.#timer = clock.every(PROBE_MS, () => void this.#tryAgain());
    // The reason arrives as an `error` event, with `close` after it.
    this.#client.connect().catch(() => undefined);
    await settled;
    clock.clear(deadline);
  }

  /** The library's limiter over this store's connection. */
  limiter(
    limit: Omit<LimitConfig, 'scope'>,
    name: string,
    insuranceLimiter?: MemoryCounter['limiter'],
  ): RedisLimiter {
    return new RateLimiterRedis({
      ...limiterOptions(limit),
      storeClient: this.#client,
      keyPrefix: `hauberk:${this.#options.namespace}:${name}`,
      customIncrTtlLuaScript: this.#options.script ?? CONSUME,
      rejectIfRedisNotReady: true,
      ...(insuranceLimiter !== undefined && { insuranceLimiter }),
    });
  }

  async #tryAgain(): Promise<void> {
    if (this.#state === 'up' || this.#state === 'closed' || this.#probing) return;
    if (this.#client.status !== 'ready') return;
    this.#probing = true;
    try {
      await grant(this.#probe.consume('', 1), 1, Number.MAX_SAFE_INTEGER);
      this.#restore();
    } catch (error) {
      this.#lose(error instanceof Error ? error.message : String(error));
    } finally {
      this.#probing = false;
    }
  }

  #restore(): void {
    // Closed, or lost again, while the probe was on its way.
    if (this.#client.status !== 'ready') return;
    const before = this.#state;
    this.#state = 'up';
    this.#clientError = undefined;
    this.#settled();
    if (before === 'lost') this.#tell('restored', `Limits are counted in ${this.#url} again`);
  }

  #lose(why: string): void {
    if (this.#state === 'lost' || this.#state === 'closed') return;
    this.#state = 'lost';
    this.#settled();
    // ioredis' own error would carry the arguments of AUTH.
    const error = new LimitError(
      'store-unavailable',
      this.#url.redact(`${this.#url} does not count (${why}); each replica counts for itself until it does`),
    );
    this.#tell('lost', error.message, error);
  }

  #tell(state: StoreChange['state'], detail: string, error?: LimitError): void {
    this.#options.onStoreChange({ store: 'redis', state, detail, ...(error !== undefined && { error }) });
  }
}

class RedisCounter implements WindowCounter {
  /** What one process held in reserve would be lost to the others. Calls that wait together ask together. */
  readonly block = 1;
  readonly #store: RedisStore;
  readonly #max: number;
  readonly #insurance: MemoryCounter;
  readonly #limiter: RedisLimiter;

  constructor(
    store: RedisStore,
    limit: LimitConfig,
    limiter: (insurance: MemoryCounter['limiter']) => RedisLimiter,
  ) {
    this.#store = store;
    this.#max = limit.maxRequests;
    this.#insurance = new MemoryCounter(limit);
    const insurance = this.#insurance.limiter;
    const consume = insurance.consume.bind(insurance);
    // The library hands a question's options on to the insurance: that is how a question learns who answered it.
    insurance.consume = (key, points, options?: Record<string, unknown>): Promise<RateLimiterRes> => {
      if (options !== undefined) options.insured = true;
      return consume(key, points, options);
    };
    this.#limiter = limiter(insurance);
  }

  async take(key: string, points: number): Promise<Grant> {
    if (this.#store.isLost) return this.#insurance.take(key, points);
    const question = { insured: false };
    const answer = await grant(this.#limiter.consume(key, points, question), points, this.#max);
    if (question.insured) this.#store.questionFailed();
    return answer;
  }

  /** Left to the window's end: other sidecars may be counting it. */
  forget(): void {}
}

async function loadClient(
  load: ClientLoader = () => import('ioredis'),
  setting?: string,
): Promise<typeof Redis> {
  try {
    return (await load()).Redis;
  } catch (cause) {
    throw new LimitError(
      'redis-client-missing',
      setting === undefined
        ? 'limitStore is of type redis, but the package ioredis cannot be loaded: npm install ioredis, or use type memory'
        : `${setting} is given, but the package ioredis cannot be loaded: npm install ioredis, or leave it out`,
      { cause },
    );
  }
}

function check(limit: LimitConfig, timeoutMs: number): void {
  if (limit.scope !== 'peer') return;
  if (limit.windowMs < SHORTEST_WINDOW_MS) {
    throw new LimitError(
      'bad-limit',
      `A peer limit that is counted in Redis needs a window of at least ${SHORTEST_WINDOW_MS} ms, not ${limit.windowMs} ms`,
    );
  }
  if (timeoutMs * 2 > limit.windowMs) {
    throw new LimitError(
      'bad-limit',
      `limitStore.timeout of ${timeoutMs} ms is more than half of a window of ${limit.windowMs} ms: shorten it or lengthen the window`,
    );
  }
}
