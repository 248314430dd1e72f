import type { DiscoveredEndpoint } from './discovery.ts';
import type { Upstream } from './upstream.ts';

/** Makes the upstream of an endpoint of a service; it is not dialled before there is a call. */
export type MakeDiscovered = (service: string, endpoint: DiscoveredEndpoint) => Upstream;

interface Shared {
  readonly key: string;
  readonly peer: string;
  readonly upstream: Upstream;
  users: number;
}

/**
 * One upstream for each endpoint, however many names apps have for its service. One that nobody uses any more finishes its
 * calls.
 */
export class UpstreamPool {
  readonly #make: MakeDiscovered;
  readonly #max: number;
  readonly #shared = new Map<string, Shared>();
  readonly #byUpstream = new Map<Upstream, Shared>();
  /** Nobody's any more, with calls under way. */
  readonly #leaving = new Set<Upstream>();

  constructor(make: MakeDiscovered, max: number) {
    this.#make = make;
    this.#max = max;
  }

  /** All that are not closed. */
  get upstreams(): Upstream[] {
    return [...this.#byUpstream.keys(), ...this.#leaving];
  }

  get size(): number {
    return this.#shared.size;
  }

  static keyOf(service: string, { address, meshPort, targetPort, peer }: DiscoveredEndpoint): string {
    return `${service} ${address} ${meshPort} ${targetPort} ${peer}`;
  }

  /** To be given back once for each time; undefined if there are too many. */
  take(service: string, endpoint: DiscoveredEndpoint): Upstream | undefined {
    const key = UpstreamPool.keyOf(service, endpoint);
    let shared = this.#shared.get(key);
    if (shared === undefined) {
      if (this.#shared.size >= this.#max) return undefined;
      shared = { key, peer: endpoint.peer, upstream: this.#make(service, endpoint), users: 0 };
      this.#shared.set(key, shared);
      this.#byUpstream.set(shared.upstream, shared);
    }
    shared.users++;
    return shared.upstream;
  }

  giveBack(upstream: Upstream): void {
    const shared = this.#byUpstream.get(upstream);
    if (shared === undefined || --shared.users > 0) return;
    this.#shared.delete(shared.key);
    this.#byUpstream.delete(upstream);
    this.#leaving.add(upstream);
    upstream.drain();
  }

  /** To be called about once a second. */
  sweep(): void {
    for (const upstream of this.#leaving) if (upstream.open === 0) this.#leaving.delete(upstream);
  }

  /** What kept the endpoints of a peer from connecting is over. */
  retryNow(peer: string): void {
    for (const shared of this.#shared.values()) if (shared.peer === peer) shared.upstream.retryNow();
  }

  drain(): void {
    for (const upstream of this.upstreams) upstream.drain();
  }

  close(): void {
    for (const upstream of this.upstreams) upstream.close();
  }
}
