import { RecordError, type RecordFlood } from './errors.ts';
import type { RecordLimits } from './limits.ts';

/** How many records of a kind that carries nothing may come in a time. */
export class RecordBudget {
  readonly #limits: Pick<RecordLimits, 'idleRecords' | 'idleWindowMs'>;
  readonly #flood: RecordFlood;
  readonly #monotonic: () => number;
  #count = 0;
  #since: number;

  /** `monotonic` gives milliseconds; it is asked only when as many have come as the time may bring. */
  constructor(
    flood: RecordFlood,
    limits: Pick<RecordLimits, 'idleRecords' | 'idleWindowMs'>,
    monotonic: () => number,
  ) {
    this.#flood = flood;
    this.#limits = limits;
    this.#monotonic = monotonic;
    this.#since = monotonic();
  }

  /** One has come; `what` names its like. Throws RecordError `flood`. */
  take(what: string): void {
    const { idleRecords, idleWindowMs } = this.#limits;
    if (++this.#count <= idleRecords) return;
    const now = this.#monotonic();
    if (now - this.#since < idleWindowMs) {
      const message = `More than ${idleRecords} ${what} in ${idleWindowMs} ms`;
      throw new RecordError('flood', message, { flood: this.#flood });
    }
    this.#since = now;
    this.#count = 1;
  }
}
