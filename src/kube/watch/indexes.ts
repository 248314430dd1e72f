/** Under which values an object is found, by the name of the index. */
export type Indexers<K> = Readonly<Record<string, (kept: K) => Iterable<string>>>;

/** Objects by what stands in them. */
export class Indexes<K> {
  readonly #indexers: Indexers<K>;
  readonly #buckets: Readonly<Record<string, Map<string, K[]>>>;

  constructor(indexers: Indexers<K>) {
    this.#indexers = indexers;
    this.#buckets = Object.fromEntries(Object.keys(indexers).map((name) => [name, new Map()]));
  }

  /** In no order. Throws RangeError if there is no such index. */
  by(index: string, value: string): readonly K[] {
    const buckets = this.#buckets[index];
    if (buckets === undefined) throw new RangeError(`there is no index ${index}`);
    return buckets.get(value) ?? [];
  }

  add(kept: K): void {
    for (const [name, valuesOf] of Object.entries(this.#indexers)) {
      const buckets = this.#buckets[name] as Map<string, K[]>;
      for (const value of new Set(valuesOf(kept))) {
        const bucket = buckets.get(value);
        if (bucket === undefined) buckets.set(value, [kept]);
        else bucket.push(kept);
      }
    }
  }

  remove(kept: K): void {
    for (const [name, valuesOf] of Object.entries(this.#indexers)) {
      const buckets = this.#buckets[name] as Map<string, K[]>;
      for (const value of new Set(valuesOf(kept))) {
        const bucket = buckets.get(value) ?? [];
        const at = bucket.indexOf(kept);
        const last = bucket.pop();
        if (last !== undefined && at < bucket.length) bucket[at] = last;
        if (bucket.length === 0) buckets.delete(value);
      }
    }
  }
}
