/** Something that is waited for; what belongs to an app is settled by others than the sidecar itself. */
interface Task {
  readonly name: string;
  readonly of: 'sidecar' | 'app';
}

/**
 * Whether the sidecar is started, alive and ready. Readiness is a set of named tasks that are pending: it is
 * ready when there is none, and whoever asks is told the names of those that are left.
 */
export class Readiness {
  /** Two of the same name are two. */
  readonly #pending = new Set<Task>();
  readonly #listeners = new Set<() => void>();
  #started = false;

  /**
   * Adds a pending task. The functions it returns settle it and, if need be, make it pending again. A task of the app is no
   * part of the start: an app may wait for its sidecar to have started.
   */
  task(name: string, of: 'sidecar' | 'app' = 'sidecar'): { done(): void; pending(): void } {
    const task = { name, of };
    const pending = (): void => this.#change(() => this.#pending.add(task));
    pending();
    return { done: () => this.#change(() => this.#pending.delete(task)), pending };
  }

  #change(change: () => unknown): void {
    const before = this.ready;
    change();
    if (this.starting.length === 0) this.#started = true;
    if (this.ready !== before) for (const listener of this.#listeners) listener();
  }

  get ready(): boolean {
    return this.#pending.size === 0;
  }

  /** It has been ready once, but for its apps. */
  get started(): boolean {
    return this.#started;
  }

  /** The names of what is pending, without those of apps. */
  get starting(): string[] {
    return [...this.#pending].filter(({ of }) => of === 'sidecar').map(({ name }) => name);
  }

  /** The names of what is pending. */
  get pending(): string[] {
    return [...this.#pending].map(({ name }) => name);
  }

  /** Calls `listener` whenever `ready` changes. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }
}
