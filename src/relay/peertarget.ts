import type { TimerHandle } from '../clock/clock.ts';
import type { Endpoint } from '../config/config.ts';
import type { Call, CallTarget, WaitingPlace } from './call.ts';
import type { RelayContext } from './context.ts';
import { drainingError, RelayError } from './errors.ts';
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

const SWEEP_MS = 1000;

interface Source {
  readonly endpoint: Endpoint;
  readonly name: ResolvedName;
}

/**
 * A service at its endpoints: an upstream an address, and of two that are drawn at random each call goes to
 * the one with fewer calls. Endpoints that have failed, or are dialled for another call, come last.
 */
export class PeerTarget implements CallTarget, WaitingPlace {
  readonly lostCode = 'session-lost';
  readonly name: string;
  readonly #context: RelayContext;
  readonly #options: PeerTargetOptions;
  readonly #sources: Source[];
  readonly #random: () => number;
  readonly #byAddress = new Map<string, Upstream>();
  #upstreams: Upstream[] = [];
  /** Calls that wait for the first addresses. */
  readonly #unresolved = new Set<Call>();
  #sweeper: TimerHandle | undefined;
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
    this.#rebuild();
  }

  get upstreams(): readonly Upstream[] {
    return this.#upstreams;
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
    if (this.#closing) {
      call.fail(drainingError());
      return;
    }
    const { http2, clock } = this.#context;
    if (this.#unresolved.size >= http2.queuedCalls) {
      call.fail(
        new RelayError(
          'queue-full',
          `${http2.queuedCalls} calls wait for an address of ${this.name} already; slow down or raise http2.queuedCalls`,
        ),
      );
      return;
    }
    call.delayed = true;
    call.waitingAt = this;
    call.waitsSince ??= clock.monotonic();
    this.#unresolved.add(call);
    this.#sweeper ??= clock.every(SWEEP_MS, () => this.#failLate());
    refreshed.then(() => {
      if (!this.#unresolved.has(call)) return;
      this.leave(call);
      this.#choose(call, undefined);
    });
  }

  leave(call: Call): void {
    this.#unresolved.delete(call);
    call.waitingAt = undefined;
    if (this.#unresolved.size > 0) return;
    this.#context.clock.clear(this.#sweeper);
    this.#sweeper = undefined;
  }

  /** Calls that have waited too long. */
  #failLate(): void {
    const { waitMs } = this.#options;
    if (waitMs === undefined) return;
    const since = this.#context.clock.monotonic() - waitMs;
    for (const call of this.#unresolved) {
      if (call.waitsSince === undefined || call.waitsSince > since) continue;
      this.leave(call);
      const message = `the call waited ${waitMs} ms for an address of ${this.name}: DNS has not answered; it was not sent`;
      call.fail(new RelayError('wait-timeout', message));
    }
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
    const upstream = this.#pick(call.tried);
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

  #pick(tried: readonly Upstream[] | undefined): Upstream | undefined {
    let candidates = this.#upstreams;
    if (tried !== undefined && tried.length > 0) candidates = candidates.filter((u) => !tried.includes(u));
    if (candidates.length === 1) return candidates[0];
    if (candidates.some(({ healthy }) => !healthy)) {
      const healthy = candidates.filter((upstream) => upstream.healthy);
      if (healthy.length > 0) {
        for (const upstream of candidates) if (!upstream.healthy) upstream.avoided();
        candidates = healthy;
      }
    }
    const n = candidates.length;
    if (n < 2) return candidates[0];
    const first = Math.floor(this.#random() * n);
    let second = Math.floor(this.#random() * (n - 1));
    if (second >= first) second++;
    const [a, b] = [candidates[first] as Upstream, candidates[second] as Upstream];
    return b.load < a.load ? b : a;
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
    for (const call of this.#unresolved) {
      this.leave(call);
      call.fail(drainingError());
    }
    for (const upstream of this.#upstreams) upstream.drain();
  }

  close(): void {
    this.drain();
    for (const upstream of this.#upstreams) upstream.close();
  }
}
