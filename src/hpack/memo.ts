/** While look-ups fail, so many more are made before a pause ... */
const TRIES = 32;
/** ... of so many, after which it is tried again. */
const PAUSE = 224;
const HIT_CREDIT = 8;
const MOST_CREDIT = 64;

/** FNV-1a over words of four octets, with a final mix. `seed` sets apart what must not be confused. */
export function hashOctets(buf: Uint8Array, at: number, end: number, seed: number): number {
  let hash = seed ^ (end - at);
  const whole = end - 3;
  while (at < whole) {
    const word =
      (buf[at] as number) |
      ((buf[at + 1] as number) << 8) |
      ((buf[at + 2] as number) << 16) |
      ((buf[at + 3] as number) << 24);
    hash = Math.imul(hash ^ word, 0x01000193);
    hash ^= hash >>> 15;
    at += 4;
  }
  while (at < end) hash = Math.imul(hash ^ (buf[at++] as number), 0x01000193);
  return hash ^ (hash >>> 13);
}

export interface MemoLimits {
  /** A power of two. */
  slots: number;
  /** Longest key in octets. */
  longestKey: number;
  /** All keys together, in octets; above it the memo starts anew. */
  keyOctets: number;
}

/**
 * A bounded memory of `octets -> value`, two-way associative. A key is compared octet by octet, so that the
 * hash only costs speed when it collides. It is copied, and only when it comes the second time: input that
 * never repeats costs a hash, and after some failures in a row not even that (`wanted`).
 */
export class Memo<T> {
  readonly #limits: MemoLimits;
  readonly #mask: number;
  readonly #hashes: Int32Array;
  readonly #seen: Int32Array;
  readonly #keys: Array<Uint8Array | null>;
  readonly #values: Array<T | null>;
  #length = 0;
  #octets = 0;
  #credit = MOST_CREDIT;
  #pause = 0;

  constructor(limits: MemoLimits) {
    this.#limits = limits;
    this.#mask = limits.slots - 1;
    this.#hashes = new Int32Array(limits.slots);
    this.#seen = new Int32Array(limits.slots);
    this.#keys = new Array<Uint8Array | null>(limits.slots).fill(null);
    this.#values = new Array<T | null>(limits.slots).fill(null);
  }

  /** Entries held. */
  get length(): number {
    return this.#length;
  }

  /** Octets of the keys held. */
  get octets(): number {
    return this.#octets;
  }

  /** Whether a key of so many octets is worth hashing and looking for. */
  wanted(length: number): boolean {
    if (length > this.#limits.longestKey) return false;
    if (this.#credit > 0) return true;
    if (--this.#pause > 0) return false;
    this.#credit = TRIES;
    return true;
  }

  find(hash: number, buf: Uint8Array, at: number, end: number): T | null {
    const slot = hash & this.#mask;
    const hashes = this.#hashes;
    let found = -1;
    if (hashes[slot] === hash) found = slot;
    else if (hashes[slot ^ 1] === hash) found = slot ^ 1;
    if (found >= 0) {
      const key = this.#keys[found] as Uint8Array | null;
      if (key !== null && equalOctets(key, buf, at, end)) {
        if (this.#credit < MOST_CREDIT) this.#credit += HIT_CREDIT;
        return this.#values[found] as T;
      }
    }
    if (--this.#credit === 0) this.#pause = PAUSE;
    return null;
  }

  /** After a failed `find`: keeps a copy of the key, and the value, if the key was offered before. */
  offer(hash: number, buf: Uint8Array, at: number, end: number, value: T): void {
    const first = hash & this.#mask;
    if (this.#seen[first] !== hash) {
      this.#seen[first] = hash;
      return;
    }
    if (this.#octets + (end - at) > this.#limits.keyOctets) this.clear();
    let slot = first;
    if (this.#keys[slot] !== null && (this.#keys[slot ^ 1] === null || ((hash >>> 20) & 1) === 1)) slot ^= 1;
    const old = this.#keys[slot] as Uint8Array | null;
    if (old === null) this.#length++;
    else this.#octets -= old.length;
    const key = new Uint8Array(end - at);
    for (let i = 0; i < key.length; i++) key[i] = buf[at + i] as number;
    this.#octets += key.length;
    this.#keys[slot] = key;
    this.#values[slot] = value;
    this.#hashes[slot] = hash;
  }

  clear(): void {
    if (this.#length === 0) return;
    this.#keys.fill(null);
    this.#values.fill(null);
    this.#length = 0;
    this.#octets = 0;
  }
}

function equalOctets(key: Uint8Array, buf: Uint8Array, at: number, end: number): boolean {
  const length = key.length;
  if (length !== end - at) return false;
  for (let i = 0; i < length; i++) {
    if (key[i] !== buf[at + i]) return false;
  }
  return true;
}
