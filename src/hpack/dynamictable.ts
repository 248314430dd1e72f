import { type HeaderField, STATIC_FIELDS } from './field.ts';

const FIRST_SLOTS = 16;
const FILLER = STATIC_FIELDS[0] as HeaderField;

/**
 * The dynamic table (RFC 7541 2.3.2, 4): first in, first out, in a ring that grows by doubling. Entries are
 * numbered from 1 in the order they came; an entry lives while its number is above `inserted - length`.
 */
export class DynamicTable {
  #ring: HeaderField[] = new Array<HeaderField>(FIRST_SLOTS).fill(FILLER);
  #mask = FIRST_SLOTS - 1;
  #inserted = 0;
  #length = 0;
  #size = 0;
  #capacity: number;
  #changes = 0;

  /** `capacity`: octets, each entry counted +32. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** How many entries were ever inserted: the number of the newest. */
  get inserted(): number {
    return this.#inserted;
  }

  get length(): number {
    return this.#length;
  }

  get size(): number {
    return this.#size;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Grows with every insertion, eviction and change of capacity. */
  get changes(): number {
    return this.#changes;
  }

  /** The entry at `position` 1 (newest) to `length` (oldest); undefined beyond. */
  at(position: number): HeaderField | undefined {
    if (position > this.#length || position < 1) return undefined;
    return this.#ring[(this.#inserted - position) & this.#mask];
  }

  /** Adds an entry, evicting what must go; one larger than the table only empties it (4.4). */
  insert(field: HeaderField): void {
    const size = field.size;
    while (this.#length > 0 && this.#size + size > this.#capacity) this.evictOldest();
    if (size > this.#capacity) return;
    if (this.#length > this.#mask) this.#grow();
    this.#ring[this.#inserted & this.#mask] = field;
    this.#inserted++;
    this.#length++;
    this.#size += size;
    this.#changes++;
  }

  /** Removes and returns the oldest entry; the table must not be empty. */
  evictOldest(): HeaderField {
    const slot = (this.#inserted - this.#length) & this.#mask;
    const field = this.#ring[slot] as HeaderField;
    this.#ring[slot] = FILLER;
    this.#length--;
    this.#size -= field.size;
    this.#changes++;
    return field;
  }

  resize(capacity: number): void {
    while (this.#size > capacity) this.evictOldest();
    if (capacity !== this.#capacity) this.#changes++;
    this.#capacity = capacity;
  }

  #grow(): void {
    const larger = new Array<HeaderField>((this.#mask + 1) * 2).fill(FILLER);
    const mask = larger.length - 1;
    for (let number = this.#inserted - this.#length; number < this.#inserted; number++) {
      larger[number & mask] = this.#ring[number & this.#mask] as HeaderField;
    }
    this.#ring = larger;
    this.#mask = mask;
  }
}
