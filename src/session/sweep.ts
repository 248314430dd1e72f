import type { Clock } from '../clock/clock.ts';
import { Deadlines } from './deadlines.ts';
import { LARGEST_SHARE_OF_GRACE, type Terms } from './expiry.ts';
import type { Session } from './session.ts';
import { inSlices } from './slices.ts';

export interface SweepOptions {
  readonly clock: Clock;
  readonly terms: Terms;
  /** Between two sweeps, in milliseconds. */
  readonly intervalMs: number;
  /** Every live session. */
  readonly all: () => readonly Session[];
}

/** A wall clock that has departed from the monotonic one by more than this was set, or time stood still. */
const CLOCK_JUMP_MS = 500;

/**
 * Looks at sessions when their time may have come: drains and ends them, asks for their successors, and notices when they
 * come to rest. A call that slides a session's time costs nothing here: the time is looked at when it would have come.
 */
export class Sweep {
  readonly #options: SweepOptions;
  readonly #deadlines: Deadlines<Session>;
  /** Sessions in state `active`, which may have come to rest. */
  readonly #active = new Set<Session>();
  #last: number;
  #wallOffset: number;
  #running = false;

  /** `now` is monotonic, as everywhere here. */
  constructor(options: SweepOptions, now: number) {
    this.#options = options;
    this.#deadlines = new Deadlines(options.intervalMs, now);
    this.#last = now;
    this.#wallOffset = options.clock.now() - now;
  }

  /** It has entered the state `active`. */
  activated(session: Session): void {
    this.#active.add(session);
  }

  /** It is not looked at any more. */
  forget(session: Session): void {
    this.#deadlines.delete(session);
    this.#active.delete(session);
  }

  /**
   * Looks at those whose time may have come, in slices: one whose turn has not come is over all the same
   * (`Session.isOver`). Then `last` is called, which calls `done`. Does nothing while it runs already.
   */
  run(now: number, last: (done: () => void) => void): void {
    if (this.#running) return;
    this.#running = true;
    const { clock } = this.#options;
    const since = this.#last;
    this.#last = now;
    const done = (): void => {
      this.#running = false;
    };
    const look = (): void =>
      inSlices(
        clock,
        this.#due(now),
        (session) => this.look(session),
        () => last(done),
      );
    inSlices(clock, this.#active, (session) => this.#settle(session, since), look);
  }

  /** Looks at every session, now. */
  runAtOnce(now: number): void {
    const since = this.#last;
    this.#last = now;
    for (const session of this.#active) this.#settle(session, since);
    for (const session of this.#options.all()) this.look(session);
  }

  /** Ends or drains a session whose time has come, or asks for its successor, and sets when to look again. */
  look(session: Session): void {
    if (session.isDisposed) return;
    const { clock, terms } = this.#options;
    const [now, wallNow] = [clock.monotonic(), clock.now()];
    const end = session.endFrom(now, wallNow);
    if (end.inMs <= 0) {
      session.end(end.reason);
      return;
    }
    const succession = session.successionFrom(now, wallNow);
    if (succession !== undefined && succession.inMs <= 0) session.age(succession.reason);
    if (end.drainInMs <= 0) session.drain(end.reason, wallNow + end.inMs);
    if (session.isDisposed) return;
    // While calls are open, the idle part may begin at any moment and then takes idleMs less the grace period.
    const { idleMs } = terms;
    const idleAtTheEarliest = session.isDraining ? idleMs : idleMs * (1 - LARGEST_SHARE_OF_GRACE);
    const lookIn = Math.min(session.isDraining ? end.inMs : end.drainInMs, idleAtTheEarliest);
    const successorIn = session.successionFrom(now, wallNow)?.inMs ?? Number.POSITIVE_INFINITY;
    this.#deadlines.set(session, now + Math.min(lookIn, successorIn));
  }

  #settle(session: Session, since: number): void {
    if (session.settle(since)) this.#active.delete(session);
  }

  /** Those whose time may have come: all of them when the wall clock was set. */
  #due(now: number): readonly Session[] {
    const { clock, all } = this.#options;
    const offset = clock.now() - clock.monotonic();
    if (Math.abs(offset - this.#wallOffset) <= CLOCK_JUMP_MS) return this.#deadlines.take(now);
    this.#wallOffset = offset;
    return all();
  }
}
