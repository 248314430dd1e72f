import type { Call } from './call.ts';
import { RelayError } from './errors.ts';

/**
 * What the headers of waiting calls may have on average, in octets of HTTP/2's list size (RFC 9113, 6.5.2): headers know no
 * flow control, and whoever opens calls that nobody takes must not fill the memory with them.
 */
const MEAN_HEADERS = 16 * 1024;

/** Calls that wait in one place, in the order of their coming: bounded in number, and by what their headers hold. */
export class WaitingCalls {
  readonly #max: number;
  readonly #what: string;
  /** With the octets of its headers when it came. */
  readonly #calls = new Map<Call, number>();
  #octets = 0;

  /** At most `max` calls; `what` they wait for, in the errors: `an address of greeter.shop`. */
  constructor(max: number, what: string) {
    this.#max = max;
    this.#what = what;
  }

  get size(): number {
    return this.#calls.size;
  }

  has(call: Call): boolean {
    return this.#calls.has(call);
  }

  [Symbol.iterator](): MapIterator<Call> {
    return this.#calls.keys();
  }

  /** Adds a call, or fails it as `queue-full`. One that waits alone may have headers of any size. */
  add(call: Call): boolean {
    const { size } = this.#calls;
    const octets = call.headerOctets;
    if (size >= this.#max) {
      call.fail(this.#full(`${size} calls wait for ${this.#what} already`));
      return false;
    }
    if (size > 0 && this.#octets + octets > this.#max * MEAN_HEADERS) {
      const held = `${size} calls with ${this.#octets} octets of metadata wait for ${this.#what} already`;
      call.fail(this.#full(held));
      return false;
    }
    this.#calls.set(call, octets);
    this.#octets += octets;
    return true;
  }

  delete(call: Call): void {
    this.#octets -= this.#calls.get(call) ?? 0;
    this.#calls.delete(call);
  }

  #full(held: string): RelayError {
    return new RelayError('queue-full', `${held}; slow down or raise http2.queuedCalls`);
  }
}
