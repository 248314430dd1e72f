import { discard } from '../crypto/discard.ts';
import type { CipherState } from '../noise/cipherstate.ts';
import { giveBuffer, takeBuffer } from './bufferpool.ts';
import { RecordError } from './errors.ts';
import type { RecordLimits } from './limits.ts';

/*
 * After the handshake everything is in records: length u16 (of ciphertext and tag) | ciphertext | tag
 * The plaintext is: type u8 | payload length u16 | payload | zero padding
 */
export const DATA = 0x01; // payload: bytes of the stream above
export const KEY_UPDATE = 0x02; // empty; the last record under its key
export const NEW_TICKET = 0x03; // only towards an initiator that offered mode 2
export const PING = 0x04; // 8 bytes, which PONG gives back
export const PONG = 0x05;
export const CLOSE = 0x06; // the last record of its direction
export const ALERT = 0x07; // code u8
/** From here on, types that are not known are ignored; below, they end the connection. */
export const IGNORABLE = 0x80;
/** The responder asks for another session, by a full handshake: its identity has changed. What is in it is ignored. */
export const SUCCESSOR = 0x80;

export const PING_LENGTH = 8; // payload of PING and PONG
export const LENGTH_FIELD = 2; // u16, in front of the ciphertext
export const RECORD_HEADER = 3; // type u8, payload length u16
export const TAG = 16; // AES-256-GCM
/** Bounds of the length field. */
export const MIN_LENGTH = RECORD_HEADER + TAG;
export const MAX_LENGTH = 65_535;
/** What a record adds to its payload inside its length field. */
export const OVERHEAD = RECORD_HEADER + TAG;
export const MAX_PAYLOAD = MAX_LENGTH - OVERHEAD;

/** The number of the first record that no key seals or opens; limits can only lower it. */
export const MAX_KEY_RECORDS = 2 ** 22;
/** A key seals nothing more once it has sealed so much: far above what AES-GCM's proofs need, as the config's 64 GiB is. */
export const MAX_KEY_BYTES = 2 ** 37;

const EMPTY = Buffer.alloc(RECORD_HEADER);

/** Seals one direction's records, in order. Not usable after an error. */
export class RecordWriter {
  readonly #cipher: CipherState;
  readonly #limits: RecordLimits;
  readonly #maxKeyRecords: number;
  readonly #maxKeyBytes: number;
  #keyRecords = 0;
  #keyBytes = 0;

  constructor(cipher: CipherState, limits: RecordLimits) {
    this.#cipher = cipher;
    this.#limits = limits;
    this.#maxKeyRecords = Math.min(limits.maxKeyRecords, MAX_KEY_RECORDS);
    this.#maxKeyBytes = Math.min(limits.maxKeyBytes, MAX_KEY_BYTES);
  }

  /**
   * Whether the key has sealed all that it may, which no key does that is changed when that is due. Nothing more can be
   * sealed, not even a KEY_UPDATE: sealing throws RecordError `key-exhausted`.
   */
  get exhausted(): boolean {
    return this.#keyRecords + 1 >= this.#maxKeyRecords || this.#keyBytes >= this.#maxKeyBytes;
  }

  /** What the key has been used enough by, if it has: the next record should be keyUpdate(). */
  get due(): 'records' | 'bytes' | undefined {
    if (this.#keyRecords >= this.#limits.rekeyRecords) return 'records';
    return this.#keyBytes >= this.#limits.rekeyBytes ? 'bytes' : undefined;
  }

  /**
   * Seals bytes [start, end) of `buf` as one record in a buffer of its own. The RECORD_HEADER bytes in front of
   * `start` are overwritten; `buf` may be reused on return.
   */
  seal(type: number, buf: Buffer, start: number, end: number): Buffer {
    const total = LENGTH_FIELD + RECORD_HEADER + (end - start) + TAG;
    const out = Buffer.allocUnsafe(total);
    this.#seal(type, buf, start, end, out, 0, total);
    return out;
  }

  /**
   * Seals bytes [start, end) of `buf` as one record where they are. Needs LENGTH_FIELD + RECORD_HEADER bytes in front
   * and TAG bytes behind them, which it overwrites. Returns the record, a view of `buf`.
   */
  sealInPlace(type: number, buf: Buffer, start: number, end: number): Buffer {
    const at = start - RECORD_HEADER - LENGTH_FIELD;
    this.#seal(type, buf, start, end, buf, at, end + TAG);
    return buf.subarray(at, end + TAG);
  }

  /** Seals a KEY_UPDATE and changes the key: every later record is under the new one. */
  keyUpdate(): Buffer {
    const record = this.seal(KEY_UPDATE, EMPTY, RECORD_HEADER, RECORD_HEADER);
    this.#cipher.rekey();
    this.#keyRecords = 0;
    this.#keyBytes = 0;
    return record;
  }

  /** How many there have been, over all keys. */
  get sealed(): number {
    return this.#cipher.n;
  }

  wipe(): void {
    this.#cipher.wipe();
  }

  #seal(
    type: number,
    buf: Buffer,
    start: number,
    end: number,
    out: Buffer,
    at: number,
    outEnd: number,
  ): void {
    if (this.exhausted) {
      throw new RecordError(
        'key-exhausted',
        `This end has not changed its key within ${this.#keyRecords} records and ${this.#keyBytes} bytes`,
      );
    }
    const payload = end - start;
    const plain = start - RECORD_HEADER;
    buf[plain] = type;
    buf[plain + 1] = payload >>> 8;
    buf[plain + 2] = payload;
    const length = outEnd - at - LENGTH_FIELD;
    out[at] = length >>> 8;
    out[at + 1] = length;
    this.#cipher.encryptInto(buf.subarray(plain, end), out, at + LENGTH_FIELD);
    this.#keyRecords++;
    this.#keyBytes += length;
  }
}

