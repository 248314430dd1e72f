import type { RateLimiterRes } from 'rate-limiter-flexible';
import type { Clock } from '../clock/clock.ts';
import type { StoreChange } from './ratelimits.ts';
import { type ClientLoader, RedisStore } from './redisstore.ts';
import type { Use } from './use.ts';

export interface SharedUsesOptions {
  readonly url: string;
  readonly maxRequests: number;
  readonly windowMs: number;
  readonly timeoutMs: number;
  readonly namespace: string;
  readonly clock: Clock;
  readonly onStoreChange: (change: StoreChange) => void;
  readonly load?: ClientLoader;
}

/**
 * KEYS[1] the key, ARGV[1] the cost, ARGV[3] points a window, ARGV[4] the window in seconds, maybe a fraction. Counts the
 * request if the window has so much left. A request that is denied is answered with what it would have come to,
 * which is above the limit.
 */
const TAKE = `
local window = math.floor(tonumber(ARGV[4]) * 1000 + 0.5)
redis.call('set', KEYS[1], 0, 'PX', window, 'NX')
local ttl = redis.call('pttl', KEYS[1])
if ttl == -1 then
  redis.call('pexpire', KEYS[1], window)
  ttl = window
end
local after = tonumber(redis.call('get', KEYS[1])) + tonumber(ARGV[1])
if after <= tonumber(ARGV[3]) then redis.call('incrby', KEYS[1], ARGV[1]) end
return {after, ttl}
`;

/** Counts one limit in Redis. While that is lost nothing is answered: each process counts for itself. */
export class SharedUses {
  readonly #store: RedisStore;
  readonly #limiter: ReturnType<RedisStore['limiter']>;
  readonly #max: number;

  private constructor(store: RedisStore, { maxRequests, windowMs }: SharedUsesOptions) {
    this.#store = store;
    this.#max = maxRequests;
    this.#limiter = store.limiter({ maxRequests, windowMs }, `limiter:${maxRequests}/${windowMs}`);
  }

  /** Throws as RedisStore.open. */
  static async open(options: SharedUsesOptions): Promise<SharedUses> {
    return new SharedUses(
      await RedisStore.open({ ...options, limits: [], setting: 'The option redis', script: TAKE }),
      options,
    );
  }

  take(key: string, cost: number): Promise<Use | undefined> {
    return this.#ask(async () => {
      const result = await this.#limiter.consume(key, cost).catch((denied: unknown) => {
        if (denied instanceof Error) throw denied;
        return denied as RateLimiterRes;
      });
      const granted = result.consumedPoints <= this.#max;
      const used = granted ? result.consumedPoints : result.consumedPoints - cost;
      return { granted, used, msLeft: result.msBeforeNext };
    });
  }

  look(key: string): Promise<Use | undefined> {
    return this.#ask(async () => {
      const result = await this.#limiter.get(key);
      return { granted: false, used: result?.consumedPoints ?? 0, msLeft: result?.msBeforeNext ?? 0 };
    });
  }

  async forget(key: string): Promise<void> {
    await this.#ask(() => this.#limiter.delete(key));
  }

  close(): void {
    this.#store.close();
  }

  /** Undefined if Redis did not answer, or is known not to. */
  async #ask<T>(question: () => Promise<T>): Promise<T | undefined> {
    if (this.#store.isLost) return undefined;
    try {
      return await question();
    } catch {
      this.#store.questionFailed();
      return undefined;
    }
  }
}
