import type { Connection } from '../http2/connection.ts';

/**
 * Flushes every connection that has something to write, once a turn of the event loop: after all sockets that
 * were readable have been read, so that what they bring for one peer becomes one write and one record.
 */
export class Turn {
  #due: Connection[] = [];

  /** Asks for a flush of `connection` in this turn. */
  readonly schedule = (connection: Connection): void => {
    if (this.#due.push(connection) === 1) setImmediate(this.#run);
  };

  readonly #run = (): void => {
    const due = this.#due;
    this.#due = [];
    for (let i = 0; i < due.length; i++) (due[i] as Connection).flush();
  };
}