/** Where opened records go. */
export interface RecordSink {
  /** `payload` is valid until this returns. May pause or stop the reader, or throw RecordError. */
  record(type: number, payload: Buffer): void;
}

/**
 * Cuts one direction's bytes into records and opens them, straight from the chunk where a record is whole in it.
 * Follows the peer's rekeys. Not usable after an error.
 */
export class RecordReader {
  readonly #cipher: CipherState;
  readonly #limits: RecordLimits;
  readonly #sink: RecordSink;
  readonly #monotonic: () => number;
  #running = true;
  #stopped = false;
  /** Whole bytes that came while paused. */
  #held: Buffer | undefined;
  /** A record that has not come whole: its length field, then its ciphertext. */
  #partial = 0; // bytes of it that are here, length field included
  #length = 0; // its length field, once 2 bytes are here
  #carry: Buffer | undefined; // its ciphertext, from the pool
  #serial = 0;
  #keyRecords = 0;
  #updates = 0;
  #lastUpdate = 0;
  #recent = 0; // records since #recentSince
  #recentSince: number;

  /**
   * `monotonic` gives milliseconds; it is asked only about KEY_UPDATEs, and when as many records have come as a second
   * may bring.
   */
  constructor(cipher: CipherState, limits: RecordLimits, sink: RecordSink, monotonic: () => number) {
    this.#cipher = cipher;
    this.#limits = limits;
    this.#sink = sink;
    this.#monotonic = monotonic;
    this.#recentSince = monotonic();
  }

  /** 0, or a number that is different for each record that waits for its remaining bytes. */
  get waiting(): number {
    return this.#partial === 0 ? 0 : this.#serial;
  }

  /** How many records have been opened, over all keys: the number of the last one, counted from 0, is one less. */
  get opened(): number {
    return this.#cipher.n;
  }

