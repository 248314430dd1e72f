import { DynamicTable } from './dynamictable.ts';
import { HpackError } from './errors.ts';
import { HeaderField, STATIC_FIELDS } from './field.ts';
import { HeaderList } from './headerlist.ts';
import { IntegerReader } from './integer.ts';
import { hashOctets, Memo } from './memo.ts';
import { type NameRule, ruleOf } from './namerule.ts';
import { STATIC_LENGTH } from './statictable.ts';
import { readText } from './stringliteral.ts';

export interface DecoderOptions {
  /** Octets of dynamic table that the peer may use from its first block on. 4096 in HTTP/2 (RFC 9113 6.5.2). */
  maxTableSize?: number;
  /** Octets of a list counted +32 a field; what goes beyond is dropped and the list marked `oversize`. */
  maxListSize?: number;
  /** Fields in a list; more are dropped likewise. */
  maxFields?: number;
  /** Remember blocks and literals. Off only in tests and measurements. */
  memo?: boolean;
}

/** Size updates in one block: the smallest maximum since the last block and the one in force (RFC 7541 4.2). */
const MOST_UPDATES = 2;

const BLOCK_MEMO = { slots: 64, longestKey: 1024, keyOctets: 32_768 };
const LITERAL_MEMO = { slots: 32, longestKey: 128, keyOctets: 2_048 };
const NAME_MEMO = { slots: 256, longestKey: 40, keyOctets: 8_192 };
/** Raw literals below this are read faster than looked up. */
const SHORTEST_MEMOISED = 4;

/** Fields of most lists. */
const USUAL_FIELDS = 32;
const NO_FIELD = STATIC_FIELDS[0] as HeaderField;

interface FieldName {
  readonly text: string;
  readonly rule: NameRule;
}

/** Literal names, which are few and the same on every connection: `octets -> name`, for the process. */
const NAMES = new Memo<FieldName>(NAME_MEMO);

/**
 * Decodes the header blocks of one direction of a connection, in order (RFC 7541 3). A block is one whole
 * header block: HEADERS or PUSH_PROMISE with its CONTINUATIONs. Nothing of the buffer is kept.
 *
 * A block that came before is not read again: as long as the dynamic table is the same, its octets stand for
 * the same fields, and the same HeaderList is returned. Lists with sensitive fields are never remembered.
 */
export class Decoder {
  readonly #maxListSize: number;
  readonly #maxFields: number;
  readonly #table: DynamicTable;
  readonly #integer = new IntegerReader();
  /** What is being decoded: made into an array of the right length at the end. */
  readonly #fields: HeaderField[] = [];
  readonly #blocks: Memo<HeaderList> | null;
  readonly #literals: Memo<HeaderField> | null;
  /** `changes` of the table for which #blocks holds. */
  #blocksAt = 0;
  /** The maximum that we announced last. */
  #announced: number;
  /** The smallest one announced since the last block, if below the table's capacity then; else -1. */
  #required = -1;
  #failure: HpackError | null = null;
  /** Where the string just read begins and ends; behind it the next field. */
  #from = 0;
  #at = 0;

  constructor(options: DecoderOptions = {}) {
    this.#announced = options.maxTableSize ?? 4096;
    this.#maxListSize = options.maxListSize ?? 65_536;
    this.#maxFields = options.maxFields ?? 128;
    this.#table = new DynamicTable(this.#announced);
    const memo = options.memo ?? true;
    this.#blocks = memo ? new Memo<HeaderList>(BLOCK_MEMO) : null;
    this.#literals = memo ? new Memo<HeaderField>(LITERAL_MEMO) : null;
  }

  /**
   * Our SETTINGS_HEADER_TABLE_SIZE, to be called when the peer has acknowledged it. After a reduction the next
   * block must begin with a size update.
   */
  setMaxTableSize(octets: number): void {
    this.#announced = octets;
    if (octets < this.#table.capacity && (this.#required < 0 || octets < this.#required)) {
      this.#required = octets;
    }
  }

