import type { Stream } from './stream.ts';

const SMALLEST = 16; // slots
/** A table that is larger shrinks when it is nearly empty; a busy connection empties and fills in every turn. */
const KEPT = 512;

/**
 * The live streams of a connection by identifier: open addressing with linear probing. Not a Map, because a Map that
 * outgrows its store leaves the old one pointing at the new one. Once such an old store has been promoted by the
 * collector, all later ones, and every stream in them, are promoted after it: full collections by the dozen.
 */
export class StreamTable {
  #slots: (Stream | undefined)[] = empty(SMALLEST);
  #mask = SMALLEST - 1;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(streamId: number): Stream | undefined {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let at = (streamId >>> 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at];
      if (stream === undefined || stream.id === streamId) return stream;
    }
  }

  /** Adds a stream whose identifier is not in the table. */
  add(stream: Stream): void {
    if (++this.#size * 2 > this.#slots.length) this.#resize(this.#slots.length * 2);
    this.#place(stream);
  }

  delete(streamId: number): void {
    const slots = this.#slots;
    const mask = this.#mask;
    let hole = (streamId >>> 1) & mask;
    for (; ; hole = (hole + 1) & mask) {
      const stream = slots[hole];
      if (stream === undefined) return;
      if (stream.id === streamId) break;
    }
    // Those behind the hole move up, unless that took them before the slot where their search begins.
    for (let at = (hole + 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at];
      if (stream === undefined) break;
      const home = (stream.id >>> 1) & mask;
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        slots[hole] = stream;
        hole = at;
      }
    }
    slots[hole] = undefined;
    this.#size--;
    if (slots.length > KEPT && this.#size * 16 < slots.length) this.#resize(slots.length / 2);
  }

  /** All of them, lowest identifier first; not changed by what happens to the table meanwhile. */
  list(): Stream[] {
    const streams: Stream[] = [];
    for (const stream of this.#slots) if (stream !== undefined) streams.push(stream);
    return streams.sort((a, b) => a.id - b.id);
  }

  #place(stream: Stream): void {
    const slots = this.#slots;
    const mask = this.#mask;
    let at = (stream.id >>> 1) & mask;
    while (slots[at] !== undefined) at = (at + 1) & mask;
    slots[at] = stream;
  }

  #resize(length: number): void {
    const before = this.#slots;
    this.#slots = empty(length);
    this.#mask = length - 1;
    for (const stream of before) if (stream !== undefined) this.#place(stream);
  }
}

function empty(length: number): undefined[] {
  return new Array<undefined>(length).fill(undefined);
}
