import { Roster } from '../lifecycle/roster.ts';

/** A connection of a peer, as far as its memory goes. */
export interface MemoryHolder {
  /** Octets kept for it now. */
  readonly octets: number;
  /** Ends it, because the peer's connections together are above the limit. */
  cut(limit: number): void;
}

/**
 * What the connections of each peer hold together: of one connection much is bounded by its windows and its queue, but
 * a peer may have many sessions. Above the limit the connection that holds most is cut.
 */
export class PeerMemory {
  readonly #limit: number;
  readonly #byPeer = new Map<string, PeerAccount>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many peers are watched. */
  get size(): number {
    return this.#byPeer.size;
  }

  /** Counts a connection of `peer` in. */
  join(peer: string, holder: MemoryHolder): MemoryShare {
    let account = this.#byPeer.get(peer);
    if (account === undefined) {
      account = new PeerAccount(this.#limit, () => this.#byPeer.delete(peer));
      this.#byPeer.set(peer, account);
    }
    return account.join(holder);
  }
}

/** One connection's part of its peer's memory. */
export class MemoryShare {
  readonly holder: MemoryHolder;
  readonly #account: PeerAccount;
  #counted = 0;
  #over = false;

  constructor(account: PeerAccount, holder: MemoryHolder) {
    this.#account = account;
    this.holder = holder;
  }

  get counted(): number {
    return this.#counted;
  }

  /** Counts anew what the connection holds; may cut a connection of the peer, also this one. */
  update(): void {
    if (this.#over) return;
    const { octets } = this.holder;
    const more = octets - this.#counted;
    this.#counted = octets;
    if (more !== 0) this.#account.moved(more);
  }

  /** The connection is over. Idempotent. */
  leave(): void {
    if (this.#over) return;
    this.#over = true;
    this.#account.left(this, this.#counted);
  }
}

class PeerAccount {
  readonly #limit: number;
  readonly #onEmpty: () => void;
  readonly #shares = new Roster<MemoryShare>();
  #total = 0;

  constructor(limit: number, onEmpty: () => void) {
    this.#limit = limit;
    this.#onEmpty = onEmpty;
  }

  join(holder: MemoryHolder): MemoryShare {
    const share = new MemoryShare(this, holder);
    this.#shares.add(share);
    return share;
  }

  moved(octets: number): void {
    this.#total += octets;
    if (this.#total > this.#limit) this.#cutLargest();
  }

  #cutLargest(): void {
    let largest: MemoryShare | undefined;
    for (const share of this.#shares) {
      if (largest === undefined || share.counted > largest.counted) largest = share;
    }
    if (largest === undefined) return;
    // Counted out first: it takes a while to close, and the others must not pay for that.
    largest.leave();
    largest.holder.cut(this.#limit);
  }

  left(share: MemoryShare, octets: number): void {
    this.#shares.delete(share);
    this.#total -= octets;
    if (this.#shares.size === 0) this.#onEmpty();
  }
}