  /** Octets in the dynamic table, counted +32 an entry. */
  get tableSize(): number {
    return this.#table.size;
  }

  /** Octets of memo keys held: at most 34 KiB. */
  get memoOctets(): number {
    return (this.#blocks?.octets ?? 0) + (this.#literals?.octets ?? 0);
  }

  /** Decodes the block in buf[start..end). Throws HpackError, after which the decoder is dead. */
  decode(buf: Buffer, start: number, end: number): HeaderList {
    const blocks = this.#blocks;
    if (blocks === null || this.#required >= 0 || this.#failure !== null || !blocks.wanted(end - start)) {
      return this.#decodeOrDie(buf, start, end);
    }
    const changes = this.#table.changes;
    if (changes !== this.#blocksAt) {
      blocks.clear();
      this.#blocksAt = changes;
    }
    const hash = hashOctets(buf, start, end, 0);
    const known = blocks.find(hash, buf, start, end);
    if (known !== null) return known;
    const list = this.#decodeOrDie(buf, start, end);
    if (this.#table.changes === changes && isMemoisable(list)) {
      blocks.offer(hash, buf, start, end, list);
    }
    return list;
  }

  #decodeOrDie(buf: Buffer, start: number, end: number): HeaderList {
    if (this.#failure !== null) {
      throw new HpackError('dead', 'a block after one that failed', {
        origin: 'local',
        cause: this.#failure,
      });
    }
    try {
      return this.#decodeBlock(buf, start, end);
    } catch (error) {
      if (error instanceof HpackError) this.#failure = error;
      throw error;
    }
  }

