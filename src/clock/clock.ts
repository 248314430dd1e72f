/** A handle that `Clock.clear` takes. */
export type TimerHandle = unknown;

/**
 * Time, injected. Everything in Hauberk that asks for the time or waits does it through a Clock, so that
 * tests can live through days in a millisecond.
 */
export interface Clock {
  /** Wall-clock milliseconds since the epoch, for timestamps and certificate validity. */
  now(): number;
  /** Monotonic milliseconds, for durations and deadlines. Never goes backwards. */
  monotonic(): number;
  /** Calls `run` once after `ms`. Does not keep the process alive. */
  after(ms: number, run: () => void): TimerHandle;
  /** Calls `run` every `ms`. Does not keep the process alive. */
  every(ms: number, run: () => void): TimerHandle;
  /** Ends a timer of `after` or `every`; nothing happens if there is none. */
  clear(handle: TimerHandle | undefined): void;
  /** Keeps the process alive, for whoever waits for what timers will do, until the function that is returned is called. */
  hold(): () => void;
}

/** The longest delay that setTimeout takes; anything above would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, run) => setTimeout(run, Math.min(Math.max(ms, 0), MAX_DELAY_MS)).unref(),
  every: (ms, run) => setInterval(run, Math.min(ms, MAX_DELAY_MS)).unref(),
  clear: (handle) => clearTimeout(handle as NodeJS.Timeout | undefined),
  hold: () => {
    const held = setInterval(() => undefined, MAX_DELAY_MS);
    return () => clearInterval(held);
  },
};
