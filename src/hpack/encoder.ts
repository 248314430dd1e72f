import { type Viewed, viewed } from '../octets/view.ts';
import { DynamicTable } from './dynamictable.ts';
import type { HeaderField } from './field.ts';
import type { HeaderList } from './headerlist.ts';
import { LONGEST_INTEGER, writeInteger } from './integer.ts';
import { INDEXABLE_COUNT } from './namerule.ts';
import { STATIC_LENGTH } from './statictable.ts';
import { writeRaw, writeShortest } from './stringliteral.ts';

export interface EncoderOptions {
  /** Most octets of dynamic table to use, whatever more the peer allows. */
  maxTableSize?: number;
  /** What the peer allows from the first block on. 4096 in HTTP/2 (RFC 9113 6.5.2). */
  peerTableSize?: number;
  /** Remember blocks. Off only in tests and measurements. */
  memo?: boolean;
}

const FIRST_BLOCK = 1024;
/** A larger buffer is let go after use. */
const KEPT_BLOCK = 16_384;

const MEMO_LISTS = 128;
const MEMO_OCTETS = 32_768;
const LONGEST_MEMOISED = 1024;
/** A full memo starts anew, but not more often than that: with more lists in use than it holds, most keep their place. */
const BLOCKS_BETWEEN_MEMOS = 2048;

/** A full table takes a new entry in one of so many blocks, lest a long tail of values evicts what is in use. */
const BLOCKS_BETWEEN_EVICTIONS = 32;
const DOORKEEPER_SLOTS = 64;

let encoders = 0;

/**
 * Encodes the header blocks of one direction of a connection, in order. The dynamic table takes only names with
 * a rule for it (namerule.ts), a value when it comes the second time; all else are literals without indexing,
 * and never-indexed fields stay so (RFC 7541 7.1.3). Strings are raw but for those that go into the table:
 * Huffman coding costs both ends more time than the octets are worth, except once.
 *
 * A list that comes again is not encoded again while the table is the same.
 */
export class Encoder {
  /**
   * What `encode` wrote, from 0 to its result. To be read before the next call and not written to: it may be
   * the memo's own.
   */
  block: Viewed = viewed(Buffer.allocUnsafeSlow(FIRST_BLOCK));

