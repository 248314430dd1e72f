/**
 * Whether the sidecar is started, alive and ready. Readiness is a set of named tasks that are pending: it is
 * ready when there is none, and whoever asks is told the names of those that are left.
 */
export class Readiness {
  readonly #pending = new Set<string>();
  readonly #listeners = new Set<() => void>();
  #started = false;

  /** Adds a pending task. The functions it returns settle it and, if need be, make it pending again. */
  task(name: string): { done(): void; pending(): void } {
    const pending = (): void => this.#change(() => this.#pending.add(name));
    pending();
    return { done: () => this.#change(() => this.#pending.delete(name)), pending };
  }

  #change(change: () => unknown): void {
    const before = this.ready;
    change();
    if (this.#pending.size === 0) this.#started = true;
    if (this.ready !== before) for (const listener of this.#listeners) listener();
  }

  get ready(): boolean {
    return this.#pending.size === 0;
  }

  /** It has been ready once. */
  get started(): boolean {
    return this.#started;
  }

  /** The names of what is pending. */
  get pending(): string[] {
    return [...this.#pending];
  }

  /** Calls `listener` whenever `ready` changes. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }
}
