/** How fast we may reset streams of our own. */
export interface ResetPace {
  /** So many at once ... */
  burst: number;
  /** ... and so many a second. */
  perSecond: number;
  /** So many may wait; a connection with more takes no new streams. */
  waiting: number;
}

/**
 * Holds a client's resets to a pace that its server bears: servers end the connection of a client that resets too fast
 * (CVE-2023-44487), and with it the calls of everybody who shares it. A reset that waits is for a stream that is over
 * here and still counts as open there; often its answer comes first, and nothing need be sent.
 */
export class ResetPacer {
  readonly #pace: ResetPace;
  readonly #monotonic: () => number;
  /** Code times 2, plus 1 if our side of the stream had ended; by stream, oldest first. */
  readonly #waiting = new Map<number, number>();
  #tokens: number;
  #at: number;

  constructor(pace: ResetPace, monotonic: () => number) {
    this.#pace = pace;
    this.#monotonic = monotonic;
    this.#tokens = pace.burst;
    this.#at = monotonic();
  }

  /** Resets that wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** More wait than should. */
  get behind(): boolean {
    return this.#waiting.size > this.#pace.waiting;
  }

  /** True if a reset may go out now; it is counted. */
  take(): boolean {
    this.#refill();
    if (this.#waiting.size > 0 || this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  #refill(): void {
    const now = this.#monotonic();
    const { burst, perSecond } = this.#pace;
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#at) * perSecond) / 1000);
    this.#at = now;
  }

  /** The reset of a stream has to wait. `ended`: END_STREAM of ours has been sent. */
  wait(streamId: number, code: number, ended: boolean): void {
    this.#waiting.set(streamId, code * 2 + (ended ? 1 : 0));
  }

  /** The peer has ended its side of a stream; true if that spares the reset. */
  peerEnded(streamId: number): boolean {
    const reset = this.#waiting.get(streamId);
    return reset !== undefined && reset % 2 === 1 && this.#waiting.delete(streamId);
  }

  /** The peer has reset a stream; true if that spares ours. */
  peerReset(streamId: number): boolean {
    return this.#waiting.delete(streamId);
  }

  /** Spares the resets of all streams above `last`; returns how many. */
  peerRefused(last: number): number {
    const before = this.#waiting.size;
    for (const streamId of this.#waiting.keys()) if (streamId > last) this.#waiting.delete(streamId);
    return before - this.#waiting.size;
  }

  /** Gives out the resets for which it is time; returns how many. */
  release(send: (streamId: number, code: number) => void): number {
    const before = this.#waiting.size;
    if (before === 0) return 0;
    this.#refill();
    for (const [streamId, reset] of this.#waiting) {
      if (this.#tokens < 1) break;
      this.#tokens--;
      this.#waiting.delete(streamId);
      send(streamId, Math.floor(reset / 2));
    }
    return before - this.#waiting.size;
  }
}
