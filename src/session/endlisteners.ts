import { Roster } from '../lifecycle/roster.ts';
import type { SessionReason } from './event.ts';

/** What somebody wants to hear of the way down of a session; each is called once at most. */
export interface EndListener {
  /** It has been used and comes to its end: another is to be opened. */
  readonly successorDue?: ((reason: SessionReason) => void) | undefined;
  /** Its grace period has begun; it is cut at `endsAt` (milliseconds since the epoch) at the latest. */
  readonly draining?: ((reason: SessionReason, endsAt: number) => void) | undefined;
  /** It has ended. */
  readonly disposed?: ((reason: SessionReason) => void) | undefined;
}

/** Who is told of a session's way down: its connections, above all. One that throws keeps the others from nothing. */
export class EndListeners {
  readonly #failed: (error: unknown) => void;
  readonly #listeners = new Roster<EndListener>();

  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  get isEmpty(): boolean {
    return this.#listeners.size === 0;
  }

  /** Whether somebody would wind something down. */
  get hearDraining(): boolean {
    for (const { draining } of this.#listeners) if (draining !== undefined) return true;
    return false;
  }

  add(listener: EndListener): void {
    this.#listeners.add(listener);
  }

  delete(listener: EndListener): void {
    this.#listeners.delete(listener);
  }

  /** Calls all that are there now and still there then, until `isOver` says that there is nothing more to hear. */
  tell(call: (listener: EndListener) => void, isOver: () => boolean): void {
    for (const listener of this.#listeners) {
      if (isOver()) return;
      if (this.#listeners.has(listener)) this.tellOne(call, listener);
    }
  }

  tellOne(call: (listener: EndListener) => void, listener: EndListener): void {
    try {
      call(listener);
    } catch (error) {
      this.#failed(error);
    }
  }
}
