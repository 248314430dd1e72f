import { ConnectionError, ErrorCode } from './errors.ts';

/** Collects the fragments of a header block that does not fit one frame (RFC 9113 section 6.10). */
export class HeaderBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly #maxFrames: number;
  readonly #maxBytes: number;
  #frames = 0;
  #fragments: Buffer[] = [];
  #length = 0;

  constructor(streamId: number, endStream: boolean, maxFrames: number, maxBytes: number) {
    this.streamId = streamId;
    this.endStream = endStream;
    this.#maxFrames = maxFrames;
    this.#maxBytes = maxBytes;
  }

  /** Copies a fragment. Throws ConnectionError when the block has too many frames or octets. */
  add(buf: Buffer, start: number, end: number): void {
    this.#length += end - start;
    if (++this.#frames > this.#maxFrames) {
      throw new ConnectionError(
        ErrorCode.ENHANCE_YOUR_CALM,
        `header block of more than ${this.#maxFrames} frames`,
        { kind: 'continuation' },
      );
    }
    if (this.#length > this.#maxBytes) {
      throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, `header block above ${this.#maxBytes} octets`, {
        kind: 'header-list',
      });
    }
    this.#fragments.push(Buffer.from(buf.subarray(start, end)));
  }

  join(): Buffer {
    return Buffer.concat(this.#fragments, this.#length);
  }
}
