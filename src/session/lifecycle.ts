import { SessionError } from './errors.ts';

/** The legal next states of every state; an empty list ends the life. */
export type Transitions<S extends string> = Readonly<Record<S, readonly S[]>>;

/**
 * A session's life (design section 6).
 *
 *     created ──▶ connecting ──▶ connected ──▶ active ◀──▶ idle
 *                  ▲   ▲ │           │            │         │
 *                  │   │ ├───────────┴────────────┴─────────┤
 *                  │   │ ▼                                  ▼
 *                  │  error ───────────────────▶ disconnecting
 *                  │                                        ▼
 *                  └──────────── resumption ────────── disconnected ──▶ disposed
 *
 * `connected` has not had a call yet. `active` and `idle` alternate; `idle` is noticed by the manager's sweep, so a
 * call costs no transition of its own. A session that can be resumed rests without connections: `disconnected` if the
 * last was closed in order, `error` if it broke or could not be made.
 */
export type SessionState =
  | 'created'
  | 'connecting'
  | 'connected'
  | 'active'
  | 'idle'
  | 'disconnecting'
  | 'disconnected'
  | 'error'
  | 'disposed';

export const SESSION_TRANSITIONS: Transitions<SessionState> = {
  created: ['connecting', 'disconnecting'],
  connecting: ['connected', 'disconnecting', 'error'],
  connected: ['active', 'disconnecting', 'error'],
  active: ['idle', 'disconnecting', 'error'],
  idle: ['active', 'disconnecting', 'error'],
  disconnecting: ['disconnected'],
  disconnected: ['connecting', 'disposed'],
  error: ['connecting', 'disconnecting'],
  disposed: [],
};

export type ManagerState = 'inactive' | 'active' | 'shutdown' | 'disposed';

/** `inactive` until the first session; a manager that never had one is shut down from there. */
export const MANAGER_TRANSITIONS: Transitions<ManagerState> = {
  inactive: ['active', 'shutdown'],
  active: ['shutdown'],
  shutdown: ['disposed'],
  disposed: [],
};

/** Holds a state and lets it change only as its table says. */
export class Lifecycle<S extends string> {
  readonly #what: string;
  readonly #table: Transitions<S>;
  #state: S;

  /** `what` names the thing in errors, e.g. `session 0190...`. */
  constructor(what: string, table: Transitions<S>, initial: S) {
    this.#what = what;
    this.#table = table;
    this.#state = initial;
  }

  get state(): S {
    return this.#state;
  }

  /** Returns the state that was left. Throws SessionError `illegal-transition`, leaving the state as it was. */
  to(next: S): S {
    const from = this.#state;
    if (!this.#table[from].includes(next)) {
      throw new SessionError(
        'illegal-transition',
        `${this.#what} cannot go from ${from} to ${next}; legal from here: ${this.#table[from].join(', ') || 'nothing'}`,
      );
    }
    this.#state = next;
    return from;
  }
}
