import { CopyTarget } from '../octets/copytarget.ts';
import { FRAME_HEADER } from './frame.ts';
import type { FrameLog } from './options.ts';
import type { ByteSink } from './sink.ts';

/**
 * Gathers the frames of one turn into a buffer of the sink and hands it over when it is full or flushed, so
 * that a turn costs one write and, inside a session, one record. Whatever is written asks for a flush by itself.
 */
export class Outbox {
  /** Hears of every frame, while it is set. */
  frameLog: FrameLog | undefined;
  readonly #sink: ByteSink;
  readonly #schedule: () => void;
  readonly #start: number;
  readonly #limit: number;
  readonly #target = new CopyTarget();
  #buf: Buffer | undefined;
  #pos = 0;
  #scheduled = false;
  #writable = true;
  #backlog = 0;
  #closed = false;

  /** `schedule` is called at most once between two calls of `endTurn`. */
  constructor(sink: ByteSink, schedule: () => void) {
    this.#sink = sink;
    this.#schedule = schedule;
    this.#start = sink.headroom;
    this.#limit = sink.headroom + sink.capacity;
  }

  /** False while the sink asks to hold DATA back. */
  get writable(): boolean {
    return this.#writable;
  }

  /** Octets that the sink was given although it asked to hold back: frames that cannot wait. */
  get backlog(): number {
    return this.#backlog;
  }

  /** Nothing is written any more. */
  get closed(): boolean {
    return this.#closed;
  }

  /** The sink has drained. */
  drained(): void {
    this.#writable = true;
    this.#backlog = 0;
  }

  /** Asks for a flush in this turn. */
  touch(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.#schedule();
  }

  /** The flush that was asked for is done. */
  endTurn(): void {
    this.#scheduled = false;
  }

  /** Drops what is gathered and everything that comes after: nothing follows a fatal GOAWAY. */
  close(): void {
    this.#closed = true;
    this.#buf = undefined;
    this.#target.release();
  }

  flush(): void {
    const buf = this.#buf;
    if (buf === undefined) return;
    this.#buf = undefined;
    this.#target.release();
    if (this.#closed || this.#pos === this.#start) return;
    if (!this.#writable) this.#backlog += this.#pos - this.#start;
    if (!this.#sink.write(buf, this.#start, this.#pos)) this.#writable = false;
  }

  /** Makes room for `octets` (at most the size of a frame header and fixed fields) in one piece. */
  #room(octets: number): Buffer {
    const buf = this.#buf;
    if (buf !== undefined && this.#pos + octets <= this.#limit) return buf;
    return this.#newBuffer();
  }

  #newBuffer(): Buffer {
    this.flush();
    // Closed, also by the write just made: what still comes goes nowhere.
    const buf = this.#closed ? Buffer.allocUnsafe(this.#limit) : this.#sink.acquire();
    this.#buf = buf;
    this.#target.use(buf);
    this.#pos = this.#start;
    this.touch();
    return buf;
  }

  frameHeader(length: number, type: number, flags: number, streamId: number): void {
    this.frameLog?.frame('out', type, flags, streamId, length);
    const buf = this.#room(FRAME_HEADER);
    const pos = this.#pos;
    buf[pos] = length >>> 16;
    buf[pos + 1] = length >>> 8;
    buf[pos + 2] = length;
    buf[pos + 3] = type;
    buf[pos + 4] = flags;
    buf[pos + 5] = streamId >>> 24;
    buf[pos + 6] = streamId >>> 16;
    buf[pos + 7] = streamId >>> 8;
    buf[pos + 8] = streamId;
    this.#pos = pos + FRAME_HEADER;
  }

  u16(value: number): void {
    const buf = this.#room(2);
    buf[this.#pos] = value >>> 8;
    buf[this.#pos + 1] = value;
    this.#pos += 2;
  }

  u32(value: number): void {
    const buf = this.#room(4);
    const pos = this.#pos;
    buf[pos] = value >>> 24;
    buf[pos + 1] = value >>> 16;
    buf[pos + 2] = value >>> 8;
    buf[pos + 3] = value;
    this.#pos = pos + 4;
  }

  /** Copies the octets [start, end) of `src`, over as many buffers as they need. `view` is one of `src`, if there is one. */
  bytes(src: Uint8Array, start: number, end: number, view?: DataView): void {
    while (start < end) {
      this.#room(1);
      const n = Math.min(end - start, this.#limit - this.#pos);
      this.#target.copy(src, start, this.#pos, n, view);
      this.#pos += n;
      start += n;
    }
  }
}
