import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock/clock.ts';

const MAX_KEYS = 100_000;

/** So many uses of each key in a period, given back evenly. Of the keys, those that came longest ago are forgotten. */
export class Allowance {
  readonly #clock: Clock;
  readonly #uses: number;
  readonly #periodMs: number;
  /** When the key will have all of its uses again; monotonic. */
  readonly #fullAt: LRUCache<string, { at: number }>;

  constructor(clock: Clock, uses: number, periodMs: number, maxKeys = MAX_KEYS) {
    this.#clock = clock;
    this.#uses = uses;
    this.#periodMs = periodMs;
    this.#fullAt = new LRUCache({ max: maxKeys });
  }

  /** Uses one: 0, or how many milliseconds until there is one again. */
  use(key: string): number {
    const now = this.#clock.monotonic();
    const each = this.#periodMs / this.#uses;
    const state = this.#fullAt.get(key) ?? { at: now };
    const at = Math.max(state.at, now) + each;
    if (at - now > this.#periodMs) return Math.ceil(at - now - this.#periodMs);
    state.at = at;
    this.#fullAt.set(key, state);
    return 0;
  }
}
