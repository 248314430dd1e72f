const SMALL_CHUNK = 4096; // octets; the first chunk of a queue that holds little
const LARGE_CHUNK = 65_536; // octets

/** A byte queue that owns what it holds: bytes are copied in, so that no read buffer stays pinned. */
export class ChunkQueue {
  #chunks: Buffer[] = [];
  #head = 0; // first unread octet of the first chunk
  #tail = 0; // first free octet of the last chunk
  #length = 0;

  /** Octets held. */
  get length(): number {
    return this.#length;
  }

  push(buf: Uint8Array, start: number, end: number): void {
    this.#length += end - start;
    while (start < end) {
      let last = this.#chunks[this.#chunks.length - 1];
      if (last === undefined || this.#tail === last.length) {
        const size = this.#chunks.length > 0 || end - start > SMALL_CHUNK ? LARGE_CHUNK : SMALL_CHUNK;
        // Slow: a pooled slice would pin memory of others for as long as this stream stalls.
        last = Buffer.allocUnsafeSlow(size);
        this.#chunks.push(last);
        this.#tail = 0;
        if (this.#chunks.length === 1) this.#head = 0;
      }
      const n = Math.min(end - start, last.length - this.#tail);
      last.set(buf.subarray(start, start + n), this.#tail);
      this.#tail += n;
      start += n;
    }
  }

  /** Passes up to `n` octets from the front to `take`, in pieces of one chunk, and forgets them. */
  shift(n: number, take: (chunk: Buffer, start: number, end: number) => void): void {
    let left = Math.min(n, this.#length);
    this.#length -= left;
    while (left > 0) {
      const first = this.#chunks[0] as Buffer;
      const end = this.#chunks.length === 1 ? this.#tail : first.length;
      const piece = Math.min(left, end - this.#head);
      take(first, this.#head, this.#head + piece);
      this.#head += piece;
      left -= piece;
      if (this.#head === end && (this.#chunks.length > 1 || this.#length === 0)) {
        this.#chunks.shift();
        this.#head = 0;
        if (this.#chunks.length === 0) this.#tail = 0;
      }
    }
  }

  clear(): void {
    this.#chunks = [];
    this.#head = 0;
    this.#tail = 0;
    this.#length = 0;
  }
}
