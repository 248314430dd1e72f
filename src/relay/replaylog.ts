/**
 * Copies of what calls have sent, for those that the other side refuses unprocessed (RFC 9113 section 8.7): one ring
 * for all calls of the process. What was read at once is copied at once, frames of many calls together, and nothing
 * has to be released: the newest octets overwrite the oldest. A call whose octets are gone is not sent again by us;
 * its caller may do that.
 */
import { ChunkQueue } from '../http2/chunkqueue.ts';

/** Octets of all calls together. */
const LOG_SIZE = 1024 * 1024;
/** Octets of one call. */
const MOST_OF_CALL = 16_384;
/** Octets copied at once, if so many were read. */
const BLOCK = 16_384;

export class ReplayLog {
  readonly #size: number;
  #ring: Buffer | undefined;
  #head = 0; // octets ever written or skipped; the ring holds the last `size`
  #source: Buffer | undefined; // what the newest block is a copy of ...
  #from = 0; // ... from this octet of it
  #to = 0; // ... to this one
  #at = 0; // where the block stands

  constructor(size = LOG_SIZE) {
    this.#size = size;
  }

  /** Buffers get new contents now, or may have: what was read before is not to be found in them any more. */
  newRead(): void {
    this.#source = undefined;
  }

  /** Sees to it that the log has [start, end) of `buf`, at most `size`, and returns where it stands. */
  write(buf: Buffer, start: number, end: number): number {
    if (buf === this.#source && start >= this.#from && end <= this.#to) return this.#at + start - this.#from;
    const to = Math.min(buf.length, Math.max(end, start + Math.min(BLOCK, this.#size)));
    this.#copy(buf, start, to);
    return this.#at;
  }

  #copy(buf: Buffer, start: number, end: number): void {
    this.#ring ??= Buffer.allocUnsafeSlow(this.#size);
    const length = end - start;
    let slot = this.#head % this.#size;
    if (slot + length > this.#size) {
      // In one piece, from the beginning.
      this.#head += this.#size - slot;
      slot = 0;
    }
    buf.copy(this.#ring, slot, start, end);
    this.#source = buf;
    this.#from = start;
    this.#to = end;
    this.#at = this.#head;
    this.#head += length;
  }

  /** What was written at `at` is still there, and so is everything that came later. */
  holds(at: number): boolean {
    return this.#head - at <= this.#size;
  }

  /** Adds what was written at `at` to `queue`; only while the log holds it. */
  read(at: number, length: number, queue: ChunkQueue): void {
    const slot = at % this.#size;
    queue.push(this.#ring as Buffer, slot, slot + length);
  }
}

/** What one call has sent. */
export class SentOctets {
  readonly #log: ReplayLog;
  readonly #at: number;
  readonly #length: number;
  #more: number[] | undefined; // at, length, at, length ...
  #total: number;

  private constructor(log: ReplayLog, at: number, length: number) {
    this.#log = log;
    this.#at = at;
    this.#length = length;
    this.#total = length;
  }

  /** Undefined if it is too much to be kept. */
  static of(log: ReplayLog, buf: Buffer, start: number, end: number): SentOctets | undefined {
    const length = end - start;
    return length > MOST_OF_CALL ? undefined : new SentOctets(log, log.write(buf, start, end), length);
  }

  /** False if it is too much to be kept: then it is not whole any more, and of no use. */
  add(buf: Buffer, start: number, end: number): boolean {
    const length = end - start;
    this.#total += length;
    if (this.#total > MOST_OF_CALL || !this.#log.holds(this.#at)) return false;
    this.#more ??= [];
    this.#more.push(this.#log.write(buf, start, end), length);
    return true;
  }

  /** All of it in order, or undefined if some has been overwritten. */
  restore(): ChunkQueue | undefined {
    if (!this.#log.holds(this.#at)) return undefined;
    const queue = new ChunkQueue();
    this.#log.read(this.#at, this.#length, queue);
    const more = this.#more ?? [];
    for (let i = 0; i < more.length; i += 2) this.#log.read(more[i] as number, more[i + 1] as number, queue);
    return queue;
  }
}
