import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import { Histogram } from './series.ts';

const RESOLUTION_MS = 20;
const SAMPLE_MS = 1000;
const WINDOW = 15; // samples in `worstSeconds`
const LAG_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

/** Times between two firings of a timer since `reset`, in nanoseconds, the timer's own period included. */
export interface DelayMonitor {
  readonly max: number;
  /** NaN without a firing. */
  readonly mean: number;
  reset(): void;
  disable(): void;
}

function nodeMonitor(): DelayMonitor {
  const monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  monitor.enable();
  return {
    get max() {
      return monitor.max;
    },
    get mean() {
      return monitor.mean;
    },
    reset: () => monitor.reset(),
    disable: () => void monitor.disable(),
  };
}

/** How long the event loop kept its timers waiting: sampled once a second, the longest delay each time. */
export class EventLoopLag {
  /** All samples so far, in seconds. */
  readonly perSecond = new Histogram(LAG_BOUNDS);
  readonly #clock: Clock;
  readonly #monitor: DelayMonitor;
  readonly #timer: TimerHandle;
  readonly #recent: number[] = [];
  #currentMs = 0;

  /** Begins at once; `stop` ends it. */
  constructor(clock: Clock, monitor: DelayMonitor = nodeMonitor()) {
    this.#clock = clock;
    this.#monitor = monitor;
    this.#timer = clock.every(SAMPLE_MS, () => this.#sample());
  }

  /**
   * The mean delay in the last whole second, in milliseconds: what admission of handshakes goes by. Not the longest, for
   * one pause, such as a garbage collection's or a scrape's, would refuse all peers for a second.
   */
  get currentMs(): number {
    return this.#currentMs;
  }

  /** The longest delay in the last 15 seconds, in seconds. */
  get worstSeconds(): number {
    return Math.max(0, ...this.#recent);
  }

  stop(): void {
    this.#clock.clear(this.#timer);
    this.#monitor.disable();
  }

  #sample(): void {
    const { max, mean } = this.#monitor;
    const lag = Math.max(0, max / 1e6 - RESOLUTION_MS) / 1000;
    this.#currentMs = Math.max(0, (mean || 0) / 1e6 - RESOLUTION_MS);
    this.#monitor.reset();
    this.perSecond.observe(lag);
    this.#recent.push(lag);
    if (this.#recent.length > WINDOW) this.#recent.shift();
  }
}
