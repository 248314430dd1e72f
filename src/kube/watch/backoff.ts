/** Milliseconds. */
const FIRST_MS = 1000;
const MOST_MS = 30_000;

/**
 * How long to wait after failures in a row: full jitter over a span that doubles, so that the many clients of a server
 * that comes back do not come at once. What the server asked for is waited for at least.
 */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;

  /** `random` is in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** In a row. */
  get failures(): number {
    return this.#failures;
  }

  succeeded(): void {
    this.#failures = 0;
  }

  /** Counts a failure; milliseconds to wait. */
  failed(retryAfterMs = 0): number {
    const span = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(this.#failures++, 30));
    return retryAfterMs + this.#random() * span;
  }
}
