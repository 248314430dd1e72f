/**
 * Items with a time each, handed out when their time has come; to the nearest `granularity`, so that setting and
 * taking cost the same however many there are. An item may come out up to one granularity early: its owner looks
 * at the exact time and sets it again.
 */
export class Deadlines<T> {
  readonly #granularity: number;
  readonly #buckets = new Map<number, Set<T>>();
  readonly #bucketOf = new Map<T, number>();
  /** The first bucket that has not been taken yet. */
  #next: number;

  constructor(granularity: number, now: number) {
    this.#granularity = granularity;
    this.#next = Math.floor(now / granularity);
  }

  get size(): number {
    return this.#bucketOf.size;
  }

  /** Sets or moves an item. A time that is over comes out at the next take(). */
  set(item: T, at: number): void {
    const bucket = Math.max(Math.floor(at / this.#granularity), this.#next);
    const before = this.#bucketOf.get(item);
    if (before === bucket) return;
    if (before !== undefined) this.#removeFrom(before, item);
    this.#bucketOf.set(item, bucket);
    const items = this.#buckets.get(bucket);
    if (items === undefined) this.#buckets.set(bucket, new Set([item]));
    else items.add(item);
  }

  delete(item: T): void {
    const bucket = this.#bucketOf.get(item);
    if (bucket === undefined) return;
    this.#bucketOf.delete(item);
    this.#removeFrom(bucket, item);
  }

  /** Removes and returns what is due. */
  take(now: number): T[] {
    const last = Math.floor(now / this.#granularity);
    const due: T[] = [];
    if (last - this.#next < this.#buckets.size) {
      for (let bucket = this.#next; bucket <= last; bucket++) this.#takeBucket(bucket, due);
    } else {
      const buckets = [...this.#buckets.keys()].filter((bucket) => bucket <= last).sort((a, b) => a - b);
      for (const bucket of buckets) this.#takeBucket(bucket, due);
    }
    this.#next = Math.max(this.#next, last + 1);
    return due;
  }

  #takeBucket(bucket: number, due: T[]): void {
    const items = this.#buckets.get(bucket);
    if (items === undefined) return;
    this.#buckets.delete(bucket);
    for (const item of items) {
      this.#bucketOf.delete(item);
      due.push(item);
    }
  }

  #removeFrom(bucket: number, item: T): void {
    const items = this.#buckets.get(bucket);
    if (items?.delete(item) && items.size === 0) this.#buckets.delete(bucket);
  }
}
