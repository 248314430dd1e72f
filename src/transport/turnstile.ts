import { Roster } from '../lifecycle/roster.ts';

/**
 * Lets one step of a handshake through a turn of the event loop. A step costs as much CPU as a hundred calls; without this
 * all that arrive together would be done in a row, and every session that is up would wait for them.
 */
export class Turnstile {
  readonly #waiting = new Roster<() => void>();
  #busy = false;

  /** Runs the step now if it is the turn's first, else in a later turn, in the order of coming. It must not throw. */
  pass(step: () => void): void {
    if (this.#busy) {
      this.#waiting.add(step);
      return;
    }
    this.#busy = true;
    setImmediate(this.#turn);
    step();
  }

  /** The step is not to be done any more: it takes nobody's turn, and nothing of it is kept. */
  leave(step: () => void): void {
    this.#waiting.delete(step);
  }

  readonly #turn = (): void => {
    const step = this.#waiting.oldest;
    this.#busy = step !== undefined;
    if (step === undefined) return;
    this.#waiting.delete(step);
    setImmediate(this.#turn);
    step();
  };
}
