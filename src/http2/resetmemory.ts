/**
 * Which streams we reset or ignored lately: frames that the peer sent before it knew are no error. Bounded;
 * of what is older we forget the difference and let such frames pass.
 */
export class ResetMemory {
  static readonly SIZE = 1024;
  readonly #ids = new Set<number>();
  #forgottenBelow = 0;

  add(streamId: number): void {
    this.#ids.add(streamId);
    if (this.#ids.size <= ResetMemory.SIZE) return;
    const oldest = this.#ids.values().next().value as number;
    this.#ids.delete(oldest);
    if (oldest > this.#forgottenBelow) this.#forgottenBelow = oldest;
  }

  has(streamId: number): boolean {
    return this.#ids.has(streamId) || streamId <= this.#forgottenBelow;
  }
}
