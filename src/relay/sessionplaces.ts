/** An endpoint that wants or holds sessions. */
export interface PlaceHolder {
  /** Monotonic milliseconds when it last had a call, or undefined if it holds no session that could go. */
  readonly idleSince: number | undefined;
  /** It wants a place still. */
  readonly wantsPlace: boolean;
  /** Ends the session that `idleSince` is about, in order: it is `closed` later. What it was `opened` as, if there is one. */
  giveWay(): object | undefined;
  /** There may be a place now. */
  placeFree(): void;
}

/**
 * How many sessions egress may have at the same time, over all endpoints. Whoever finds no place waits; the session that
 * has been without calls for longest makes room.
 */
export class SessionPlaces {
  readonly #max: number;
  readonly #holders = new Set<PlaceHolder>();
  /** Connections by session: those that join one take no further place. */
  readonly #sessions = new Map<object, number>();
  readonly #waiting = new Set<PlaceHolder>();
  #dialling = 0;
  /** Sessions that were told to make room and have not gone yet. */
  readonly #leaving = new Set<object>();

  constructor(max: number) {
    this.#max = max;
  }

  get max(): number {
    return this.#max;
  }

  /** Places taken, by sessions and dials under way. */
  get taken(): number {
    return this.#sessions.size + this.#dialling;
  }

  /** Takes a place for a dial. False if there is none: the holder is told when that may have changed. */
  take(holder: PlaceHolder): boolean {
    if (this.taken < this.#max) {
      this.#waiting.delete(holder);
      this.#holders.add(holder);
      this.#dialling++;
      return true;
    }
    this.#waiting.add(holder);
    for (const each of this.#waiting) if (!each.wantsPlace) this.#waiting.delete(each);
    if (this.#leaving.size < this.#waiting.size) this.#makeRoom();
    return false;
  }

  /** The dial came to nothing. */
  failed(): void {
    this.#dialling--;
    this.#wake();
  }

  /** The dial has become a connection of this session. */
  opened(session: object): void {
    this.#dialling--;
    this.#sessions.set(session, (this.#sessions.get(session) ?? 0) + 1);
    this.#wake();
  }

  /** A connection of this session has closed. */
  closed(session: object): void {
    const left = (this.#sessions.get(session) ?? 0) - 1;
    if (left > 0) this.#sessions.set(session, left);
    else {
      this.#sessions.delete(session);
      this.#leaving.delete(session);
    }
    this.#wake();
  }

  /** Holds and wants nothing any more. */
  leave(holder: PlaceHolder): void {
    this.#holders.delete(holder);
    this.#waiting.delete(holder);
  }

  #makeRoom(): void {
    let quietest: PlaceHolder | undefined;
    let since = Number.POSITIVE_INFINITY;
    for (const holder of this.#holders) {
      const { idleSince } = holder;
      if (idleSince === undefined || idleSince >= since) continue;
      quietest = holder;
      since = idleSince;
    }
    const leaving = quietest?.giveWay();
    if (leaving !== undefined) this.#leaving.add(leaving);
  }

  #wake(): void {
    for (const holder of this.#waiting) {
      if (this.taken >= this.#max) return;
      this.#waiting.delete(holder);
      holder.placeFree();
    }
  }
}
