/**
 * Which streams we reset or ignored lately: frames that the peer sent before it knew are no error, as long as its DATA
 * keep within the window that the stream had. Bounded; of what is older we forget the difference and let such frames
 * pass.
 */
export class ResetMemory {
  static readonly SIZE = 1024;
  /** What the peer may still send, by stream. */
  readonly #windows = new Map<number, number>();
  #forgottenBelow = 0;

  /** `window`: octets of DATA that may be under way. */
  add(streamId: number, window: number): void {
    this.#windows.set(streamId, window);
    if (this.#windows.size <= ResetMemory.SIZE) return;
    const oldest = this.#windows.keys().next().value as number;
    this.#windows.delete(oldest);
    if (oldest > this.#forgottenBelow) this.#forgottenBelow = oldest;
  }

  has(streamId: number): boolean {
    return this.#windows.has(streamId) || streamId <= this.#forgottenBelow;
  }

  /** DATA of `octets` came for such a stream; false if that is more than can have been under way. */
  accept(streamId: number, octets: number): boolean {
    const window = this.#windows.get(streamId);
    if (window === undefined) return true;
    this.#windows.set(streamId, window - octets);
    return window >= octets;
  }
}
