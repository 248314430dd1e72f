import { newView, viewOf } from './view.ts';

const NOTHING = new Uint8Array(0);

/** Below this, octet by octet is as fast as anything. */
const TINY = 8;
/** From here on the runtime's own copy is faster, although it needs a view that is garbage at once. */
const LONG = 128;

/**
 * A buffer to which short runs of octets are copied, four at a time: what frames of small calls consist of. A loop over
 * octets takes three times as long, and a call into the runtime as long for 8 octets as for 128.
 */
export class CopyTarget {
  #buf: Uint8Array;
  #view: DataView | undefined;

  constructor(buf: Uint8Array = NOTHING) {
    this.#buf = buf;
  }

  /** Changes the buffer. */
  use(buf: Uint8Array): void {
    this.#buf = buf;
    this.#view = undefined;
  }

  /** Keeps no buffer alive until the next `use`. */
  release(): void {
    this.use(NOTHING);
  }

  /**
   * Copies the octets [from, from + n) of `src`, which is other memory than the buffer's, to `to`. `known` is a view of
   * `src`, if there is one.
   */
  copy(src: Uint8Array, from: number, to: number, n: number, known?: DataView): void {
    const buf = this.#buf;
    if (n < TINY) {
      for (let i = 0; i < n; i++) buf[to + i] = src[from + i] as number;
      return;
    }
    if (n >= LONG) {
      buf.set(src.subarray(from, from + n), to);
      return;
    }
    const view = known ?? viewOf(src);
    this.#view ??= newView(buf);
    const target = this.#view;
    const last = n - 8;
    for (let i = 0; i < last; i += 8) {
      const a = view.getInt32(from + i, true);
      const b = view.getInt32(from + i + 4, true);
      target.setInt32(to + i, a, true);
      target.setInt32(to + i + 4, b, true);
    }
    // The last eight, some of them perhaps for the second time.
    const a = view.getInt32(from + last, true);
    const b = view.getInt32(from + last + 4, true);
    target.setInt32(to + last, a, true);
    target.setInt32(to + last + 4, b, true);
  }
}
