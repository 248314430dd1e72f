import type { Session } from './session.ts';

/**
 * Who holds how many sessions: for the limit a peer, and for choosing whose session goes when all places are
 * taken.
 */
export class Holdings {
  readonly #byPeer = new Map<string, Set<Session>>();
  /** How many peers hold exactly n sessions, by n. */
  readonly #peersHolding: number[] = [];

  get peers(): number {
    return this.#byPeer.size;
  }

  add(session: Session): void {
    let held = this.#byPeer.get(session.peer);
    if (held === undefined) {
      held = new Set();
      this.#byPeer.set(session.peer, held);
    }
    held.add(session);
    this.#resized(held.size - 1, held.size);
  }

  delete(session: Session): void {
    const held = this.#byPeer.get(session.peer);
    if (!held?.delete(session)) return;
    this.#resized(held.size + 1, held.size);
    if (held.size === 0) this.#byPeer.delete(session.peer);
  }

  heldBy(peer: string): number {
    return this.#byPeer.get(peer)?.size ?? 0;
  }

  /** The peer's least recently used session without calls. */
  spareOf(peer: string): Session | undefined {
    let spare: Session | undefined;
    for (const session of this.#byPeer.get(peer) ?? []) {
      if (session.openCalls === 0 && (spare === undefined || session.usedAt < spare.usedAt)) spare = session;
    }
    return spare;
  }

  /**
   * The least recently used session without calls of the peer that holds most, among those that have one.
   * `oldestFirst` is every session in order of use.
   */
  spareOfGreediest(oldestFirst: Iterable<Session>): Session | undefined {
    const most = this.#peersHolding.findLastIndex((peers) => peers > 0);
    let spare: Session | undefined;
    let spareHeld = 0;
    for (const session of oldestFirst) {
      if (session.openCalls > 0) continue;
      const held = this.heldBy(session.peer);
      if (held <= spareHeld) continue;
      spare = session;
      spareHeld = held;
      if (held === most) break;
    }
    return spare;
  }

  #resized(from: number, to: number): void {
    if (from > 0) this.#peersHolding[from]!--;
    if (to > 0) this.#peersHolding[to] = (this.#peersHolding[to] ?? 0) + 1;
  }
}
