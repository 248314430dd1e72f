import type { SessionEvent } from './event.ts';

/** The types of events; docs/library.md says when each comes. */
export type SessionEventType = SessionEvent['type'];
/** The event of one type. */
export type SessionEventOf<T extends SessionEventType> = Extract<SessionEvent, { type: T }>;
type Listener = (event: SessionEvent) => void;

/** Who wants to hear of which events. A listener that throws keeps the others from nothing. */
export class Listeners {
  readonly #all: Listener | undefined;
  readonly #failed: (error: unknown) => void;
  readonly #byType = new Map<SessionEventType, Set<Listener>>();

  constructor(all: Listener | undefined, failed: (error: unknown) => void) {
    this.#all = all;
    this.#failed = failed;
  }

  /** Returns a function that removes it. */
  add<T extends SessionEventType>(type: T, listener: (event: SessionEventOf<T>) => void): () => void {
    let listeners = this.#byType.get(type);
    if (listeners === undefined) {
      listeners = new Set();
      this.#byType.set(type, listeners);
    }
    const added = (event: SessionEvent): void => listener(event as SessionEventOf<T>);
    listeners.add(added);
    return () => void listeners.delete(added);
  }

  emit(event: SessionEvent): void {
    if (this.#all !== undefined) this.#call(this.#all, event);
    const listeners = this.#byType.get(event.type);
    if (listeners !== undefined) for (const listener of [...listeners]) this.#call(listener, event);
  }

  #call(listener: Listener, event: SessionEvent): void {
    try {
      listener(event);
    } catch (error) {
      this.#failed(error);
    }
  }
}
