const SMALL_CHUNK = 4096; // octets; the first chunk of a queue that holds little
const LARGE_CHUNK = 65_536; // octets
/** A queue with so many octets may have a large chunk that was free: a frame of the usual largest size. */
const MUCH = 16_384;

/**
 * Large chunks that are free, of all queues of the process: buffers that are dropped are freed only by a collection of
 * garbage, and a stream through a queue would drop as many octets as it carries.
 */
const free: Buffer[] = [];
const FREE_CHUNKS = 64;

/**
 * A byte queue that owns what it holds: octets are copied in, so that no read buffer stays pinned. Its chunks
 * are at most about twice as large as what it holds, between 4 KiB and 64 KiB each; from 16 KiB on they may be
 * larger ones that were free.
 *
 * To read: the octets [at, at + contiguous) of `chunk` are the first; `skip` forgets as many as were used.
 */
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
    while (start < end) {
      let last = this.#chunks[this.#chunks.length - 1];
      if (last === undefined || this.#tail === last.length) {
        last = newChunk(Math.max(end - start, this.#length));
        this.#chunks.push(last);
        this.#tail = 0;
      }
      const n = Math.min(end - start, last.length - this.#tail);
      last.set(buf.subarray(start, start + n), this.#tail);
      this.#tail += n;
      this.#length += n;
      start += n;
    }
  }

  /** The chunk with the first octet. Only while `length` > 0. */
  get chunk(): Buffer {
    return this.#chunks[0] as Buffer;
  }

  /** Where the first octet lies in `chunk`. */
  get at(): number {
    return this.#head;
  }

  /** How many octets lie there in one piece. */
  get contiguous(): number {
    if (this.#length === 0) return 0;
    return (this.#chunks.length === 1 ? this.#tail : (this.#chunks[0] as Buffer).length) - this.#head;
  }

  /** Forgets the first `n` octets; `n` is at most `contiguous`. */
  skip(n: number): void {
    this.#length -= n;
    this.#head += n;
    if (this.#length > 0 && this.#head < (this.#chunks[0] as Buffer).length) return;
    const chunk = this.#chunks.shift();
    if (chunk?.length === LARGE_CHUNK && free.length < FREE_CHUNKS) free.push(chunk);
    this.#head = 0;
    if (this.#length === 0) this.clear();
  }

  clear(): void {
    if (this.#chunks.length > 0) this.#chunks = [];
    this.#head = 0;
    this.#tail = 0;
    this.#length = 0;
  }
}

/** A chunk for `octets`, or for the first of them. */
function newChunk(octets: number): Buffer {
  // Slow: a pooled slice would pin memory of others for as long as this stream stalls.
  return (octets >= MUCH ? free.pop() : undefined) ?? Buffer.allocUnsafeSlow(chunkSize(octets));
}

/** The power of two that holds `octets`, within bounds. */
function chunkSize(octets: number): number {
  if (octets <= SMALL_CHUNK) return SMALL_CHUNK;
  if (octets > LARGE_CHUNK / 2) return LARGE_CHUNK;
  return 2 ** Math.ceil(Math.log2(octets));
}
