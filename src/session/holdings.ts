import type { Session } from './session.ts';

interface Held {
  readonly sessions: Set<Session>;
  /** How many of them are at an address. */
  readonly at: Map<string, number>;
}

/**
 * Who holds how many sessions, and from where: for the limits of a peer, and for choosing whose session goes when all
 * places are taken.
 */
export class Holdings {
  readonly #byPeer = new Map<string, Held>();
  /** How many peers hold exactly n sessions, by n. */
  readonly #peersHolding: number[] = [];

  get peers(): number {
    return this.#byPeer.size;
  }

  add(session: Session): void {
    let held = this.#byPeer.get(session.peer);
    if (held === undefined) {
      held = { sessions: new Set(), at: new Map() };
      this.#byPeer.set(session.peer, held);
    }
    const { sessions, at } = held;
    sessions.add(session);
    at.set(session.address, (at.get(session.address) ?? 0) + 1);
    this.#resized(sessions.size - 1, sessions.size);
  }

  delete(session: Session): void {
    const held = this.#byPeer.get(session.peer);
    if (!held?.sessions.delete(session)) return;
    const { sessions, at } = held;
    const left = (at.get(session.address) ?? 0) - 1;
    if (left > 0) at.set(session.address, left);
    else at.delete(session.address);
    this.#resized(sessions.size + 1, sessions.size);
    if (sessions.size === 0) this.#byPeer.delete(session.peer);
  }

  heldBy(peer: string): number {
    return this.#byPeer.get(peer)?.sessions.size ?? 0;
  }

  /** Sessions with the peer at one address. */
  heldAt(peer: string, address: string): number {
    return this.#byPeer.get(peer)?.at.get(address) ?? 0;
  }

  /** The peer's least recently used session without calls; with an address, of those there. */
  spareOf(peer: string, address?: string): Session | undefined {
    let spare: Session | undefined;
    for (const session of this.#byPeer.get(peer)?.sessions ?? []) {
      if (address !== undefined && session.address !== address) continue;
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
