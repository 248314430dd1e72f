import type { Clock, TimerHandle } from '../clock/clock.ts';

const INTERVAL_MS = 1_000;

interface Tally {
  count: number;
  readonly timer: TimerHandle;
}

/**
 * Tells refusals by key: the first of a key at once, then how many more there were, once a second while there are any.
 * Whoever is refused for coming too often would otherwise fill the audit as fast as it can connect.
 */
export class RefusalTally {
  readonly #clock: Clock;
  readonly #byKey = new Map<string, Tally>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How many keys are counted. */
  get size(): number {
    return this.#byKey.size;
  }

  /** Counts one; `tell` is called with how many were refused, now and while more come. */
  add(key: string, tell: (count: number) => void): void {
    const tally = this.#byKey.get(key);
    if (tally !== undefined) {
      tally.count++;
      return;
    }
    tell(1);
    this.#await(key, tell);
  }

  #await(key: string, tell: (count: number) => void): void {
    const timer = this.#clock.every(INTERVAL_MS, () => {
      const tally = this.#byKey.get(key) as Tally;
      const { count } = tally;
      tally.count = 0;
      if (count > 0) tell(count);
      else this.#end(key, tally);
    });
    this.#byKey.set(key, { count: 0, timer });
  }

  #end(key: string, { timer }: Tally): void {
    this.#clock.clear(timer);
    this.#byKey.delete(key);
  }
}
