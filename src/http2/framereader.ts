import type { ConnectionError } from './errors.ts';
import { FRAME_HEADER, FrameType } from './frame.ts';

const NOTHING = Buffer.alloc(0);
const SMALL_CARRY = 256; // octets
const LARGE_CARRY = 2048; // octets, above which room for the largest frame is made

/** Takes whole frames: the payload is buf[start, end), valid until the call returns. False stops reading. */
export interface FrameHandler {
  onFrame(type: number, flags: number, streamId: number, buf: Buffer, start: number, end: number): boolean;
  /** What to throw at a frame of so many octets, which is above our SETTINGS_MAX_FRAME_SIZE. */
  tooLarge(type: number, octets: number): ConnectionError;
}

/**
 * Cuts a byte stream into frames (RFC 9113 section 4.1). Frames that lie whole in a chunk are handed on where
 * they lie; only one that is split between chunks is copied.
 */
export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #maxFrameSize: number;
  #carry: Buffer = NOTHING;
  #carried = 0;

  constructor(handler: FrameHandler, maxFrameSize: number) {
    this.#handler = handler;
    this.#maxFrameSize = maxFrameSize;
  }

  /** The type of the frame that has begun and not ended, if its header is here. */
  get partialType(): number | undefined {
    return this.#carried >= FRAME_HEADER ? this.#carry[3] : undefined;
  }

  /** Throws ConnectionError as soon as a header names a frame above our SETTINGS_MAX_FRAME_SIZE. */
  feed(chunk: Buffer): void {
    let pos = 0;
    if (this.#carried > 0) {
      pos = this.#complete(chunk);
      if (pos < 0) return;
    }
    const end = chunk.length;
    const handler = this.#handler;
    while (end - pos >= FRAME_HEADER) {
      const length = this.#length(chunk, pos);
      const body = pos + FRAME_HEADER;
      if (end - body < length) break;
      pos = body + length;
      if (
        !handler.onFrame(
          chunk[body - 6] as number,
          chunk[body - 5] as number,
          id(chunk, body - 4),
          chunk,
          body,
          pos,
        )
      ) {
        return;
      }
    }
    if (pos < end) this.#keep(chunk, pos);
  }

  #length(buf: Buffer, at: number): number {
    const length = ((buf[at] as number) << 16) | ((buf[at + 1] as number) << 8) | (buf[at + 2] as number);
    if (length > this.#maxFrameSize) throw this.#handler.tooLarge(buf[at + 3] as number, length);
    return length;
  }

  /** Adds to the carried frame; returns where the next frame begins in `chunk`, or -1 to stop. */
  #complete(chunk: Buffer): number {
    let pos = 0;
    if (this.#carried < FRAME_HEADER) {
      pos = Math.min(FRAME_HEADER - this.#carried, chunk.length);
      this.#add(chunk, 0, pos);
      if (this.#carried < FRAME_HEADER) return -1;
    }
    const total = FRAME_HEADER + this.#length(this.#carry, 0);
    this.#reserve(total);
    const take = Math.min(total - this.#carried, chunk.length - pos);
    this.#add(chunk, pos, pos + take);
    pos += take;
    if (this.#carried < total) return -1;
    this.#carried = 0;
    const carry = this.#carry;
    const type = carry[3] as number;
    const more = this.#handler.onFrame(type, carry[4] as number, id(carry, 5), carry, FRAME_HEADER, total);
    return more ? pos : -1;
  }

  #keep(chunk: Buffer, pos: number): void {
    const isHeader = chunk.length - pos >= FRAME_HEADER;
    this.#reserve(FRAME_HEADER + (isHeader ? this.#length(chunk, pos) : 0));
    this.#add(chunk, pos, chunk.length);
  }

  #add(chunk: Buffer, start: number, end: number): void {
    this.#carry.set(chunk.subarray(start, end), this.#carried);
    this.#carried += end - start;
  }

  /** Makes room for a frame. Most connections never carry a large one. */
  #reserve(octets: number): void {
    if (octets <= this.#carry.length) return;
    const room = Math.max(SMALL_CARRY, octets > LARGE_CARRY ? FRAME_HEADER + this.#maxFrameSize : octets);
    const larger = Buffer.allocUnsafeSlow(room);
    larger.set(this.#carry.subarray(0, this.#carried));
    this.#carry = larger;
  }
}

function id(buf: Buffer, at: number): number {
  return (
    (((buf[at] as number) & 0x7f) << 24) |
    ((buf[at + 1] as number) << 16) |
    ((buf[at + 2] as number) << 8) |
    (buf[at + 3] as number)
  );
}

/** The frame types that carry a header block. */
export function carriesHeaders(type: number | undefined): boolean {
  return type === FrameType.HEADERS || type === FrameType.CONTINUATION;
}
