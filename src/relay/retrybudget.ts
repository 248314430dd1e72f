/**
 * How many calls that were reset with REFUSED_STREAM may be sent again: a burst, and one for each ten calls. An app
 * that refuses because it has too many shall not get them thrice.
 */
const RETRY_BURST = 100;
const CALLS_A_RETRY = 10;

/** Pays for calls that are sent once more because they were refused unprocessed. */
export class RetryBudget {
  /** In tenths of a retry. */
  #left = RETRY_BURST * CALLS_A_RETRY;

  /** A call has come. */
  earn(): void {
    if (this.#left < RETRY_BURST * CALLS_A_RETRY) this.#left++;
  }

  /** False if too many have been sent again. */
  take(): boolean {
    if (this.#left < CALLS_A_RETRY) return false;
    this.#left -= CALLS_A_RETRY;
    return true;
  }
}
