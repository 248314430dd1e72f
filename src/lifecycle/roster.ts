/**
 * What is alive at the moment, in the order of its coming: a Set for things that come and go by the thousand. A Set that
 * changes all the time grows a new table again and again, and each old one, once it has reached V8's old generation,
 * keeps its successor and all that was in it from every scavenge: connections that were long gone then cost a full
 * collection. One array has no such trail. `delete` looks through it from the front, where the oldest are: members are
 * counted in thousands at most.
 */
export class Roster<T> {
  readonly #members: T[] = [];

  get size(): number {
    return this.#members.length;
  }

  /** Whoever is in it already is in it twice. */
  add(member: T): void {
    this.#members.push(member);
  }

  get oldest(): T | undefined {
    return this.#members[0];
  }

  has(member: T): boolean {
    return this.#members.includes(member);
  }

  /** False if it was not in it. */
  delete(member: T): boolean {
    const at = this.#members.indexOf(member);
    if (at === -1) return false;
    this.#members.splice(at, 1);
    return true;
  }

  /** Those that are in it now, also if some go meanwhile. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#members.slice()[Symbol.iterator]();
  }
}
