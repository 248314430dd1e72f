import type { Connection } from '../http2/connection.ts';

/** So many connections gather at a time; before more begin, these hand over what they have, and their buffers with it. */
const GATHERING = 64;

/** Reads above this many octets are part of a bulk transfer, which gains by gathering and not by haste. */
const SMALL_READ = 4096;

/**
 * Flushes every connection that has something to write, once a turn of the event loop: after all sockets that
 * were readable have been read, so that what they bring for one peer becomes one write and one record. While no
 * more than one call is open there is nothing to gather, and what a read has brought goes out at its end.
 */
export class Turn {
  #due: Connection[] = [];
  /** How many of them have handed over. */
  #handedOver = 0;
  #reading = false;
  readonly #openCalls: () => number;

  constructor(openCalls: () => number) {
    this.#openCalls = openCalls;
  }

  /** Asks for a flush of `connection` in this turn. */
  readonly schedule = (connection: Connection): void => {
    if (this.#due.length - this.#handedOver >= GATHERING) this.#handOver();
    if (this.#due.push(connection) === 1 && !this.#reading) setImmediate(this.#run);
  };

  /** Gives `connection` what was read for it. */
  receive(connection: Connection, octets: Buffer): void {
    if (this.#due.length > 0) {
      connection.receive(octets);
      return;
    }
    this.#reading = true;
    try {
      connection.receive(octets);
    } finally {
      this.#reading = false;
      if (this.#due.length > 0) {
        if (octets.length <= SMALL_READ && this.#openCalls() <= 1) this.#run();
        else setImmediate(this.#run);
      }
    }
  }

  #handOver(): void {
    const due = this.#due;
    for (let i = this.#handedOver; i < due.length; i++) (due[i] as Connection).handOver();
    this.#handedOver = due.length;
  }

  readonly #run = (): void => {
    const due = this.#due;
    this.#due = [];
    this.#handedOver = 0;
    for (let i = 0; i < due.length; i++) (due[i] as Connection).flush();
  };
}
