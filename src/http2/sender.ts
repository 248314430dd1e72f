import { writeData } from './frame.ts';
import type { Outbox } from './outbox.ts';
import { DEFAULT_WINDOW, MAX_WINDOW } from './settings.ts';
import type { Stream } from './stream.ts';

/**
 * The sending half of flow control (RFC 9113 section 5.2): DATA goes out while the stream's window, the
 * connection's window and the sink allow it; the rest waits in its stream's queue, and streams take turns.
 */
export class Sender {
  readonly #out: Outbox;
  /** Writes what follows a stream's last queued octet: END_STREAM or trailers. */
  readonly #onEmpty: (stream: Stream) => void;
  #window = DEFAULT_WINDOW;
  #ready: Stream[] = [];
  #next = 0;
  #queued = 0;

  constructor(out: Outbox, onEmpty: (stream: Stream) => void) {
    this.#out = out;
    this.#onEmpty = onEmpty;
  }

  /** Octets queued on all streams. */
  get queued(): number {
    return this.#queued;
  }

  /** Adds a connection WINDOW_UPDATE; false if the window would leave its range. */
  grow(increment: number): boolean {
    this.#window += increment;
    return this.#window <= MAX_WINDOW;
  }

  /** Writes what may go now and queues a copy of the rest. Returns the octets written. */
  send(
    stream: Stream,
    buf: Uint8Array,
    start: number,
    end: number,
    fin: boolean,
    maxFrame: number,
    now: () => number,
  ): number {
    const length = end - start;
    if (stream.queue !== undefined && stream.queue.length > 0) {
      this.#enqueue(stream, buf, start, end, fin);
      return 0;
    }
    if (length <= maxFrame && length <= this.#window && length <= stream.sendWindow && this.#out.writable) {
      writeData(this.#out, stream.id, buf, start, end, fin);
      this.#window -= length;
      stream.sendWindow -= length;
      return length;
    }
    let at = start;
    while (at < end && this.#out.writable) {
      const n = Math.min(end - at, maxFrame, this.#window, stream.sendWindow);
      if (n <= 0) break;
      writeData(this.#out, stream.id, buf, at, at + n, fin && at + n === end);
      this.#window -= n;
      stream.sendWindow -= n;
      at += n;
    }
    if (at < end) {
      stream.progressAt = now();
      this.#enqueue(stream, buf, at, end, fin);
    } else if (length === 0) {
      // An empty frame needs no window, and waits for no sink: it only ends the stream.
      writeData(this.#out, stream.id, buf, start, end, fin);
    }
    return at - start;
  }

  #enqueue(stream: Stream, buf: Uint8Array, start: number, end: number, fin: boolean): void {
    stream.enqueue(buf, start, end);
    this.#queued += end - start;
    if (fin) stream.finQueued = true;
    this.wake(stream);
  }

  /** A stream got a queue from elsewhere (octets that came before it was opened). */
  adopt(stream: Stream, now: number): void {
    this.#queued += stream.queued;
    stream.progressAt = now;
    this.wake(stream);
  }

  /** Puts a stream that may be able to send into the turn. */
  wake(stream: Stream): void {
    if (stream.ready || stream.queued === 0 || stream.sendWindow <= 0) return;
    stream.ready = true;
    this.#ready.push(stream);
  }

  /** Forgets the queue of a stream that is over. Returns the octets dropped. */
  drop(stream: Stream): number {
    const dropped = stream.queued;
    this.#queued -= dropped;
    stream.queue?.clear();
    stream.finQueued = false;
    stream.trailersQueued = undefined;
    return dropped;
  }

  get canPump(): boolean {
    return this.#next < this.#ready.length && this.#window > 0 && this.#out.writable;
  }

  /** Sends from the queues, one frame a stream in turn, while windows and sink allow. */
  pump(maxFrame: number, now: number): void {
    while (this.#next < this.#ready.length && this.#window > 0 && this.#out.writable) {
      const stream = this.#ready[this.#next++] as Stream;
      if (this.#next > 1024 && this.#next * 2 > this.#ready.length) {
        this.#ready = this.#ready.slice(this.#next);
        this.#next = 0;
      }
      stream.ready = false;
      const n = Math.min(stream.queued, stream.sendWindow, this.#window, maxFrame);
      if (stream.closed || n <= 0) continue;
      this.#sendQueued(stream, n);
      stream.progressAt = now;
      const emptied = stream.queued === 0;
      if (!emptied) this.wake(stream);
      stream.handler.onTaken(stream, n);
      if (emptied && !stream.closed) this.#onEmpty(stream);
    }
    if (this.#next === this.#ready.length) {
      this.#ready.length = 0;
      this.#next = 0;
    }
  }

  #sendQueued(stream: Stream, n: number): void {
    const queue = stream.queue;
    if (queue === undefined) return;
    this.#window -= n;
    stream.sendWindow -= n;
    this.#queued -= n;
    queue.shift(n, (chunk, start, end) => {
      n -= end - start;
      const last = n === 0 && queue.length === 0;
      // END_STREAM rides on the last octets; trailers go out behind them.
      writeData(this.#out, stream.id, chunk, start, end, last && this.#endsStream(stream));
    });
  }

  #endsStream(stream: Stream): boolean {
    return stream.finQueued && stream.trailersQueued === undefined;
  }
}
