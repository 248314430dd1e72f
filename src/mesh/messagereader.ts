/** Length-prefixed messages of a gRPC stream ("gRPC over HTTP/2"), taken one by one. */
import { GrpcStatus } from '../relay/errors.ts';

const PREFIX = 5; // compressed flag u8, length u32
/** Smaller pieces are joined up to so many octets. */
const JOINED = 1024;

/** A message that cannot be taken; `code` is a gRPC status. */
export class MessageError extends Error {
  override readonly name = 'MessageError';
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Octets go in as they come and are copied; a message comes out when it is asked for. Octets count as taken when they
 * are part of a message that is being read: only then may the sender send more, so that a caller that does not read
 * holds no more than a window.
 */
export class MessageReader {
  readonly #maxLength: number;
  readonly #source: { credit(octets: number): void };
  readonly #chunks = new Pieces();
  #held = 0;
  readonly #prefix = Buffer.alloc(PREFIX);
  #prefixed = 0;
  /** Pieces of the message under way, and how many octets are missing. */
  readonly #parts = new Pieces();
  #missing = 0;

  /** `maxLength`: octets of a message, -1 for no limit. `source` is credited with octets that the reader is done with. */
  constructor(maxLength: number, source: { credit(octets: number): void }) {
    this.#maxLength = maxLength < 0 ? Number.POSITIVE_INFINITY : maxLength;
    this.#source = source;
  }

  /** Nothing is held, and no message has begun. */
  get empty(): boolean {
    return this.#held === 0 && this.#prefixed === 0;
  }

  push(octets: Uint8Array): void {
    this.#chunks.push(octets, false);
    this.#held += octets.length;
  }

  /** The next message, once it is whole. Throws MessageError. */
  next(): Buffer | undefined {
    const before = this.#held;
    while (this.#prefixed < PREFIX && this.#held > 0) {
      const piece = this.#take(PREFIX - this.#prefixed);
      this.#prefix.set(piece, this.#prefixed);
      this.#prefixed += piece.length;
      if (this.#prefixed === PREFIX) this.#missing = this.#length();
    }
    while (this.#missing > 0 && this.#held > 0) {
      const piece = this.#take(this.#missing);
      this.#parts.push(piece, true);
      this.#missing -= piece.length;
    }
    if (before > this.#held) this.#source.credit(before - this.#held);
    if (this.#prefixed < PREFIX || this.#missing > 0) return undefined;
    this.#prefixed = 0;
    return this.#parts.takeAll();
  }

  #length(): number {
    const length = this.#prefix.readUInt32BE(1);
    if (this.#prefix[0] !== 0) {
      throw new MessageError(
        GrpcStatus.INTERNAL,
        'the server compressed a message, which it was not offered',
      );
    }
    if (length > this.#maxLength) {
      throw new MessageError(
        GrpcStatus.RESOURCE_EXHAUSTED,
        `Received message larger than max (${length} vs ${this.#maxLength})`,
      );
    }
    return length;
  }

  /** At most `most` of the octets that came first. */
  #take(most: number): Buffer {
    const { list } = this.#chunks;
    const first = list[0] as Buffer;
    const piece = first.subarray(0, most);
    if (piece.length === first.length) list.shift();
    else list[0] = first.subarray(piece.length);
    this.#held -= piece.length;
    return piece;
  }
}

/**
 * Octets in the order of their coming. Small pieces that follow one another share a buffer: with one an octet, a peer that
 * sends octet by octet would have us keep a hundred times what it may.
 */
class Pieces {
  readonly list: Buffer[] = [];
  /** Where small pieces are joined: nobody else has it. */
  #room = NOTHING;
  #used = 0;

  /** `owned`: the octets will not change, and need no copy. */
  push(octets: Uint8Array, owned: boolean): void {
    const { list } = this;
    const last = list.at(-1);
    if (last === undefined || last.length + octets.length > JOINED) {
      list.push(owned ? (octets as Buffer) : Buffer.from(octets));
      return;
    }
    if (this.#used + octets.length > this.#room.length) {
      this.#room = Buffer.allocUnsafeSlow(JOINED);
      this.#used = 0;
    }
    const room = this.#room;
    const at = this.#used;
    room.set(octets, at);
    this.#used += octets.length;
    const follows = last.buffer === room.buffer && last.byteOffset + last.length === at;
    if (follows) list[list.length - 1] = room.subarray(last.byteOffset, this.#used);
    else list.push(room.subarray(at, this.#used));
  }

  /** All of them as one, which they are no longer. */
  takeAll(): Buffer {
    const { list } = this;
    const [only] = list;
    const all = only !== undefined && list.length === 1 ? only : Buffer.concat(list);
    list.length = 0;
    // What was joined last belongs to whoever has it now.
    this.#room = NOTHING;
    this.#used = 0;
    return all;
  }
}

const NOTHING = Buffer.alloc(0);

/** A message with its prefix. */
export function framed(message: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(PREFIX + message.length);
  out[0] = 0;
  out.writeUInt32BE(message.length, 1);
  out.set(message, PREFIX);
  return out;
}
