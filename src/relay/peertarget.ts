import type { Endpoint } from '../config/config.ts';
import { Anteroom } from './anteroom.ts';
import { balance } from './balance.ts';
import type { Call, CallTarget } from './call.ts';
import type { RelayContext } from './context.ts';
import { RelayError } from './errors.ts';
import { type Lookup, ResolvedName } from './resolver.ts';
import type { Upstream } from './upstream.ts';
import type { UpstreamConnection } from './upstreamconnection.ts';

export interface PeerTargetOptions {
  readonly service: string;
  readonly endpoints: readonly Endpoint[];
  /** Makes the upstream of one address of the service, which calls `onGone` as UpstreamOptions say. */
  readonly makeUpstream: (host: string, port: number, onGone: () => void) => Upstream;
  /** How long a call waits, in milliseconds; by default as long as its caller does. */
  readonly waitMs?: number;
  readonly lookup?: Lookup;
  readonly random?: () => number;
}

interface Source {
  readonly endpoint: Endpoint;
  readonly name: ResolvedName;
}

/**
 * A service at its endpoints: an upstream an address, and of two that are drawn at random each call goes to
 * the one with fewer calls. Endpoints that have failed, or are dialled for another call, come last.
 */
export class PeerTarget implements CallTarget {
  readonly lostCode = 'session-lost';
  readonly name: string;
  readonly #context: RelayContext;
  readonly #options: PeerTargetOptions;
  readonly #sources: Source[];
  readonly #random: () => number;
  readonly #byAddress = new Map<string, Upstream>();
  #upstreams: Upstream[] = [];
  /** Calls that wait for the first addresses. */
  readonly #unresolved: Anteroom;
  #closing = false;
  /** What the upstreams were made of, to see when DNS has changed. */
  #made = '';

  constructor(context: RelayContext, options: PeerTargetOptions) {
    this.#context = context;
    this.#options = options;
    this.name = options.service;
    this.#random = options.random ?? Math.random;
    this.#sources = options.endpoints.map((endpoint) => ({
      endpoint,
      name: new ResolvedName(endpoint.host, context.clock, options.lookup),
    }));
    this.#unresolved = new Anteroom({
      clock: context.clock,
      max: context.http2.queuedCalls,
      waitMs: options.waitMs,
      what: `an address of ${this.name}`,
      late: (waitMs) => {
        const message = `the call waited ${waitMs} ms for an address of ${this.name}: DNS has not answered; it was not sent`;
        return new RelayError('wait-timeout', message);
      },
    });
    this.#rebuild();
  }

  get upstreams(): readonly Upstream[] {
    return this.#upstreams;
  }

  /** Some address of it is connected, or has not been tried in vain. */
  get reachable(): boolean {
    return this.#upstreams.length === 0 || this.#upstreams.some(({ healthy }) => healthy);
  }

  assign(call: Call): void {
    if (this.#stale) {
      const refreshed = this.#refresh();
      // Names that were known serve on while they are looked up again.
      if (this.#upstreams.length === 0) {
        this.#assignLater(call, refreshed);
        return;
      }
    }
    this.#choose(call, undefined);
  }

  /** Waits for the first addresses. */
  #assignLater(call: Call, refreshed: Promise<void>): void {
    if (!this.#unresolved.enter(call)) return;
    refreshed.then(() => {
      if (!this.#unresolved.has(call)) return;
      this.#unresolved.leave(call);
      this.#choose(call, undefined);
    });
  }

  reassign(call: Call, error: RelayError): void {
    this.#choose(call, error);
  }

  /**
   * To each endpoint once: its own sidecar has tried its app again already. To the same one, if there is no other, only
   * behind a GOAWAY.
   */
  mayRetry(call: Call, from: UpstreamConnection): boolean {
    const tried = [...(call.tried ?? []), from.upstream];
    const others = this.#upstreams.some((upstream) => !tried.includes(upstream));
    if ((!others && !from.connection.draining) || !from.mayRetry()) return false;
    call.tried = others ? tried : tried.filter((upstream) => upstream !== from.upstream);
    return true;
  }

  #choose(call: Call, lastError: RelayError | undefined): void {
    const upstream = balance(this.#upstreams, call.tried, this.#random);
    if (upstream !== undefined) upstream.assign(call);
    else if (lastError !== undefined) call.fail(lastError);
    else {
      const names = this.#options.endpoints.map(({ host }) => host).join(', ');
      call.fail(
        new RelayError(
          'peer-unresolved',
          `no address for ${this.name} (${names}); check the route's endpoints and DNS`,
        ),
      );
    }
  }

  async #refresh(): Promise<void> {
    const stale = this.#sources.filter(({ name }) => name.stale);
    const results = await Promise.allSettled(stale.map(({ name }) => name.refresh()));
    for (const result of results) {
      if (result.status === 'rejected') {
        this.#context.log.warn({ service: this.name, error: String(result.reason) }, 'endpoint not resolved');
      }
    }
    this.#rebuild();
  }

  #rebuild(): void {
    if (this.#closing) return;
    const wanted = new Map<string, [host: string, port: number]>();
    for (const { endpoint, name } of this.#sources) {
      for (const host of name.addresses) wanted.set(`${host} ${endpoint.port}`, [host, endpoint.port]);
    }
    const made = [...wanted.keys()].sort().join(',');
    if (made === this.#made) return;
    this.#made = made;
    for (const [key, upstream] of this.#byAddress) {
      if (wanted.has(key)) continue;
      this.#byAddress.delete(key);
      upstream.drain();
    }
    for (const [key, [host, port]] of wanted) {
      if (!this.#byAddress.has(key))
        this.#byAddress.set(key, this.#options.makeUpstream(host, port, this.#gone));
    }
    this.#upstreams = [...this.#byAddress.values()];
  }

  /** An address cannot be reached: the names may stand for others by now, whatever their TTL says. */
  readonly #gone = (): void => {
    if (this.#closing) return;
    for (const { name } of this.#sources) name.distrust();
    if (this.#stale) void this.#refresh();
  };

  get #stale(): boolean {
    return this.#sources.some(({ name }) => name.stale);
  }

  /** What kept its endpoints from connecting is over. */
  retryNow(): void {
    for (const upstream of this.#upstreams) upstream.retryNow();
  }

  drain(): void {
    this.#closing = true;
    this.#unresolved.close();
    for (const upstream of this.#upstreams) upstream.drain();
  }

  close(): void {
    this.drain();
    for (const upstream of this.#upstreams) upstream.close();
  }
}