  /** Takes what came from the wire; copies what it keeps. Throws RecordError. */
  push(chunk: Buffer): void {
    if (this.#stopped) return;
    if (!this.#running) {
      this.#held = this.#held === undefined ? Buffer.from(chunk) : Buffer.concat([this.#held, chunk]);
      return;
    }
    const end = chunk.length;
    let at = this.#partial === 0 ? 0 : this.#complete(chunk);
    while (this.#running && end - at >= LENGTH_FIELD) {
      const length = this.#checked(((chunk[at] as number) << 8) | (chunk[at + 1] as number));
      const next = at + LENGTH_FIELD + length;
      if (next > end) break;
      const sealed = chunk.subarray(at + LENGTH_FIELD, next);
      at = next;
      this.#open(sealed);
    }
    if (at >= end || this.#stopped) return;
    if (this.#running) this.#begin(chunk, at);
    else this.#held = Buffer.from(chunk.subarray(at));
  }

  /** No record is delivered from now on until resume(), also not from the chunk at hand. */
  pause(): void {
    this.#running = false;
  }

  resume(): void {
    if (this.#stopped) return;
    this.#running = true;
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.push(held);
  }

  /** No record is delivered any more; wipes the key. */
  stop(): void {
    this.#running = false;
    this.#stopped = true;
    this.#held = undefined;
    this.#dropCarry();
    this.#cipher.wipe();
  }

  #checked(length: number): number {
    if (length < MIN_LENGTH || length > this.#limits.maxLength) {
      throw new RecordError(
        'bad-record',
        `A record of ${length} bytes; ${MIN_LENGTH} to ${this.#limits.maxLength} are allowed`,
      );
    }
    return length;
  }

  /** Keeps the beginning of a record whose rest is still to come. */
  #begin(chunk: Buffer, at: number): void {
    this.#serial++;
    const here = chunk.length - at;
    this.#partial = here;
    if (here === 1) {
      this.#length = chunk[at] as number;
      return;
    }
    this.#length = ((chunk[at] as number) << 8) | (chunk[at + 1] as number);
    this.#carry = takeBuffer(this.#length);
    this.#carry.set(chunk.subarray(at + LENGTH_FIELD));
  }

  /** Goes on with the record that has begun; returns where the next one begins in `chunk`. */
  #complete(chunk: Buffer): number {
    let at = 0;
    if (this.#partial === 1) {
      if (chunk.length === 0) return 0;
      this.#length = this.#checked((this.#length << 8) | (chunk[0] as number));
      this.#carry = takeBuffer(this.#length);
      this.#partial = LENGTH_FIELD;
      at = 1;
    }
    const carry = this.#carry as Buffer;
    const have = this.#partial - LENGTH_FIELD;
    const take = Math.min(this.#length - have, chunk.length - at);
    carry.set(chunk.subarray(at, at + take), have);
    this.#partial += take;
    if (this.#partial < LENGTH_FIELD + this.#length) return chunk.length;
    this.#partial = 0;
    this.#open(carry.subarray(0, this.#length));
    return at + take;
  }

  #open(sealed: Buffer): void {
    if (++this.#recent > this.#limits.maxRecordsPerSecond) this.#checkRate();
    if (++this.#keyRecords >= this.#limits.maxKeyRecords) {
      throw new RecordError('key-exhausted', `The peer did not rekey within ${this.#keyRecords - 1} records`);
    }
    let plain: Buffer;
    try {
      plain = this.#cipher.decrypt(sealed);
    } catch (cause) {
      throw new RecordError(
        'bad-record',
        `Record ${this.#keyRecords} under key ${this.#updates} does not authenticate: bytes were changed, dropped, repeated or moved`,
        { cause },
      );
    }
    this.#dropCarry();
    const type = plain[0] as number;
    const end = RECORD_HEADER + (((plain[1] as number) << 8) | (plain[2] as number));
    if (end !== plain.length) checkPadding(plain, end);
    if (type === KEY_UPDATE) this.#keyUpdate(end - RECORD_HEADER);
    this.#sink.record(type, plain.subarray(RECORD_HEADER, end));
    discard(plain);
  }

  #checkRate(): void {
    const { maxRecordsPerSecond } = this.#limits;
    const now = this.#monotonic();
    if (now - this.#recentSince < 1000) {
      throw new RecordError('flood', `More than ${maxRecordsPerSecond} records in a second`, {
        flood: 'records',
      });
    }
    this.#recentSince = now;
    this.#recent = 1;
  }

  #keyUpdate(payload: number): void {
    if (payload !== 0)
      throw new RecordError('protocol-error', `A KEY_UPDATE with ${payload} bytes of payload`);
    const now = this.#monotonic();
    if (
      this.#updates > 0 &&
      this.#keyRecords < this.#limits.keyUpdateRecords &&
      now - this.#lastUpdate < this.#limits.keyUpdateMs
    ) {
      throw new RecordError('flood', `A KEY_UPDATE ${this.#keyRecords} records after the one before`, {
        flood: 'key-update',
      });
    }
    this.#lastUpdate = now;
    this.#updates++;
    this.#keyRecords = 0;
    this.#cipher.rekey();
  }

  #dropCarry(): void {
    const carry = this.#carry;
    if (carry === undefined) return;
    this.#carry = undefined;
    giveBuffer(carry);
  }
}

/** What follows the payload must be there and be zero. */
function checkPadding(plain: Buffer, end: number): void {
  if (end > plain.length) {
    throw new RecordError(
      'bad-record',
      `A record whose payload of ${end - RECORD_HEADER} bytes does not fit its ${plain.length} bytes`,
    );
  }
  const zero = plain[end] === 0 && plain.subarray(end, -1).equals(plain.subarray(end + 1));
  if (!zero) throw new RecordError('bad-record', 'A record whose padding is not zero');
}
