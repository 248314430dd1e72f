import { IdentityError } from './errors.ts';

/** The tags of X.509 (X.680), in the single-byte form, which is all that certificates use. */
export const Tag = {
  BOOLEAN: 0x01,
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OCTET_STRING: 0x04,
  NULL: 0x05,
  OID: 0x06,
  UTC_TIME: 0x17,
  GENERALIZED_TIME: 0x18,
  SEQUENCE: 0x30,
  /** [n] primitive, as in GeneralName. */
  context: (n: number): number => 0x80 | n,
  /** [n] constructed. */
  explicit: (n: number): number => 0xa0 | n,
} as const;

const LONG_FORM = 0x80;
const HIGH_TAG = 0x1f;
const MAX_LENGTH_BYTES = 3; // 16 MiB, far above anything that is let in

/** Throws the error of everything that is not DER or not the structure that X.509 asks for. */
export function malformed(why: string): never {
  throw new IdentityError('malformed-certificate', `not a valid X.509 certificate: ${why}`);
}

/**
 * Reads DER (X.690, section 10) strictly, one element after the other: definite and shortest lengths,
 * single-byte tags, no byte beyond the end. Everything returned is a view of the buffer given to it.
 * Throws IdentityError `malformed-certificate`, and nothing else, whatever the input.
 */
export class DerReader {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  get atEnd(): boolean {
    return this.#at >= this.#end;
  }

  /** The tag of the next element, or -1 at the end. */
  get nextTag(): number {
    return this.atEnd ? -1 : (this.#bytes[this.#at] as number);
  }

  /** The whole next element, header included. */
  element(tag: number): Buffer {
    const start = this.#at;
    this.#advance(tag);
    return this.#bytes.subarray(start, this.#at);
  }

  /** The contents of the next element. */
  contents(tag: number): Buffer {
    const start = this.#advance(tag);
    return this.#bytes.subarray(start, this.#at);
  }

  /** A reader of the contents of the next element, which must be constructed or hold DER itself. */
  enter(tag: number): DerReader {
    const start = this.#advance(tag);
    return new DerReader(this.#bytes, start, this.#at);
  }

  /** As `enter`, or undefined if the next element has another tag. */
  enterOptional(tag: number): DerReader | undefined {
    return this.nextTag === tag ? this.enter(tag) : undefined;
  }

  /** BOOLEAN DEFAULT FALSE: DER encodes TRUE only, and as 0xff (X.690 11.1, 11.5). */
  defaultFalse(): boolean {
    if (this.nextTag !== Tag.BOOLEAN) return false;
    const value = this.contents(Tag.BOOLEAN);
    if (value.length !== 1 || value[0] !== 0xff) malformed('a BOOLEAN is not in its only DER form');
    return true;
  }

  /** The contents of an INTEGER in its shortest form (X.690 8.3.2); negative ones are refused. */
  unsignedInteger(): Buffer {
    const value = this.contents(Tag.INTEGER);
    if (value.length === 0) malformed('an INTEGER is empty');
    if ((value[0] as number) & 0x80) malformed('an INTEGER is negative');
    if (value.length > 1 && value[0] === 0 && ((value[1] as number) & 0x80) === 0) {
      malformed('an INTEGER is not in its shortest form');
    }
    return value;
  }

  /** An INTEGER from 0 to 255. */
  smallInteger(): number {
    const value = this.unsignedInteger();
    if (value.length > 2 || (value.length === 2 && value[0] !== 0)) malformed('an INTEGER is too large');
    return value[value.length - 1] as number;
  }

  /** The bytes of a BIT STRING that holds whole octets. */
  octetsOfBitString(): Buffer {
    const value = this.contents(Tag.BIT_STRING);
    if (value.length === 0 || value[0] !== 0) malformed('a BIT STRING does not hold whole bytes');
    return value.subarray(1);
  }

  /** An OBJECT IDENTIFIER as the lower-case hex of its contents. */
  oid(): string {
    const value = this.contents(Tag.OID);
    if (value.length === 0 || value.length > 64) malformed('an OBJECT IDENTIFIER has an odd length');
    if ((value[value.length - 1] as number) & 0x80) malformed('an OBJECT IDENTIFIER is cut off');
    let fresh = true;
    for (const byte of value) {
      if (fresh && byte === 0x80) malformed('an OBJECT IDENTIFIER is not in its shortest form');
      fresh = (byte & 0x80) === 0;
    }
    return value.toString('hex');
  }

  /** UTCTime or GeneralizedTime in the forms of RFC 5280 4.1.2.5, as milliseconds since the epoch. */
  time(): number {
    const utc = this.nextTag === Tag.UTC_TIME;
    const text = this.contents(utc ? Tag.UTC_TIME : Tag.GENERALIZED_TIME).toString('latin1');
    if (!(utc ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text)) malformed('a time is not in the form of RFC 5280');
    const short = Number(text.slice(0, 2));
    const full = utc ? `${short < 50 ? 20 : 19}${text}` : text;
    const at = (from: number, to: number): number => Number(full.slice(from, to));
    const date = new Date(0);
    date.setUTCFullYear(at(0, 4), at(4, 6) - 1, at(6, 8));
    date.setUTCHours(at(8, 10), at(10, 12), at(12, 14));
    if (date.toISOString().replace(/[-T:]|\.\d+/g, '') !== full) malformed('a time does not exist');
    return date.getTime();
  }

  /** Refuses anything left over. */
  end(): void {
    if (!this.atEnd) malformed('there are bytes after the last element of a structure');
  }

  /** Steps over the next element and returns where its contents begin. */
  #advance(tag: number): number {
    const bytes = this.#bytes;
    let at = this.#at;
    if (this.#end - at < 2) malformed('an element is missing or cut off');
    const found = bytes[at++] as number;
    if ((found & HIGH_TAG) === HIGH_TAG) malformed('a tag of several bytes');
    if (found !== tag) malformed(`tag 0x${found.toString(16)} where 0x${tag.toString(16)} is due`);
    let length = bytes[at++] as number;
    if (length >= LONG_FORM) {
      const count = length - LONG_FORM;
      if (count === 0 || count > MAX_LENGTH_BYTES) malformed('a length is indefinite or too large');
      if (this.#end - at < count) malformed('a length is cut off');
      length = bytes.readUIntBE(at, count);
      at += count;
      if (length < LONG_FORM || length < 2 ** (8 * (count - 1)))
        malformed('a length is not in its shortest form');
    }
    if (this.#end - at < length) malformed('an element reaches beyond its structure');
    this.#at = at + length;
    return at;
  }
}