  readonly #id = ++encoders;
  readonly #table: DynamicTable;
  readonly #ownLimit: number;
  readonly #memo: Map<HeaderList, Viewed> | null;
  #memoAt = 0;
  #memoOctets = 0;
  #forgotAt = 0;
  #scratch = this.block;
  /** Entry numbers by rule slot and value; entries that were evicted are taken out. */
  readonly #entries: Array<Map<string, number> | null> = new Array<Map<string, number> | null>(
    INDEXABLE_COUNT,
  ).fill(null);
  /** Hashes of values that came once. */
  readonly #doorkeeper = new Int32Array(DOORKEEPER_SLOTS);
  /** A field of this block goes into the table if it comes again: the block would not stay as it is. */
  #unsettled = false;
  #blocks = 0;
  #evictedAt = -BLOCKS_BETWEEN_EVICTIONS;
  /** The capacity to have from the next block on, and the smallest one since the last block; -1: no change. */
  #target: number;
  #smallest = -1;

  constructor(options: EncoderOptions = {}) {
    const peerLimit = options.peerTableSize ?? 4096;
    this.#ownLimit = options.maxTableSize ?? 4096;
    this.#table = new DynamicTable(peerLimit);
    this.#target = peerLimit;
    this.#memo = (options.memo ?? true) ? new Map() : null;
    if (this.#ownLimit < peerLimit) this.setPeerTableSize(peerLimit);
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. The next block says what became of it (RFC 7541 4.2). */
  setPeerTableSize(octets: number): void {
    const capacity = Math.min(octets, this.#ownLimit);
    this.#target = capacity;
    if (this.#smallest < 0 || capacity < this.#smallest) this.#smallest = capacity;
  }

  /** Octets in the dynamic table, counted +32 an entry. */
  get tableSize(): number {
    return this.#table.size;
  }

  /** Octets of memoised blocks held: at most 32 KiB. */
  get memoOctets(): number {
    return this.#memoOctets;
  }

  /** Encodes a list; the block is this.block[0..result). */
  encode(list: HeaderList): number {
    const memo = this.#memo;
    const table = this.#table;
    if (memo === null || this.#smallest >= 0) return this.#encodeBlock(list);
    if (list.encodings === 0) {
      list.encodings = 1;
      return this.#encodeBlock(list);
    }
    if (this.#memoAt !== table.changes) this.#forgetBlocks();
    const known = memo.get(list);
    if (known !== undefined) {
      this.block = known;
      return known.octets.length;
    }
    const length = this.#encodeBlock(list);
    if (
      this.#memoAt === table.changes &&
      !this.#unsettled &&
      length <= LONGEST_MEMOISED &&
      isMemoisable(list)
    ) {
      this.#remember(memo, list, length);
    }
    return length;
  }

  #remember(memo: Map<HeaderList, Viewed>, list: HeaderList, length: number): void {
    if (memo.size >= MEMO_LISTS || this.#memoOctets + length > MEMO_OCTETS) {
      if (this.#blocks - this.#forgotAt < BLOCKS_BETWEEN_MEMOS) return;
      this.#forgetBlocks();
    }
    const block = viewed(Buffer.allocUnsafeSlow(length));
    this.#scratch.octets.copy(block.octets, 0, 0, length);
    memo.set(list, block);
    this.#memoOctets += length;
  }

  #forgetBlocks(): void {
    if (this.#memoOctets > 0) {
      this.#memo?.clear();
      this.#memoOctets = 0;
    }
    this.#memoAt = this.#table.changes;
    this.#forgotAt = this.#blocks;
  }

  #encodeBlock(list: HeaderList): number {
    const fields = list.fields;
    const table = this.#table;
    const id = this.#id;
    this.#blocks++;
    this.#unsettled = false;
    if (this.#scratch.octets.length > KEPT_BLOCK) this.#scratch = viewed(Buffer.allocUnsafeSlow(FIRST_BLOCK));
    let room = (fields.length + 2) * LONGEST_INTEGER;
    this.#reserve(0, room);
    let at = this.#smallest >= 0 ? this.#writeSizeUpdates() : 0;
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i] as HeaderField;
      const entry = field.encoderEntry;
      if (field.staticIndex !== 0) {
        this.#scratch.octets[at++] = 0x80 | field.staticIndex;
      } else if (field.encoderId === id && entry > table.inserted - table.length) {
        at = writeInteger(this.#scratch.octets, at, 0x80, 0x7f, STATIC_LENGTH + 1 + table.inserted - entry);
      } else {
        room = (fields.length - i) * LONGEST_INTEGER;
        this.#reserve(at, room + field.size);
        at = this.#writeField(field, at);
      }
    }
    this.block = this.#scratch;
    return at;
  }

  /** Makes room for `octets` more behind `at`. */
  #reserve(at: number, octets: number): void {
    if (at + octets <= this.#scratch.octets.length) return;
    const larger = viewed(Buffer.allocUnsafeSlow(2 * (at + octets)));
    this.#scratch.octets.copy(larger.octets, 0, 0, at);
    this.#scratch = larger;
  }

  /** RFC 7541 4.2: first the smallest maximum since the last block, if it was below both, then the one in force. */
  #writeSizeUpdates(): number {
    const table = this.#table;
    let at = 0;
    if (this.#smallest < this.#target && this.#smallest < table.capacity) {
      at = this.#resize(this.#smallest, at);
    }
    if (this.#target !== table.capacity) at = this.#resize(this.#target, at);
    this.#smallest = -1;
    return at;
  }

  #resize(capacity: number, at: number): number {
    const table = this.#table;
    while (table.size > capacity) this.#evict();
    table.resize(capacity);
    return writeInteger(this.#scratch.octets, at, 0x20, 0x1f, capacity);
  }

  #evict(): void {
    const number = this.#table.inserted - this.#table.length + 1;
    const field = this.#table.evictOldest();
    const entries = this.#entries[field.rule.slot] as Map<string, number>;
    if (entries.get(field.value) === number) entries.delete(field.value);
  }

  /** A field that is neither in the static table nor known by its hint. */
  #writeField(field: HeaderField, at: number): number {
    const rule = field.rule;
    const buf = this.#scratch.octets;
    if (rule.slot >= 0 && !field.neverIndexed) {
      const entry = this.#entries[rule.slot]?.get(field.value);
      if (entry !== undefined) {
        field.encoderId = this.#id;
        field.encoderEntry = entry;
        return writeInteger(buf, at, 0x80, 0x7f, STATIC_LENGTH + 1 + this.#table.inserted - entry);
      }
      if (this.#isWorthIndexing(field)) {
        at = writeInteger(buf, at, 0x40, 0x3f, rule.staticIndex);
        if (rule.staticIndex === 0) at = writeShortest(field.name, buf, at);
        at = writeShortest(field.value, buf, at);
        this.#index(field);
        return at;
      }
    }
    at = writeInteger(buf, at, field.neverIndexed ? 0x10 : 0x00, 0x0f, rule.staticIndex);
    if (rule.staticIndex === 0) at = writeRaw(field.name, buf, at);
    return writeRaw(field.value, buf, at);
  }

  #isWorthIndexing(field: HeaderField): boolean {
    const { rule, value } = field;
    const table = this.#table;
    if (value.length > rule.longestIndexed || field.size > table.capacity >>> 2) return false;
    // A query may hold a token, which must not be guessable by its compression (RFC 7541 7.1).
    if (value.includes('?')) return false;
    if (
      table.size + field.size > table.capacity &&
      this.#blocks - this.#evictedAt < BLOCKS_BETWEEN_EVICTIONS
    ) {
      return false;
    }
    const hash = hashText(value, rule.slot);
    const slot = hash & (DOORKEEPER_SLOTS - 1);
    if (this.#doorkeeper[slot] !== hash) {
      this.#doorkeeper[slot] = hash;
      this.#unsettled = true;
      return false;
    }
    return true;
  }

  #index(field: HeaderField): void {
    const table = this.#table;
    const { slot } = field.rule;
    while (table.size + field.size > table.capacity) {
      this.#evict();
      this.#evictedAt = this.#blocks;
    }
    table.insert(field);
    field.encoderId = this.#id;
    field.encoderEntry = table.inserted;
    let entries = this.#entries[slot] as Map<string, number> | null;
    if (entries === null) {
      entries = new Map();
      this.#entries[slot] = entries;
    }
    entries.set(field.value, table.inserted);
  }
}

function hashText(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash ^ (hash >>> 15);
}

function isMemoisable(list: HeaderList): boolean {
  for (const field of list.fields) if (field.sensitive) return false;
  return true;
}
