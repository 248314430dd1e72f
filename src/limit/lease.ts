import type { Clock } from '../clock/clock.ts';
import type { LimitConfig } from '../config/config.ts';
import type { Grant, WindowCounter } from './counter.ts';

/** `ready`: a call can be had now. `empty`: refill() and look again. `spent`: not before the window ends. */
export type LeaseStatus = 'ready' | 'empty' | 'spent';

/** A lease is refilled in the background once this share of a block is left. */
const LOW_SHARE = 1 / 4;

/**
 * The points of one limit that one key may use without asking the counter: taken in blocks, dying with their
 * window, so that the sum over a window stays exact. Once the counter has no more, the lease knows it and answers
 * by itself until the window ends.
 */
export class Lease {
  readonly limit: LimitConfig;
  readonly #key: string;
  readonly #counter: WindowCounter;
  readonly #clock: Clock;
  readonly #low: number;
  #points = 0;
  /** What the counter had left when it last answered. */
  #more = 0;
  #spent = false;
  /** Monotonic. */
  #endsAt = Number.NEGATIVE_INFINITY;
  #waiting = 0;
  #refill: Promise<void> | undefined;

  constructor(key: string, limit: LimitConfig, counter: WindowCounter, clock: Clock) {
    this.limit = limit;
    this.#key = key;
    this.#counter = counter;
    this.#clock = clock;
    this.#low = Math.floor(counter.block * LOW_SHARE);
  }

  /** Nothing would be lost with this lease. */
  isOver(now: number): boolean {
    return now >= this.#endsAt && this.#refill === undefined && this.#waiting === 0;
  }

  status(now: number): LeaseStatus {
    if (now >= this.#endsAt) {
      this.#points = 0;
      this.#spent = false;
      return 'empty';
    }
    if (this.#points > 0) return 'ready';
    return this.#spent ? 'spent' : 'empty';
  }

  /** Uses one point; status() has just said `ready`. */
  use(): void {
    this.#points--;
    if (this.#points === this.#low && this.#low > 0 && !this.#spent && this.#refill === undefined) {
      // A failure is met by the next call that has to wait.
      this.refill().catch(() => undefined);
    }
  }

  /** Calls that may still be made in the present window, as far as this process knows. */
  left(now: number): number {
    return now >= this.#endsAt ? this.limit.maxRequests : this.#points + this.#more;
  }

  /** Milliseconds until the window ends; 0 if none has begun. */
  msLeft(now: number): number {
    return Math.max(0, Math.ceil(this.#endsAt - now));
  }

  /** Milliseconds until the window ends. */
  retryAfterMs(now: number): number {
    return Math.max(1, Math.ceil(this.#endsAt - now));
  }

  /** Calls that wait say so, that one question to the counter may serve them all. */
  join(): void {
    this.#waiting++;
  }

  leave(): void {
    this.#waiting--;
  }

  /** Asks the counter for more; one question at a time. Rejects with the counter's error. */
  refill(): Promise<void> {
    this.#refill ??= this.#ask().finally(() => {
      this.#refill = undefined;
    });
    return this.#refill;
  }

  async #ask(): Promise<void> {
    // Whoever else comes in this turn is counted in.
    await undefined;
    const asked = Math.max(this.#counter.block, this.#waiting);
    const from = this.#clock.monotonic();
    this.#accept(await this.#counter.take(this.#key, asked), asked, from);
  }

  #accept(grant: Grant, asked: number, from: number): void {
    // The counter goes by the wall clock; were that set back, a window would seem to last for hours.
    const endsAt = from + Math.min(grant.msLeft, this.limit.windowMs);
    // Two answers about one window differ by a round trip, two windows by their length.
    const isNewWindow = endsAt > this.#endsAt + this.limit.windowMs / 2;
    this.#points = isNewWindow ? grant.points : this.#points + grant.points;
    this.#spent = grant.points < asked;
    this.#more = grant.left;
    this.#endsAt = endsAt;
  }
}
