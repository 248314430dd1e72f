import { giveBuffer, RECORD_BUFFER, SMALL, takeBuffer } from '../transport/bufferpool.ts';
import type { RecordFlood } from '../transport/errors.ts';
import type { Wire } from './wire.ts';

/** Above this many octets under way the writer holds DATA back. */
const HIGH_WATER = 524_288;
/** Above this many the other end takes nothing of what it makes us answer: it is cut off. */
const MAX_BACKLOG = 16 * 1024 * 1024;
/** Above this many the reader is slow: buffers that are not half full are not left with it. */
const SLOW = 65_536;
/** How long an ended wire waits for its other end to read what it wrote last. */
const LINGER_MS = 2000;

const ignore = (): void => {};

/** What was written and has not been read, in a buffer of the pool or a copy. */
interface Piece {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

/**
 * Two wires that end in each other, for an app in this process. What one end writes the other reads in a later turn of
 * the event loop, as with a socket; only what is small is copied.
 */
export function memoryWires(): [MemoryWire, MemoryWire] {
  const one = new MemoryWire();
  const other = new MemoryWire();
  one.meet(other);
  other.meet(one);
  return [one, other];
}

export class MemoryWire implements Wire {
  readonly headroom = 0;
  readonly capacity = RECORD_BUFFER;
  readonly silent = false;
  onDrain: () => void = ignore;
  onClose: (reason: string, detail: string, flood?: RecordFlood) => void = ignore;
  #onData: ((octets: Buffer) => void) | undefined;
  #other: MemoryWire = this;
  /** What the other end has written. */
  #inbox: Piece[] = [];
  #unread = 0;
  #paused = false;
  #scheduled = false;
  /** The other end holds DATA back. */
  #writerWaits = false;
  /** Nothing is written here any more. */
  #ended = false;
  #closed = false;
  #linger: NodeJS.Timeout | undefined;

  /** For memoryWires: says where it ends. */
  meet(other: MemoryWire): void {
    this.#other = other;
  }

  get backlog(): number {
    return this.#other.#unread;
  }

  set onData(listener: (octets: Buffer) => void) {
    this.#onData = listener;
    this.#schedule();
  }

  /** Nothing is read, nor is the other end's close seen, until `resume`. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#schedule();
  }

  acquire(): Buffer {
    return takeBuffer(RECORD_BUFFER);
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    const other = this.#other;
    if (this.#ended || other.#closed) {
      giveBuffer(buffer);
      return true;
    }
    const length = end - start;
    if (length < SMALL || (other.#unread > SLOW && length * 2 < RECORD_BUFFER)) {
      other.#inbox.push({ buffer: Buffer.from(buffer.subarray(start, end)), start: 0, end: length });
      giveBuffer(buffer);
    } else {
      other.#inbox.push({ buffer, start, end });
    }
    other.#unread += length;
    other.#schedule();
    // Later, because whoever writes does not expect the end.
    if (other.#unread > MAX_BACKLOG) setImmediate(MemoryWire.#cutOff, this);
    // Whoever was asked to hold back is told of room, however much is written meanwhile.
    other.#writerWaits ||= other.#unread >= HIGH_WATER;
    return !other.#writerWaits;
  }

  draining(): void {}

  /** HTTP/2 has no half-closed connections: the other end reads what was written, then both are gone. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#other.#schedule();
    this.#linger = setTimeout(MemoryWire.#lingered, LINGER_MS, this).unref();
  }

  /** Gone at once; the other end may still read what was written. */
  destroy(reason: 'shutdown'): void {
    this.#gone(this.#ended ? 'local-closed' : reason, '');
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(MemoryWire.#deliver, this);
  }

  static #deliver(wire: MemoryWire): void {
    wire.#scheduled = false;
    wire.#read();
  }

  static #lingered(wire: MemoryWire): void {
    wire.#gone('local-closed', '');
  }

  static #cutOff(wire: MemoryWire): void {
    const other = wire.#other;
    if (other.#unread <= MAX_BACKLOG) return;
    wire.#gone('flood', `it has not taken ${MAX_BACKLOG} octets of what it was sent`, 'backlog');
    other.#gone('peer-closed', `cut off with ${MAX_BACKLOG} octets unread`);
  }

  #read(): void {
    const onData = this.#onData;
    if (onData === undefined) return;
    const pieces = this.#inbox;
    this.#inbox = [];
    let at = 0;
    // Whoever hears of a piece may pause the wire, or end it.
    while (at < pieces.length && !this.#paused && !this.#closed) {
      const { buffer, start, end } = pieces[at++] as Piece;
      this.#unread -= end - start;
      onData(buffer.subarray(start, end));
      giveBuffer(buffer);
    }
    if (at < pieces.length) this.#inbox = [...pieces.slice(at), ...this.#inbox];
    if (this.#closed) this.#drop();
    else this.#afterRead();
  }

  #afterRead(): void {
    const other = this.#other;
    if (this.#writerWaits && this.#unread < HIGH_WATER) {
      this.#writerWaits = false;
      if (!other.#ended) other.onDrain();
    }
    if (other.#ended && this.#inbox.length === 0 && !this.#paused) {
      this.#gone(this.#ended ? 'local-closed' : 'peer-closed', '');
    }
  }

  #gone(reason: string, detail: string, flood?: RecordFlood): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended = true;
    clearTimeout(this.#linger);
    this.#drop();
    this.#other.#schedule();
    this.onClose(reason, detail, flood);
  }

  #drop(): void {
    for (const { buffer } of this.#inbox) giveBuffer(buffer);
    this.#inbox = [];
    this.#unread = 0;
  }
}
