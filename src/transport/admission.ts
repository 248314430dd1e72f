import { isIPv6 } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import { Roster } from '../lifecycle/roster.ts';
import type { HandshakeLimits } from './limits.ts';

/** Addresses that are remembered at most; those of which nothing needs to be are forgotten first. */
const MAX_ORIGINS = 16_384;
/** A handshake that came to nothing is forgiven its address in this time; so many are counted. */
const FORGIVEN_MS = 30_000;
const MAX_WASTED = 8;
const CLEARLY = 0.5;

/** What is known of an address. */
interface Origin {
  tokens: number;
  /** Monotonic milliseconds when `tokens` was right. */
  at: number;
  /** Handshakes of the last time that came to nothing ... */
  wasted: number;
  /** ... as counted at this monotonic time. */
  wastedAt: number;
  /** Handshakes that are not finished, in the order of their beginning. */
  readonly halfOpen: Roster<HalfOpen>;
}

/** A handshake that has been let in. */
export interface HalfOpen {
  readonly address: string;
  /** Its peer does its part, or waits for us: it keeps its place. */
  readonly busy: boolean;
  /** Ends the handshake because a newer one takes its place. */
  evict(): void;
}

/**
 * Who may start a handshake: so many a second an address, and so many that are not finished, an address and in all.
 * When those are full the oldest that is not busy gives way, so that a flood of idle connections cannot keep others out. If
 * all are busy the new one is refused, for evicting work that is half done for work that is not begun, nobody would get in;
 * but not if some come from an address that has lately wasted more of our work, or that has far more of the places: of
 * those one gives way. So whoever would keep all places busy needs new addresses all the time.
 * An address is one IPv4 address or one IPv6 /64.
 */
export class Admission {
  readonly #limits: HandshakeLimits;
  readonly #clock: Clock;
  /** In the order of their beginning. */
  readonly #halfOpen = new Roster<HalfOpen>();
  readonly #origins = new Map<string, Origin>();

  constructor(limits: HandshakeLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Handshakes that are not finished. */
  get halfOpen(): number {
    return this.#halfOpen.size;
  }

  /** Whether the address has a handshake left in its rate; if so, takes it. `address` is of addressKey(). */
  take(address: string): boolean {
    const { ratePerAddress, burstPerAddress } = this.#limits;
    const now = this.#clock.monotonic();
    const origin = this.#originOf(address);
    origin.tokens = Math.min(burstPerAddress, origin.tokens + ((now - origin.at) * ratePerAddress) / 1_000);
    origin.at = now;
    if (origin.tokens < 1) return false;
    origin.tokens -= 1;
    return true;
  }

  /** Counts a handshake until leave(); evicts another if there is no room. False if none is to give way to it. */
  enter(handshake: HalfOpen): boolean {
    const { maxHalfOpen, maxHalfOpenPerAddress } = this.#limits;
    const origin = this.#originOf(handshake.address);
    const { halfOpen } = origin;
    if (halfOpen.size >= maxHalfOpenPerAddress && !this.#evictOldest(halfOpen)) return false;
    if (
      this.#halfOpen.size >= maxHalfOpen &&
      !this.#evictOldest(this.#halfOpen) &&
      !this.#evictWorse(origin)
    ) {
      return false;
    }
    this.#halfOpen.add(handshake);
    halfOpen.add(handshake);
    return true;
  }

  /** The handshake is over. `wasted`: by its peer's doing it came to nothing. A second call does nothing. */
  leave(handshake: HalfOpen, wasted: boolean): void {
    if (!this.#halfOpen.delete(handshake)) return;
    const origin = this.#originOf(handshake.address); // it is kept as long as it has a handshake
    origin.halfOpen.delete(handshake);
    if (!wasted) return;
    const now = this.#clock.monotonic();
    origin.wasted = Math.min(MAX_WASTED, wastedNow(origin, now) + 1);
    origin.wastedAt = now;
  }

  #evictOldest(among: Iterable<HalfOpen>): boolean {
    for (const oldest of among) {
      if (oldest.busy) continue;
      this.leave(oldest, true);
      oldest.evict();
      return true;
    }
    return false;
  }

  /** All are busy: one of an address that stands clearly worse gives way, if there is one. */
  #evictWorse(than: Origin): boolean {
    const now = this.#clock.monotonic();
    let worst: Origin | undefined;
    for (const { address } of this.#halfOpen) {
      const origin = this.#originOf(address);
      const more = moreWasted(origin, than, now);
      const places = origin.halfOpen.size;
      if (more < 0 || (more === 0 && places <= 2 * (than.halfOpen.size + 1))) continue;
      const isWorst =
        worst === undefined || (moreWasted(origin, worst, now) || places - worst.halfOpen.size) > 0;
      if (isWorst) worst = origin;
    }
    const oldest = worst?.halfOpen.oldest;
    if (oldest === undefined) return false;
    this.leave(oldest, false);
    oldest.evict();
    return true;
  }

  #originOf(address: string): Origin {
    const known = this.#origins.get(address);
    if (known !== undefined) return known;
    const now = this.#clock.monotonic();
    if (this.#origins.size >= MAX_ORIGINS) this.#forget(now);
    const tokens = this.#limits.burstPerAddress;
    const origin = { tokens, at: now, wasted: 0, wastedAt: now, halfOpen: new Roster<HalfOpen>() };
    this.#origins.set(address, origin);
    return origin;
  }

  /** Drops the addresses that are as good as new, which changes nothing; if none is, the oldest half. */
  #forget(now: number): void {
    const { ratePerAddress, burstPerAddress } = this.#limits;
    for (const [address, origin] of this.#origins) {
      const tokens = origin.tokens + ((now - origin.at) * ratePerAddress) / 1_000;
      if (tokens >= burstPerAddress && wastedNow(origin, now) === 0) this.#drop(address, origin);
    }
    if (this.#origins.size < MAX_ORIGINS) return;
    let drop = MAX_ORIGINS / 2;
    for (const [address, origin] of this.#origins) {
      if (drop-- === 0) return;
      this.#drop(address, origin);
    }
  }

  #drop(address: string, { halfOpen }: Origin): void {
    if (halfOpen.size === 0) this.#origins.delete(address);
  }
}

function wastedNow({ wasted, wastedAt }: Origin, now: number): number {
  return Math.max(0, wasted - (now - wastedAt) / FORGIVEN_MS);
}

/** Above 0 if the first has clearly wasted more: small differences would have honest peers throw each other out. */
function moreWasted(one: Origin, other: Origin, now: number): number {
  const more = wastedNow(one, now) - wastedNow(other, now);
  return Math.abs(more) < CLEARLY ? 0 : more;
}

const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** What limits count an address by: IPv4 as it is (also when mapped into IPv6), IPv6 by its /64. */
export function addressKey(address: string): string {
  const mapped = MAPPED_IPV4.exec(address);
  if (mapped !== null) return mapped[1] as string;
  const bare = address.split('%', 1)[0] as string;
  if (!isIPv6(bare)) return address;
  const [head = '', tail] = bare.split('::', 2) as [string, string?];
  const front = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const back = tail === '' ? [] : tail.split(':');
    const words = back.length + (tail.includes('.') ? 1 : 0); // an IPv4 ending is two words
    while (front.length + words < 8) front.push('0');
    front.push(...back);
  }
  const prefix = front.slice(0, 4).map((word) => Number.parseInt(word, 16).toString(16));
  return `${prefix.join(':')}::/64`;
}
