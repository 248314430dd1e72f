import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { Call, WaitingPlace } from './call.ts';
import { drainingError, type RelayError } from './errors.ts';
import { WaitingCalls } from './waitingcalls.ts';

export interface AnteroomOptions {
  readonly clock: Clock;
  /** Calls at the same time. */
  readonly max: number;
  /** How long a call waits in all, in milliseconds; undefined: as long as its caller does. */
  readonly waitMs: number | undefined;
  /** What they wait for, in the errors: `an address of greeter.shop`. */
  readonly what: string;
  /** For a call that has waited too long. */
  readonly late: (waitMs: number) => RelayError;
}

const SWEEP_MS = 1000;

/** Where calls wait until it is known where their service is at all. */
export class Anteroom implements WaitingPlace {
  readonly #options: AnteroomOptions;
  readonly #calls: WaitingCalls;
  #sweeper: TimerHandle | undefined;
  #closed = false;

  constructor(options: AnteroomOptions) {
    this.#options = options;
    this.#calls = new WaitingCalls(options.max, options.what);
  }

  get size(): number {
    return this.#calls.size;
  }

  has(call: Call): boolean {
    return this.#calls.has(call);
  }

  /** Takes a call in, or fails it. */
  enter(call: Call): boolean {
    const { clock } = this.#options;
    if (this.#closed) {
      call.fail(drainingError());
      return false;
    }
    if (!this.#calls.add(call)) return false;
    call.delayed = true;
    call.waitingAt = this;
    call.waitsSince ??= clock.monotonic();
    this.#sweeper ??= clock.every(SWEEP_MS, () => this.#failLate());
    return true;
  }

  leave(call: Call): void {
    this.#calls.delete(call);
    call.waitingAt = undefined;
    if (this.#calls.size > 0) return;
    this.#options.clock.clear(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** Everybody goes on, in the order of their coming. */
  open(go: (call: Call) => void): void {
    for (const call of [...this.#calls]) {
      if (!this.#calls.has(call)) continue;
      this.leave(call);
      go(call);
    }
  }

  #failLate(): void {
    const { waitMs, clock, late } = this.#options;
    if (waitMs === undefined) return;
    const since = clock.monotonic() - waitMs;
    for (const call of [...this.#calls]) {
      if (call.waitsSince === undefined || call.waitsSince > since) continue;
      this.leave(call);
      call.fail(late(waitMs));
    }
  }

  /** Takes no more calls, and fails those that wait. */
  close(): void {
    this.#closed = true;
    this.open((call) => call.fail(drainingError()));
  }
}
