import type { Clock, TimerHandle } from '../../src/clock/clock.ts';

interface Timer {
  at: number;
  period: number | undefined;
  run: () => void;
}

/** A clock that stands still until `advance` is called; timers fire in order of their time. */
export class FakeClock implements Clock {
  #elapsed = 0;
  readonly #start: number;
  readonly #timers = new Set<Timer>();

  constructor(start = Date.UTC(2026, 0, 1)) {
    this.#start = start;
  }

  now(): number {
    return this.#start + this.#elapsed;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  after(ms: number, run: () => void): TimerHandle {
    const timer: Timer = { at: this.#elapsed + Math.max(ms, 0), period: undefined, run };
    this.#timers.add(timer);
    return timer;
  }

  every(ms: number, run: () => void): TimerHandle {
    const timer: Timer = { at: this.#elapsed + ms, period: ms, run };
    this.#timers.add(timer);
    return timer;
  }

  clear(handle: TimerHandle | undefined): void {
    this.#timers.delete(handle as Timer);
  }

  /** How many timers are waiting. */
  get pending(): number {
    return this.#timers.size;
  }

  /** How many keep the process alive. */
  holds = 0;

  hold(): () => void {
    this.holds++;
    return () => void this.holds--;
  }

  /** What runs meanwhile may advance it further. */
  advance(ms: number): void {
    const end = this.#elapsed + ms;
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers) {
        if (timer.at <= end && (next === undefined || timer.at < next.at)) next = timer;
      }
      if (next === undefined) break;
      this.#elapsed = Math.max(this.#elapsed, next.at);
      if (next.period === undefined) this.#timers.delete(next);
      else next.at += next.period;
      next.run();
    }
    this.#elapsed = Math.max(this.#elapsed, end);
  }
}
