import { lookup, Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Clock } from '../clock/clock.ts';

/** How long answers hold that come without a TTL (search domains, the hosts file), ms. */
const DEFAULT_TTL_MS = 10_000;
const MIN_TTL_MS = 1000;
const MAX_TTL_MS = 300_000;

interface Answer {
  readonly addresses: readonly string[];
  readonly ttlMs: number;
}

/** Asks for all A and AAAA records of a name. Rejects when there is none. */
export type Lookup = (name: string) => Promise<Answer>;

/**
 * Asks the servers for the records and their TTL; names that they do not know may still be in the hosts file
 * or complete through a search domain, which only the system's own resolver follows.
 */
export const systemLookup: Lookup = async (name) => {
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  const [a, aaaa] = await Promise.allSettled([
    resolver.resolve4(name, { ttl: true }),
    resolver.resolve6(name, { ttl: true }),
  ]);
  const records = [
    ...(a.status === 'fulfilled' ? a.value : []),
    ...(aaaa.status === 'fulfilled' ? aaaa.value : []),
  ];
  if (records.length > 0) {
    const ttl = Math.min(...records.map((record) => record.ttl)) * 1000;
    return { addresses: records.map((record) => record.address), ttlMs: ttl };
  }
  const found = await lookup(name, { all: true });
  return { addresses: found.map((entry) => entry.address), ttlMs: DEFAULT_TTL_MS };
};

/**
 * The addresses of one name, looked up again when their TTL is over. While a look-up fails the last answer
 * holds: a DNS outage must not stop traffic that flows.
 */
export class ResolvedName {
  readonly #name: string;
  readonly #clock: Clock;
  readonly #lookup: Lookup;
  #addresses: readonly string[] = [];
  #freshUntil = Number.NEGATIVE_INFINITY;
  /** Infinite for an address, which is never asked for. */
  #askedAt = Number.POSITIVE_INFINITY;
  #pending: Promise<readonly string[]> | undefined;

  constructor(name: string, clock: Clock, lookupName: Lookup = systemLookup) {
    this.#name = name;
    this.#clock = clock;
    this.#lookup = lookupName;
    if (isIP(name) !== 0) {
      this.#addresses = [name];
      this.#freshUntil = Number.POSITIVE_INFINITY;
    }
  }

  /** The last answer, perhaps past its TTL, perhaps empty. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  /** What it stands for cannot be reached: it is to be looked up again, though not more than once a second. */
  distrust(): void {
    this.#freshUntil = Math.min(this.#freshUntil, this.#askedAt + MIN_TTL_MS);
  }

  get stale(): boolean {
    return this.#clock.monotonic() >= this.#freshUntil;
  }

  /** Looks the name up; concurrent callers share one look-up. Rejects only when there never was an answer. */
  refresh(): Promise<readonly string[]> {
    if (this.#pending !== undefined) return this.#pending;
    this.#askedAt = this.#clock.monotonic();
    this.#pending = this.#lookup(this.#name).then(
      ({ addresses, ttlMs }) => {
        this.#pending = undefined;
        this.#addresses = [...new Set(addresses)].sort();
        this.#freshUntil = this.#clock.monotonic() + Math.min(MAX_TTL_MS, Math.max(MIN_TTL_MS, ttlMs));
        return this.#addresses;
      },
      (error) => {
        this.#pending = undefined;
        this.#freshUntil = this.#clock.monotonic() + MIN_TTL_MS;
        if (this.#addresses.length === 0) throw error;
        return this.#addresses;
      },
    );
    return this.#pending;
  }
}
