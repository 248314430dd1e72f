/** State machines as data: one table a machine, one mechanism for all of them. */

/** The legal next states of every state; an empty list ends the life. */
export type Transitions<S extends string> = Readonly<Record<S, readonly S[]>>;

/** A state machine: its table, and the error of its layer for a step that the table does not have. */
export interface Machine<S extends string> {
  readonly transitions: Transitions<S>;
  readonly illegal: (message: string) => Error;
}

/** Holds a state and lets it change only as its machine's table says. */
export class Lifecycle<S extends string> {
  readonly #what: string;
  readonly #machine: Machine<S>;
  #state: S;

  /** `what` names the thing in errors, e.g. `Session 0190...`. */
  constructor(what: string, machine: Machine<S>, initial: S) {
    this.#what = what;
    this.#machine = machine;
    this.#state = initial;
  }

  get state(): S {
    return this.#state;
  }

  /** Returns the state that was left. Throws the machine's error, leaving the state as it was. */
  to(next: S): S {
    const from = this.#state;
    const legal = this.#machine.transitions[from];
    if (!legal.includes(next)) {
      const list = legal.join(', ') || 'nothing';
      throw this.#machine.illegal(
        `${this.#what} cannot go from ${from} to ${next}; legal from here: ${list}`,
      );
    }
    this.#state = next;
    return from;
  }
}
