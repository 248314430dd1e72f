/** Bytes of a handshake that have come and are not used yet: grows by doubling, so that single bytes stay cheap. */
export class Inbox {
  #buf = Buffer.alloc(0);
  #length = 0;

  push(chunk: Uint8Array): void {
    const length = this.#length + chunk.length;
    if (length > this.#buf.length) {
      const grown = Buffer.allocUnsafe(Math.max(length, 2 * this.#buf.length, 256));
      grown.set(this.bytes);
      this.#buf = grown;
    }
    this.#buf.set(chunk, this.#length);
    this.#length = length;
  }

  /** All of it: a view that is valid until the next push or take. */
  get bytes(): Buffer {
    return this.#buf.subarray(0, this.#length);
  }

  /** Removes the first `length` bytes and returns them in a buffer of their own. */
  take(length: number): Buffer {
    const taken = Buffer.from(this.#buf.subarray(0, length));
    this.#buf.copyWithin(0, length, this.#length);
    this.#length -= length;
    return taken;
  }
}
