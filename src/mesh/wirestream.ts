import { Duplex } from 'node:stream';
import type { MemoryWire } from '../relay/memorywire.ts';

type Callback = (error?: Error | null) => void;

/**
 * A MemoryWire as a stream of octets, for what speaks HTTP/2 by itself. As with a socket, `end` lets the other end read
 * what was written and ends both directions, as HTTP/2 has no half-closed connections; a write after the other end has
 * gone fails with ECONNRESET.
 */
export class WireStream extends Duplex {
  readonly #wire: MemoryWire;
  #gone = false;
  /** The writer that waits for room. */
  #writer: Callback | undefined;

  constructor(wire: MemoryWire) {
    super({ allowHalfOpen: false });
    this.#wire = wire;
    const onDrain = (): void => this.#goOn(null);
    const onClose = (_reason: string, detail: string): void => this.#closed(detail);
    const onData = (octets: Buffer): void => {
      if (!this.push(Buffer.from(octets))) wire.pause();
    };
    wire.onDrain = onDrain;
    wire.onClose = onClose;
    wire.onData = onData;
  }

  override _read(): void {
    this.#wire.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#put([chunk], callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: Callback): void {
    this.#put(
      chunks.map(({ chunk }) => chunk),
      callback,
    );
  }

  override _final(callback: Callback): void {
    this.#wire.close();
    callback();
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#wire.destroy('shutdown');
    this.#goOn(error ?? reset('the stream was destroyed'));
    callback(error);
  }

  /** Copies chunks into as few buffers of the wire as they need. */
  #put(chunks: readonly Buffer[], callback: Callback): void {
    if (this.#gone) {
      callback(reset('the other end has gone'));
      return;
    }
    const wire = this.#wire;
    let buffer = wire.acquire();
    let at = 0;
    for (const chunk of chunks) {
      for (let from = 0; from < chunk.length; ) {
        if (at === wire.capacity) {
          wire.write(buffer, 0, at);
          buffer = wire.acquire();
          at = 0;
        }
        const n = chunk.copy(buffer, at, from, from + wire.capacity - at);
        from += n;
        at += n;
      }
    }
    if (wire.write(buffer, 0, at)) callback();
    else this.#writer = callback;
  }

  #goOn(error: Error | null): void {
    const writer = this.#writer;
    this.#writer = undefined;
    writer?.(error);
  }

  #closed(detail: string): void {
    this.#gone = true;
    if (this.destroyed) return;
    if (detail !== '') {
      this.destroy(reset(detail));
      return;
    }
    this.push(null);
    this.#goOn(reset('the other end has gone'));
  }
}

function reset(message: string): Error {
  return Object.assign(new Error(message), { code: 'ECONNRESET' });
}
