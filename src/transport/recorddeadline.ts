import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { RecordReader } from './record.ts';

/** Sees to it that a record that has begun completes in time: one timer at a time, whatever the number of records. */
export class RecordDeadline {
  readonly #reader: RecordReader;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #onLate: () => void;
  #timer: TimerHandle;
  /** The reader's number of the record, and since when it is known. */
  #waiting = 0;
  #since = 0;

  constructor(reader: RecordReader, clock: Clock, timeoutMs: number, onLate: () => void) {
    this.#reader = reader;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#onLate = onLate;
  }

  /** To be called when something has been read. */
  watch(): void {
    const waiting = this.#reader.waiting;
    if (waiting === 0 || waiting === this.#waiting) return;
    this.#waiting = waiting;
    this.#since = this.#clock.monotonic();
    this.#timer ??= this.#clock.after(this.#timeoutMs, this.#look);
  }

  stop(): void {
    this.#clock.clear(this.#timer);
  }

  readonly #look = (): void => {
    this.#timer = undefined;
    if (this.#reader.waiting === 0) return;
    const left = this.#since + this.#timeoutMs - this.#clock.monotonic();
    if (left > 0) this.#timer = this.#clock.after(left, this.#look);
    else this.#onLate();
  };
}