  #decodeBlock(buf: Buffer, start: number, end: number): HeaderList {
    const table = this.#table;
    const maxListSize = this.#maxListSize;
    const maxFields = this.#maxFields;
    const fields = this.#fields;
    let count = 0;
    let size = 0;
    let oversize = false;
    let at = this.#readSizeUpdates(buf, start, end);
    while (at < end) {
      const octet = buf[at++] as number;
      let field: HeaderField;
      if (octet >= 0x80) {
        let index = octet & 0x7f;
        if (index === 0x7f) {
          index = this.#integer.read(buf, at, end, 0x7f);
          at = this.#integer.at;
        }
        field = this.#indexed(index);
      } else if (octet >= 0x40) {
        field = this.#readLiteral(buf, at, end, octet & 0x3f, 0x3f, false, null);
        at = this.#at;
        table.insert(field);
      } else if (octet >= 0x20) {
        throw new HpackError('table-size-misplaced', 'a table size update after the first field');
      } else {
        field = this.#readLiteral(buf, at, end, octet & 0x0f, 0x0f, octet >= 0x10, this.#literals);
        at = this.#at;
      }
      size += field.size;
      if (size > maxListSize || count >= maxFields) oversize = true;
      if (!oversize) fields[count++] = field;
    }
    const list = new HeaderList(fields.slice(0, count), size, oversize);
    // What a long list held must not be kept; what a usual one did is overwritten by the next.
    if (fields.length > USUAL_FIELDS) fields.length = 0;
    else for (let i = 0; i < count; i++) fields[i] = NO_FIELD;
    return list;
  }

  #indexed(index: number): HeaderField {
    const field =
      index <= STATIC_LENGTH
        ? index === 0
          ? undefined
          : STATIC_FIELDS[index]
        : this.#table.at(index - STATIC_LENGTH);
    if (field === undefined) {
      throw new HpackError(
        'bad-index',
        `index ${index}, with ${this.#table.length} entries in the dynamic table`,
      );
    }
    return field;
  }

  /** Returns the position behind the size updates with which a block may begin (4.2, 6.3). */
  #readSizeUpdates(buf: Buffer, at: number, end: number): number {
    let updates = 0;
    while (at < end && ((buf[at] as number) & 0xe0) === 0x20) {
      let size = (buf[at++] as number) & 0x1f;
      if (size === 0x1f) {
        size = this.#integer.read(buf, at, end, 0x1f);
        at = this.#integer.at;
      }
      if (++updates > MOST_UPDATES) {
        throw new HpackError('table-size-repeated', 'more than two table size updates in one block');
      }
      const allowed = this.#required >= 0 ? this.#required : this.#announced;
      if (size > allowed) {
        throw new HpackError(
          'table-size-too-large',
          `a table size update to ${size}, ${allowed} is the maximum`,
        );
      }
      this.#required = -1;
      this.#table.resize(size);
    }
    if (this.#required >= 0) {
      throw new HpackError('table-size-missing', `no table size update to at most ${this.#required}`);
    }
    return at;
  }

  /** The rest of a literal field (6.2); `index` is what the prefix of its first octet holds. Leaves #at behind it. */
  #readLiteral(
    buf: Buffer,
    at: number,
    end: number,
    index: number,
    prefix: number,
    neverIndexed: boolean,
    memo: Memo<HeaderField> | null,
  ): HeaderField {
    let name: string;
    let rule: NameRule;
    if (index === 0) {
      const known = this.#readName(buf, at, end);
      at = this.#at;
      name = known.text;
      rule = known.rule;
    } else {
      if (index === prefix) {
        index = this.#integer.read(buf, at, end, prefix);
        at = this.#integer.at;
      }
      const entry = this.#indexed(index);
      name = entry.name;
      rule = entry.rule;
    }

    const huffman = this.#readLength(buf, at, end);
    const from = this.#from;
    const to = this.#at;
    if (
      memo === null ||
      neverIndexed ||
      rule.sensitive ||
      rule.varying ||
      to - from < SHORTEST_MEMOISED ||
      !memo.wanted(to - from)
    ) {
      return new HeaderField(name, readText(buf, from, to, huffman), neverIndexed, rule);
    }
    // For equal octets hashOctets is one-to-one in its seed: a raw and a coded value are never confused.
    const seed = (huffman ? 1 : 2) ^ (name.length << 4) ^ (name.charCodeAt(name.length - 1) << 16);
    const hash = hashOctets(buf, from, to, seed);
    const known = memo.find(hash, buf, from, to);
    if (known !== null && known.name === name) return known;
    const field = new HeaderField(name, readText(buf, from, to, huffman), false, rule);
    memo.offer(hash, buf, from, to, field);
    return field;
  }

  #readName(buf: Buffer, at: number, end: number): FieldName {
    const huffman = this.#readLength(buf, at, end);
    const from = this.#from;
    const to = this.#at;
    if (!NAMES.wanted(to - from)) return fieldName(readText(buf, from, to, huffman));
    const hash = hashOctets(buf, from, to, huffman ? 1 : 2);
    const known = NAMES.find(hash, buf, from, to);
    if (known !== null) return known;
    const name = fieldName(readText(buf, from, to, huffman));
    NAMES.offer(hash, buf, from, to, name);
    return name;
  }

  /** Reads the head of a string literal (5.2): its octets are from #from to #at. Returns whether they are Huffman-coded. */
  #readLength(buf: Buffer, at: number, end: number): boolean {
    if (at >= end) throw new HpackError('truncated-block', 'the block ends before a string');
    const octet = buf[at++] as number;
    let length = octet & 0x7f;
    if (length === 0x7f) {
      length = this.#integer.read(buf, at, end, 0x7f);
      at = this.#integer.at;
    }
    if (length > end - at) {
      throw new HpackError(
        'string-too-long',
        `a string of ${length} octets, ${end - at} are left in the block`,
      );
    }
    this.#from = at;
    this.#at = at + length;
    return octet >= 0x80;
  }
}

function fieldName(text: string): FieldName {
  return { text, rule: ruleOf(text) };
}

function isMemoisable(list: HeaderList): boolean {
  if (list.oversize) return false;
  for (const field of list.fields) if (field.sensitive) return false;
  return true;
}
