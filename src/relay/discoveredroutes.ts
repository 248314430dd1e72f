import type { Authority } from './authority.ts';
import type { Call, CallTarget } from './call.ts';
import type { RelayContext } from './context.ts';
import { DiscoveredTarget } from './discoveredtarget.ts';
import type { DiscoverySource } from './discovery.ts';
import { drainingError, RelayError } from './errors.ts';
import type { Upstream } from './upstream.ts';
import type { UpstreamConnection } from './upstreamconnection.ts';
import { type MakeDiscovered, UpstreamPool } from './upstreampool.ts';

/** How much apps may have found, whatever they ask for. */
export interface DiscoveryBounds {
  /** Names that are known at the same time, ... */
  readonly names: number;
  /** ... and of them those that have no endpoints, or that nobody has answered for yet. */
  readonly unknown: number;
  readonly endpointsPerName: number;
  readonly endpoints: number;
  /** A name that nobody calls is forgotten after so long, milliseconds, unless the controller is away, ... */
  readonly unusedMs: number;
  /** ... and one without endpoints after so long. */
  readonly unknownMs: number;
}

export const DISCOVERY_BOUNDS: DiscoveryBounds = {
  names: 960,
  unknown: 256,
  endpointsPerName: 1000,
  endpoints: 10_000,
  unusedMs: 600_000,
  unknownMs: 5000,
};

export interface DiscoveredRoutesOptions {
  readonly source: DiscoverySource;
  /** For short names. */
  readonly namespace: string;
  readonly makeUpstream: MakeDiscovered;
  readonly waitMs: number;
  readonly bounds?: Partial<DiscoveryBounds>;
  readonly random?: () => number;
}

const SWEEP_MS = 1000;

/** The services that discovery tells of: those of the configuration, for ever, and those that apps ask for, while they do. */
export class DiscoveredRoutes {
  readonly #context: RelayContext;
  readonly #options: DiscoveredRoutesOptions;
  readonly #bounds: DiscoveryBounds;
  readonly #random: () => number;
  readonly #spread: (key: string) => number;
  readonly #pool: UpstreamPool;
  readonly #asked = new Map<string, DiscoveredTarget>();
  readonly #configured: DiscoveredTarget[] = [];
  readonly #sweeper: unknown;
  #draining = false;

  constructor(context: RelayContext, options: DiscoveredRoutesOptions) {
    this.#context = context;
    this.#options = options;
    this.#bounds = { ...DISCOVERY_BOUNDS, ...options.bounds };
    this.#random = options.random ?? Math.random;
    this.#spread = spreadBy(Math.floor(this.#random() * 2 ** 32));
    this.#pool = new UpstreamPool(options.makeUpstream, this.#bounds.endpoints);
    this.#sweeper = context.clock.every(SWEEP_MS, () => this.#sweep());
  }

  /** Names that are known now, those of the configuration among them. */
  get names(): number {
    return this.#asked.size + this.#configured.length;
  }

  /** Those of the configuration. */
  get lasting(): readonly DiscoveredTarget[] {
    return this.#configured;
  }

  get upstreams(): readonly Upstream[] {
    return this.#pool.upstreams;
  }

  /** A service of the configuration: asked for at once, and never forgotten. */
  configured(authority: string): DiscoveredTarget {
    const target = this.#make(authority);
    this.#configured.push(target);
    return target;
  }

  /** Where calls go that name a service by themselves: nothing is asked before the first of them. */
  named({ name, port }: Authority): CallTarget {
    return new NamedTarget(this, port > 0 ? `${name}:${port}` : name);
  }

  /** The service of that name. Throws RelayError if there are too many. */
  find(authority: string): DiscoveredTarget {
    return this.#asked.get(authority) ?? this.#ask(authority);
  }

