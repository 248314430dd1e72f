import { newView, viewOf } from '../octets/view.ts';

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
  if (at < whole) {
    const view = viewOf(buf);
    do {
      hash = Math.imul(hash ^ view.getInt32(at, true), 0x01000193);
      hash ^= hash >>> 15;
      at += 4;
    } while (at < whole);
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
  readonly #keys: Array<DataView | null>;
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
    this.#keys = new Array<DataView | null>(limits.slots).fill(null);
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
      const key = this.#keys[found] as DataView | null;
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
    const old = this.#keys[slot] as DataView | null;
    if (old === null) this.#length++;
    else this.#octets -= old.byteLength;
    const key = new Uint8Array(end - at);
    for (let i = 0; i < key.length; i++) key[i] = buf[at + i] as number;
    this.#octets += key.length;
    this.#keys[slot] = newView(key);
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

function equalOctets(key: DataView, buf: Uint8Array, at: number, end: number): boolean {
  const length = key.byteLength;
  if (length !== end - at) return false;
  if (length < 4) {
    for (let i = 0; i < length; i++) {
      if (key.getUint8(i) !== buf[at + i]) return false;
    }
    return true;
  }
  const view = viewOf(buf);
  const last = length - 4;
  for (let i = 0; i < last; i += 4) {
    if (key.getInt32(i, true) !== view.getInt32(at + i, true)) return false;
  }
  return key.getInt32(last, true) === view.getInt32(end - 4, true);
}
