import type { Encoder } from '../hpack/encoder.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import type { ChunkQueue } from './chunkqueue.ts';
import { writeData, writeHeaders } from './frame.ts';
import type { Guard } from './guard.ts';
import type { Outbox } from './outbox.ts';
import { DEFAULT_WINDOW, MAX_WINDOW, type Settings } from './settings.ts';
import type { Stream } from './stream.ts';

const SWEEP_WAITING = 64; // streams that are over and still listed, above which the list is cleared of them

/**
 * Sends what streams have to say. Headers go out at once; DATA while the stream's window, the connection's
 * window (RFC 9113 section 5.2) and the sink allow it; the rest waits in its stream's queue, and streams take
 * turns, one frame each.
 */
export class Sender {
  readonly #out: Outbox;
  readonly #encoder: Encoder;
  /** The peer's settings, as they are at any time. */
  readonly #remote: Readonly<Settings>;
  readonly #guard: Guard;
  readonly #monotonic: () => number;
  /** Hears that END_STREAM has been written. */
  readonly #onEnded: (stream: Stream) => void;
  #window = DEFAULT_WINDOW;
  #waiting: Stream[] = [];
  #next = 0;
  #over = 0; // of #waiting
  #queued = 0;

  constructor(
    out: Outbox,
    encoder: Encoder,
    remote: Readonly<Settings>,
    guard: Guard,
    monotonic: () => number,
    onEnded: (stream: Stream) => void,
  ) {
    this.#out = out;
    this.#encoder = encoder;
    this.#remote = remote;
    this.#guard = guard;
    this.#monotonic = monotonic;
    this.#onEnded = onEnded;
  }

  /** Octets queued on all streams. */
  get queued(): number {
    return this.#queued;
  }

  sendHeaders(stream: Stream, list: HeaderList, fin: boolean): void {
    if (stream.localClosed || stream.finQueued) return;
    this.#writeHeaders(stream, list, fin);
    if (fin) this.#onEnded(stream);
  }

  sendTrailers(stream: Stream, list: HeaderList): void {
    if (stream.localClosed || stream.finQueued) return;
    if (stream.queued > 0) {
      stream.endQueue(list);
      return;
    }
    this.#writeHeaders(stream, list, true);
    this.#onEnded(stream);
  }

  #writeHeaders(stream: Stream, list: HeaderList, fin: boolean): void {
    const length = this.#encoder.encode(list);
    writeHeaders(this.#out, stream.id, this.#encoder.block, length, fin, this.#remote.maxFrameSize);
    this.#guard.progress();
  }