  #ask(authority: string): DiscoveredTarget {
    if (this.#draining) throw drainingError();
    let unknown = 0;
    let oldestUnknown: [string, DiscoveredTarget] | undefined;
    let oldest: [string, DiscoveredTarget] | undefined;
    for (const entry of this.#asked) {
      const [, target] = entry;
      if (!target.isKnown) {
        unknown++;
        if (!target.isAwaited) oldestUnknown = older(oldestUnknown, entry);
      } else if (!target.isBusy) oldest = older(oldest, entry);
    }
    const full = this.#asked.size >= this.#bounds.names;
    if (full || unknown >= this.#bounds.unknown) {
      const leaves = oldestUnknown ?? (unknown >= this.#bounds.unknown ? undefined : oldest);
      if (leaves === undefined) throw this.#tooMany(full ? this.#asked.size : unknown);
      this.#forget(...leaves);
    }
    const target = this.#make(authority);
    this.#asked.set(authority, target);
    return target;
  }

  #tooMany(count: number): RelayError {
    const message = `calls to ${count} services are under way or wait to be resolved, and this sidecar asks the controller for no more; does the app call names that it makes up?`;
    return new RelayError('too-many-services', message);
  }

  #make(authority: string): DiscoveredTarget {
    const { source, namespace, waitMs } = this.#options;
    return new DiscoveredTarget(this.#context, {
      query: { authority, namespace, port: 0 },
      source,
      pool: this.#pool,
      waitMs,
      maxEndpoints: this.#bounds.endpointsPerName,
      spread: this.#spread,
      random: this.#random,
    });
  }

  #forget(authority: string, target: DiscoveredTarget): void {
    this.#asked.delete(authority);
    target.drop();
  }

  #sweep(): void {
    this.#pool.sweep();
    const { unusedMs, unknownMs } = this.#bounds;
    const now = this.#context.clock.monotonic();
    // What nobody could tell again is not forgotten.
    const { isAway } = this.#options.source;
    for (const [authority, target] of this.#asked) {
      const unused = now - target.lastCall;
      if (unused < unknownMs || (target.isKnown && (isAway || unused < unusedMs))) continue;
      if (!target.isBusy) this.#forget(authority, target);
    }
  }

  /** What kept the endpoints of a peer from connecting is over. */
  retryNow(peer: string): void {
    this.#pool.retryNow(peer);
  }

  close(): void {
    this.#draining = true;
    this.#context.clock.clear(this.#sweeper);
    for (const target of [...this.#asked.values(), ...this.#configured]) target.drain();
    this.#pool.drain();
    this.#pool.close();
  }
}

/** A service by the name that an app calls: plans keep it for as long as the app repeats its call, and it keeps nothing. */
class NamedTarget implements CallTarget {
  readonly lostCode = 'session-lost';
  readonly name: string;
  readonly #routes: DiscoveredRoutes;

  constructor(routes: DiscoveredRoutes, name: string) {
    this.#routes = routes;
    this.name = name;
  }

  assign(call: Call): void {
    this.#targetFor(call)?.assign(call);
  }

  reassign(call: Call, error: RelayError): void {
    this.#targetFor(call)?.reassign(call, error);
  }

  /** Fails the call if there can be none. */
  #targetFor(call: Call): DiscoveredTarget | undefined {
    try {
      return this.#routes.find(this.name);
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      call.fail(error);
      return undefined;
    }
  }

  mayRetry(call: Call, from: UpstreamConnection): boolean {
    try {
      return this.#routes.find(this.name).mayRetry(call, from);
    } catch {
      return false; // no room for its name any more
    }
  }
}

type Entry = [string, DiscoveredTarget];

function older(a: Entry | undefined, b: Entry): Entry {
  return a === undefined || b[1].lastCall < a[1].lastCall ? b : a;
}

/** FNV-1a, with a beginning of one's own: evenly spread, and not a secret. */
function spreadBy(seed: number): (key: string) => number {
  return (key) => {
    let hash = (0x811c9dc5 ^ seed) >>> 0;
    for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193) >>> 0;
    return hash;
  };
}
