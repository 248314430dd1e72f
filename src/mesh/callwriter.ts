import type { Stream } from '../http2/stream.ts';

/** So much of a call is kept to be said again. */
const MAX_KEPT = 256 * 1024; // octets

/** Whose writer may go on once so many octets have been taken. */
interface Flushed {
  readonly at: number;
  readonly callback: () => void;
}

/**
 * What a call has to say: from before it has a stream, while the stream's window is closed, and once more if the stream
 * was refused before the other side had seen it.
 */
export class CallWriter {
  #stream: Stream | undefined;
  /** Everything so far; undefined once it is too much, or will not be said again. */
  #kept: Buffer[] | undefined = [];
  #keptOctets = 0;
  #halfClosed = false;
  #ended = false;
  #given = 0;
  /** Of what was given, what the stream is done with. */
  #taken = 0;
  readonly #callbacks: Flushed[] = [];

  /** All that was said can be said again, on another stream. */
  get repeatable(): boolean {
    return this.#kept !== undefined;
  }

  /** `callback`: the octets are on their way, or will never be. */
  write(octets: Buffer, callback: (() => void) | undefined): void {
    if (this.#ended || this.#halfClosed) {
      if (callback !== undefined) process.nextTick(callback);
      return;
    }
    this.#given += octets.length;
    if (callback !== undefined) this.#callbacks.push({ at: this.#given, callback });
    this.#kept?.push(octets);
    this.#keptOctets += octets.length;
    if (this.#stream === undefined) return;
    this.#forget();
    this.#taken += this.#stream.send(octets, 0, octets.length, false);
    this.#callBack();
  }

  halfClose(): void {
    if (this.#halfClosed) return;
    this.#halfClosed = true;
    this.#stream?.send(NOTHING, 0, 0, true);
  }

  /** Says everything on `stream`. */
  use(stream: Stream): void {
    this.#stream = stream;
    this.#taken = 0;
    const kept = this.#kept ?? [];
    const last = kept.length - 1;
    for (let i = 0; i <= last; i++) {
      const octets = kept[i] as Buffer;
      this.#taken += stream.send(octets, 0, octets.length, this.#halfClosed && i === last);
    }
    if (this.#halfClosed && last < 0) stream.send(NOTHING, 0, 0, true);
    this.#forget();
    this.#callBack();
  }

  /** The stream was refused; another comes. */
  leave(): void {
    this.#stream = undefined;
  }

  /** The other side has seen the call. */
  commit(): void {
    this.#kept = undefined;
  }

  taken(octets: number): void {
    this.#taken += octets;
    this.#callBack();
  }

  /** Nothing more is said. */
  end(): void {
    this.#ended = true;
    this.#kept = undefined;
    this.#callBack();
  }

  #forget(): void {
    if (this.#keptOctets > MAX_KEPT) this.#kept = undefined;
  }

  #callBack(): void {
    for (let first = this.#callbacks[0]; first !== undefined; first = this.#callbacks[0]) {
      if (first.at > this.#taken && !this.#ended) return;
      this.#callbacks.shift();
      process.nextTick(first.callback);
    }
  }
}

const NOTHING = Buffer.alloc(0);