  /** Writes what may go now and queues a copy of the rest. Returns the octets done with. */
  sendData(stream: Stream, buf: Uint8Array, start: number, end: number, fin: boolean): number {
    const length = end - start;
    if (stream.localClosed || stream.finQueued) return length;
    if (stream.queued > 0) {
      this.#enqueue(stream, buf, start, end, fin);
      return 0;
    }
    if (length === 0) {
      // An empty frame needs no window and waits for no sink; it is only worth sending to end the stream.
      if (fin) this.#end(stream);
      return 0;
    }
    let at = start;
    // Whoever waits comes first, lest the newest octets take every window that opens.
    if (this.#next === this.#waiting.length) {
      while (at < end && this.#out.writable) {
        const n = Math.min(end - at, this.#remote.maxFrameSize, this.#window, stream.sendWindow);
        if (n <= 0) break;
        this.#write(stream, buf, at, at + n, fin && at + n === end);
        at += n;
      }
    }
    if (at < end) this.#enqueue(stream, buf, at, end, fin);
    else if (fin) this.#onEnded(stream);
    return at - start;
  }

  #write(stream: Stream, buf: Uint8Array, start: number, end: number, fin: boolean): void {
    writeData(this.#out, stream.id, buf, start, end, fin);
    this.#window -= end - start;
    stream.moveSendWindow(start - end);
    this.#guard.progress();
  }

  #end(stream: Stream): void {
    writeData(this.#out, stream.id, NOTHING, 0, 0, true);
    this.#onEnded(stream);
  }

  #enqueue(stream: Stream, buf: Uint8Array, start: number, end: number, fin: boolean): void {
    if (stream.queued === 0) stream.progress(this.#monotonic());
    stream.enqueue(buf, start, end);
    this.#queued += end - start;
    if (fin) stream.endQueue(undefined);
    this.wake(stream);
  }

  /** Queues octets that came before the stream was opened. */
  adopt(stream: Stream, queue: ChunkQueue, fin: boolean): void {
    stream.adopt(queue);
    stream.progress(this.#monotonic());
    this.#queued += queue.length;
    if (fin) stream.endQueue(undefined);
    this.wake(stream);
  }

  /** Lists a stream that may be able to send. */
  wake(stream: Stream): void {
    if (stream.waiting || stream.queued === 0 || stream.sendWindow <= 0) return;
    stream.setWaiting(true);
    this.#waiting.push(stream);
    if (this.canPump) this.#out.touch();
  }

  /** Adds a connection WINDOW_UPDATE; false if the window leaves its range. */
  grow(increment: number): boolean {
    this.#window += increment;
    if (this.canPump) this.#out.touch();
    return this.#window <= MAX_WINDOW;
  }

  /** Forgets the queue of a stream that is over. Returns the octets dropped. */
  drop(stream: Stream): number {
    const dropped = stream.dropQueue();
    this.#queued -= dropped;
    // A peer that opens no window must not make us remember all the streams that it has reset since.
    if (
      stream.waiting &&
      ++this.#over > SWEEP_WAITING &&
      this.#over * 2 > this.#waiting.length - this.#next
    ) {
      this.#waiting = this.#waiting.slice(this.#next).filter(({ closed }) => !closed);
      this.#next = 0;
      this.#over = 0;
    }
    return dropped;
  }

  /** Something that waits could be written now. */
  get canPump(): boolean {
    return this.#next < this.#waiting.length && this.#window > 0 && this.#out.writable;
  }

  /** Sends from the queues while windows and sink allow. */
  pump(): void {
    if (!this.canPump) return;
    const now = this.#monotonic();
    while (this.canPump) {
      const stream = this.#waiting[this.#next++] as Stream;
      this.#compact();
      stream.setWaiting(false);
      if (!stream.closed) this.#pumpOne(stream, now);
      else if (this.#over > 0) this.#over--;
    }
  }

  #compact(): void {
    if (this.#next === this.#waiting.length) {
      this.#waiting.length = 0;
    } else if (this.#next > 1024 && this.#next * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#next);
    } else {
      return;
    }
    this.#next = 0;
  }

  #pumpOne(stream: Stream, now: number): void {
    const queue = stream.queue;
    if (queue === undefined) return;
    let budget = Math.min(queue.length, stream.sendWindow, this.#window, this.#remote.maxFrameSize);
    let sent = 0;
    while (budget > 0) {
      const n = Math.min(budget, queue.contiguous);
      const last = n === queue.length && stream.finQueued && stream.trailersQueued === undefined;
      this.#write(stream, queue.chunk, queue.at, queue.at + n, last);
      // The sink may have ended the connection, and with it this queue.
      if (stream.closed) break;
      queue.skip(n);
      this.#queued -= n;
      budget -= n;
      sent += n;
    }
    if (sent === 0) return;
    stream.progress(now);
    if (queue.length > 0) this.wake(stream);
    else if (stream.finQueued) this.#endQueued(stream);
    stream.handler.onTaken(stream, sent);
  }

  /** The last octet of a stream's queue has been written, and nothing comes after it but the end. */
  #endQueued(stream: Stream): void {
    const trailers = stream.trailersQueued;
    stream.dropQueue();
    if (trailers !== undefined) this.#writeHeaders(stream, trailers, true);
    this.#onEnded(stream);
  }
}

const NOTHING = new Uint8Array(0);
