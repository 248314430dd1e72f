import { createRequire } from 'node:module';
import type { RateLimiterMemory as MemoryLimiter, RateLimiterRes } from 'rate-limiter-flexible';
import type { LimitConfig } from '../config/config.ts';

// The package's index loads every backend it has, 9 MiB of them; these files are 1 MiB.
const require = createRequire(import.meta.url);
const RateLimiterMemory: typeof MemoryLimiter = require('rate-limiter-flexible/lib/RateLimiterMemory.js');

/** What a counter gave out of a key's present window. */
export interface Grant {
  /** From 0 to what was asked; fewer than asked means that the window has no more. */
  readonly points: number;
  /** Points that the window still has for the next question. */
  readonly left: number;
  /** What is left of the window, counted from some moment between asking and answering. */
  readonly msLeft: number;
}

/**
 * Counts one limit in fixed windows, each beginning with a key's first use. Points once given are used up, whether
 * or not calls are made with them. Never gives more than `maxRequests` in a window.
 */
export interface WindowCounter {
  /** How many points it is worth asking for at once. */
  readonly block: number;
  take(key: string, points: number): Promise<Grant>;
  /** Drops a key's window. */
  forget(key: string): void;
}

/** As rate-limiter-flexible wants it. */
export function limiterOptions(limit: Omit<LimitConfig, 'scope'>): {
  points: number;
  duration: number;
  keyPrefix: string;
} {
  return { points: limit.maxRequests, duration: limit.windowMs / 1_000, keyPrefix: '' };
}

/** Counts in this process; a window's memory is freed by a timer when it ends. */
export class MemoryCounter implements WindowCounter {
  /**
   * Nobody else takes points from these windows, so a block that is held in reserve is lost to no one. One read may
   * bring hundreds of calls, and the next block comes after it at the earliest.
   */
  readonly block: number = 1024;
  readonly limiter: MemoryLimiter;
  readonly #max: number;

  constructor(limit: LimitConfig) {
    this.#max = limit.maxRequests;
    this.limiter = new RateLimiterMemory(limiterOptions(limit));
  }

  take(key: string, points: number): Promise<Grant> {
    return grant(this.limiter.consume(key, points), points, this.#max);
  }

  forget(key: string): void {
    void this.limiter.delete(key);
  }
}

/**
 * Reads the answer of a limiter's consume(key, points), which rejects with its result when the window would be
 * overdrawn. The counter keeps counting beyond the limit, so each asker got the part of its interval that lies below.
 */
export async function grant(answer: Promise<RateLimiterRes>, points: number, max: number): Promise<Grant> {
  const result = await answer.catch((rejected: unknown) => {
    if (rejected instanceof Error) throw rejected;
    return rejected as RateLimiterRes;
  });
  const before = result.consumedPoints - points;
  const given = Math.min(Math.max(max - before, 0), points);
  return { points: given, left: Math.max(max - result.consumedPoints, 0), msLeft: result.msBeforeNext };
}
