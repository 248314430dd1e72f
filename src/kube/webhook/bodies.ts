export interface BodyLimits {
  /** Bytes. */
  readonly max: number;
  /** Bytes. */
  readonly maxPerAddress: number;
}

/** A body that is held. */
export interface Body {
  /** Its bytes so far grow by so many. */
  grow(bytes: number): void;
  /** It has been read and cannot give way any more; it is held until its release. */
  finish(): void;
  /** Calling it again does nothing. */
  release(): void;
}

interface Held {
  readonly address: string;
  readonly giveWay: () => void;
  bytes: number;
  reading: boolean;
}

/**
 * What requests that are not answered yet hold in memory, bounded for each address and in all. Where there is too much, the
 * largest body of the address that holds most gives way, whoever sent the last byte; one that grows does where all others
 * have been read.
 */
export class Bodies {
  readonly #limits: BodyLimits;
  readonly #held = new Set<Held>();
  readonly #byAddress = new Map<string, number>();
  #bytes = 0;

  constructor(limits: BodyLimits) {
    this.#limits = limits;
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** `giveWay` is called at most once, and the body is released then. */
  hold(address: string, giveWay: () => void): Body {
    const held: Held = { address, giveWay, bytes: 0, reading: true };
    this.#held.add(held);
    return {
      grow: (bytes) => {
        if (!this.#held.has(held)) return;
        held.bytes += bytes;
        this.#count(address, bytes);
        while (this.#bytes > this.#limits.max && this.#held.has(held)) {
          this.#drop(this.#largestOf(this.#largestAddress()) ?? held);
        }
        while ((this.#byAddress.get(address) ?? 0) > this.#limits.maxPerAddress && this.#held.has(held)) {
          this.#drop(this.#largestOf(address) ?? held);
        }
      },
      finish: () => {
        held.reading = false;
      },
      release: () => this.#release(held),
    };
  }

  #largestAddress(): string {
    let most: [string, number] = ['', 0];
    for (const entry of this.#byAddress) if (entry[1] > most[1]) most = entry;
    return most[0];
  }

  /** Of those that are being read. */
  #largestOf(address: string): Held | undefined {
    let largest: Held | undefined;
    for (const held of this.#held) {
      if (held.reading && held.address === address && held.bytes > (largest?.bytes ?? 0)) largest = held;
    }
    return largest;
  }

  #drop(held: Held): void {
    this.#release(held);
    held.giveWay();
  }

  #release(held: Held): void {
    if (!this.#held.delete(held)) return;
    this.#count(held.address, -held.bytes);
  }

  #count(address: string, bytes: number): void {
    this.#bytes += bytes;
    const own = (this.#byAddress.get(address) ?? 0) + bytes;
    if (own > 0) this.#byAddress.set(address, own);
    else this.#byAddress.delete(address);
  }
}
