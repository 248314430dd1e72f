import { isIPv6 } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import type { HandshakeLimits } from './limits.ts';

/** Addresses whose budget is remembered at most; those with a full budget are forgotten first. */
const MAX_BUDGETS = 16_384;

interface Budget {
  tokens: number;
  at: number; // monotonic ms
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
 * all are busy the new one is refused: evicting work that is half done for work that is not begun, nobody would get in.
 * An address is one IPv4 address or one IPv6 /64.
 */
export class Admission {
  readonly #limits: HandshakeLimits;
  readonly #clock: Clock;
  /** In the order of their beginning. */
  readonly #halfOpen = new Set<HalfOpen>();
  readonly #byAddress = new Map<string, Set<HalfOpen>>();
  readonly #budgets = new Map<string, Budget>();

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
    const budget = this.#budgets.get(address) ?? this.#newBudget(address, now);
    budget.tokens = Math.min(burstPerAddress, budget.tokens + ((now - budget.at) * ratePerAddress) / 1_000);
    budget.at = now;
    if (budget.tokens < 1) return false;
    budget.tokens -= 1;
    return true;
  }

  /** Counts a handshake until leave(); evicts the oldest if there is no room. False if all that are there are busy. */
  enter(handshake: HalfOpen): boolean {
    const { maxHalfOpen, maxHalfOpenPerAddress } = this.#limits;
    const same = this.#byAddress.get(handshake.address);
    if (same !== undefined && same.size >= maxHalfOpenPerAddress && !this.#evictOldest(same)) return false;
    if (this.#halfOpen.size >= maxHalfOpen && !this.#evictOldest(this.#halfOpen)) return false;
    this.#halfOpen.add(handshake);
    const peers = this.#byAddress.get(handshake.address);
    if (peers === undefined) this.#byAddress.set(handshake.address, new Set([handshake]));
    else peers.add(handshake);
    return true;
  }

  /** The handshake is over. A second call does nothing. */
  leave(handshake: HalfOpen): void {
    if (!this.#halfOpen.delete(handshake)) return;
    const same = this.#byAddress.get(handshake.address);
    same?.delete(handshake);
    if (same?.size === 0) this.#byAddress.delete(handshake.address);
  }

  #evictOldest(among: Set<HalfOpen>): boolean {
    for (const oldest of among) {
      if (oldest.busy) continue;
      this.leave(oldest);
      oldest.evict();
      return true;
    }
    return false;
  }

  #newBudget(address: string, now: number): Budget {
    if (this.#budgets.size >= MAX_BUDGETS) this.#forget(now);
    const budget = { tokens: this.#limits.burstPerAddress, at: now };
    this.#budgets.set(address, budget);
    return budget;
  }

  /** Drops the budgets that have filled up again, which changes nothing; if none has, the oldest half. */
  #forget(now: number): void {
    const { ratePerAddress, burstPerAddress } = this.#limits;
    for (const [address, { tokens, at }] of this.#budgets) {
      if (tokens + ((now - at) * ratePerAddress) / 1_000 >= burstPerAddress) this.#budgets.delete(address);
    }
    if (this.#budgets.size < MAX_BUDGETS) return;
    let drop = MAX_BUDGETS / 2;
    for (const address of this.#budgets.keys()) {
      if (drop-- === 0) return;
      this.#budgets.delete(address);
    }
  }
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
