import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { Use, UseTable } from './use.ts';

interface Window {
  used: number;
  /** Monotonic. */
  endsAt: number;
}

const SWEEP_MS = 10_000;

export interface WindowsOptions {
  readonly maxRequests: number;
  readonly windowMs: number;
  readonly clock: Clock;
  /** Keys that are followed at once; when there is no room for another, it is given nothing. */
  readonly maxKeys: number;
}

/** Fixed windows in memory by key, each beginning with its key's first use. Ended ones are swept out. */
export class Windows implements UseTable {
  readonly #options: WindowsOptions;
  readonly #byKey = new Map<string, Window>();
  #sweep: TimerHandle | undefined;

  constructor(options: WindowsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#byKey.size;
  }

  take(key: string, cost: number): Use {
    const { maxRequests, windowMs, clock } = this.#options;
    const now = clock.monotonic();
    let window = this.#byKey.get(key);
    if (window === undefined || now >= window.endsAt) {
      if (window === undefined && !this.#hasRoom(now)) {
        return { granted: false, used: maxRequests, msLeft: windowMs };
      }
      window = { used: 0, endsAt: now + windowMs };
      this.#byKey.set(key, window);
    }
    const granted = window.used + cost <= maxRequests;
    if (granted) window.used += cost;
    return { granted, used: window.used, msLeft: window.endsAt - now };
  }

  look(key: string): Use {
    const now = this.#options.clock.monotonic();
    const window = this.#byKey.get(key);
    if (window === undefined || now >= window.endsAt) return { granted: false, used: 0, msLeft: 0 };
    return { granted: false, used: window.used, msLeft: window.endsAt - now };
  }

  forget(key: string): void {
    this.#byKey.delete(key);
  }

  close(): void {
    this.#options.clock.clear(this.#sweep);
    this.#byKey.clear();
  }

  #hasRoom(now: number): boolean {
    this.#sweep ??= this.#options.clock.every(SWEEP_MS, () =>
      this.#forgetEnded(this.#options.clock.monotonic()),
    );
    if (this.#byKey.size >= this.#options.maxKeys) this.#forgetEnded(now);
    return this.#byKey.size < this.#options.maxKeys;
  }

  #forgetEnded(now: number): void {
    for (const [key, { endsAt }] of this.#byKey) if (now >= endsAt) this.#byKey.delete(key);
  }
}
