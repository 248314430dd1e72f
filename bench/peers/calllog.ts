import { closeSync, openSync, readSync, truncateSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { BenchError } from './errors.ts';

const MARK = Buffer.from('"call.completed"');
const CHUNK = Buffer.allocUnsafeSlow(2 ** 20);
const WAIT_MS = 5_000;
const POLL_MS = 10;

/**
 * Waits until each file tells of so many calls, for a recorder writes when it has time; then empties them, for they
 * would fill the disk. Throws BenchError `not-recorded`: a recorder that drops events does less than was asked.
 */
export async function awaitRecorded(
  files: readonly string[],
  calls: number,
  waitMs = WAIT_MS,
): Promise<void> {
  const deadline = performance.now() + waitMs;
  for (const file of files) {
    const log = new CallLog(file);
    try {
      while (log.count() < calls) {
        if (performance.now() > deadline) {
          throw new BenchError('not-recorded', `${file} tells of ${log.count()} calls of ${calls}`);
        }
        await delay(POLL_MS);
      }
    } finally {
      log.close();
    }
    truncateSync(file);
  }
}

/** Counts on from where it stopped. */
class CallLog {
  readonly #descriptor: number;
  /** Of the octets read, those that may be the beginning of a mark. */
  #held = 0;
  #calls = 0;

  constructor(file: string) {
    this.#descriptor = openSync(file, 'r');
  }

  /** Events of calls so far. */
  count(): number {
    for (;;) {
      const read = readSync(this.#descriptor, CHUNK, this.#held, CHUNK.length - this.#held, null);
      if (read === 0) return this.#calls;
      const octets = CHUNK.subarray(0, this.#held + read);
      let next = 0;
      for (let at = octets.indexOf(MARK); at >= 0; at = octets.indexOf(MARK, next)) {
        this.#calls++;
        next = at + MARK.length;
      }
      this.#held = Math.min(MARK.length - 1, octets.length - next);
      octets.copyWithin(0, octets.length - this.#held);
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}
