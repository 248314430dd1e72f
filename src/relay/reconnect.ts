import type { Clock, TimerHandle } from '../clock/clock.ts';

/** Times in milliseconds. */
export interface ReconnectPolicy {
  /** The pause after the first failed dial is drawn from [0, backoffMs), after the next from twice that, ... */
  readonly backoffMs: number;
  /** ... up to [0, maxBackoffMs). */
  readonly maxBackoffMs: number;
  /** Failures in a row until the other end counts as down; 0: it never does, and nothing is dialled without a call. */
  readonly maxAttempts: number;
  /** While it is down it is dialled once in this time, give or take half, and not for calls. */
  readonly healthCheckMs: number;
}

/** What apps get: dialled for calls only, never given up. */
export const DIAL_FOR_CALLS: ReconnectPolicy = {
  backoffMs: 200,
  maxBackoffMs: 10_000,
  maxAttempts: 0,
  healthCheckMs: 10_000,
};

export interface ReconnectOptions {
  readonly clock: Clock;
  readonly policy: ReconnectPolicy;
  /** In [0, 1): the jitter. */
  readonly random: () => number;
  /** It is time for a dial that no call asks for. */
  readonly dial: () => void;
}

/**
 * When to dial an endpoint again: exponential backoff with full jitter, so that the many clients of a server that
 * comes back do not come at once.
 *
 *     up --lost--> coming back --failed maxAttempts times--> down --health checks--> up
 *     new --failed--> backed off (for calls only) --failed maxAttempts times--> down
 */
export class Reconnect {
  readonly #options: ReconnectOptions;
  #failures = 0;
  #retryAt = 0;
  /** A connection was lost that nobody meant to end: it is dialled again, also without a call. */
  #comingBack = false;
  #timer: TimerHandle | undefined;
  #stopped = false;

  constructor(options: ReconnectOptions) {
    this.#options = options;
  }

  /** Dials that failed in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** A call may dial now. */
  get mayDial(): boolean {
    return this.#options.clock.monotonic() >= this.#retryAt;
  }

  /** Nothing has failed since it was last seen well. */
  get isSound(): boolean {
    return this.#failures === 0 && !this.#comingBack;
  }

  /** Given up, but for the health checks. */
  get isDown(): boolean {
    const { maxAttempts } = this.#options.policy;
    return maxAttempts > 0 && this.#failures >= maxAttempts;
  }

  /** A connection that was in use is gone, and nobody meant it to end. */
  lost(): void {
    if (this.#stopped || this.#options.policy.maxAttempts === 0) return;
    this.#comingBack = true;
    this.#schedule(this.#options.random() * this.#options.policy.backoffMs);
  }

  failed(): void {
    const { policy, clock, random } = this.#options;
    this.#failures++;
    const { backoffMs, maxBackoffMs, healthCheckMs } = policy;
    const span = Math.min(maxBackoffMs, backoffMs * 2 ** Math.min(this.#failures - 1, 30));
    const pause = this.isDown ? healthCheckMs * (0.5 + random()) : random() * span;
    this.#retryAt = clock.monotonic() + pause;
    if (this.#comingBack || this.isDown) this.#schedule(pause);
  }

  /** It has been seen to accept connections. */
  succeeded(): void {
    this.#failures = 0;
    this.#retryAt = 0;
    this.#comingBack = false;
    this.#options.clock.clear(this.#timer);
    this.#timer = undefined;
  }

  /** What made it fail is over: it is dialled at once where it would have been dialled later, and calls may dial. */
  retryNow(): void {
    this.#retryAt = 0;
    if (this.#timer !== undefined) this.#schedule(0);
  }

  stop(): void {
    this.#stopped = true;
    this.succeeded();
  }

  #schedule(ms: number): void {
    if (this.#stopped) return;
    const { clock, dial } = this.#options;
    clock.clear(this.#timer);
    this.#timer = clock.after(ms, () => {
      this.#timer = undefined;
      dial();
    });
  }
}
