/**
 * Lets one step of a handshake through a turn of the event loop. A step costs as much CPU as a hundred calls; without this
 * all that arrive together would be done in a row, and every session that is up would wait for them.
 */
export class Turnstile {
  readonly #waiting: Array<() => void> = [];
  #busy = false;

  /** Runs the step now if it is the turn's first, else in a later turn, in the order of coming. It must not throw. */
  pass(step: () => void): void {
    if (this.#busy) {
      this.#waiting.push(step);
      return;
    }
    this.#busy = true;
    setImmediate(this.#turn);
    step();
  }

  readonly #turn = (): void => {
    const step = this.#waiting.shift();
    this.#busy = step !== undefined;
    if (step === undefined) return;
    setImmediate(this.#turn);
    step();
  };
}
