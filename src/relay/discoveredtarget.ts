import { Anteroom } from './anteroom.ts';
import { balance } from './balance.ts';
import type { Call, CallTarget } from './call.ts';
import type { RelayContext } from './context.ts';
import type { DiscoveredEndpoint, DiscoveryAnswer, DiscoveryQuery, DiscoverySource } from './discovery.ts';
import { drainingError, RelayError } from './errors.ts';
import type { Upstream } from './upstream.ts';
import type { UpstreamConnection } from './upstreamconnection.ts';
import { UpstreamPool } from './upstreampool.ts';

export interface DiscoveredTargetOptions {
  readonly query: DiscoveryQuery;
  readonly source: DiscoverySource;
  readonly pool: UpstreamPool;
  /** How long a call waits for the first answer, in milliseconds. */
  readonly waitMs: number;
  /** Of a service; of more that many are used, chosen by `spread`. */
  readonly maxEndpoints: number;
  /** Orders endpoints, for this process always alike. */
  readonly spread: (key: string) => number;
  readonly random: () => number;
}

/**
 * A service as an app calls it, at the endpoints that discovery tells: those that are ready and near first, then all that
 * are ready, then those that come to their end. What was told last holds while nobody tells anything.
 */
export class DiscoveredTarget implements CallTarget {
  readonly lostCode = 'session-lost';
  readonly name: string;
  /** When the last call came, monotonic milliseconds. */
  lastCall: number;
  readonly #context: RelayContext;
  readonly #options: DiscoveredTargetOptions;
  readonly #anteroom: Anteroom;
  readonly #stop: () => void;
  readonly #byKey = new Map<string, Upstream>();
  /** Each with all that is in the one before. */
  #tiers: readonly (readonly Upstream[])[] = [];
  #answer: DiscoveryAnswer | undefined;
  #dropped = false;
  #draining = false;

  constructor(context: RelayContext, options: DiscoveredTargetOptions) {
    this.#context = context;
    this.#options = options;
    this.name = options.query.authority;
    this.lastCall = context.clock.monotonic();
    this.#anteroom = new Anteroom({
      clock: context.clock,
      max: context.http2.queuedCalls,
      waitMs: options.waitMs,
      what: `the endpoints of ${this.name}`,
      late: (waitMs) => this.#unanswered(waitMs),
    });
    this.#stop = options.source.watch(
      options.query,
      (answer) => this.#answered(answer),
      () => this.lastCall,
    );
  }

  /** It has endpoints, or had once and may have again: undefined until the first answer. */
  get isKnown(): boolean {
    return this.#byKey.size > 0;
  }

  /** Somebody waits for its first answer. */
  get isAwaited(): boolean {
    return this.#anteroom.size > 0;
  }

  /** Calls are under way at its endpoints, perhaps those of another name for them. */
  get isBusy(): boolean {
    if (this.isAwaited) return true;
    for (const upstream of this.#byKey.values()) if (upstream.load > 0) return true;
    return false;
  }

  /** Some endpoint of it is connected or has not been tried in vain; or nobody knows yet. */
  get reachable(): boolean {
    if (this.#answer === undefined) return true;
    for (const upstream of this.#byKey.values()) if (upstream.sound) return true;
    return false;
  }

  assign(call: Call): void {
    this.lastCall = this.#context.clock.monotonic();
    this.#choose(call, undefined);
  }

  reassign(call: Call, error: RelayError): void {
    this.#choose(call, error);
  }

  mayRetry(call: Call, from: UpstreamConnection): boolean {
    const tried = [...(call.tried ?? []), from.upstream];
    let others = false;
    for (const upstream of this.#byKey.values()) if (!tried.includes(upstream)) others = true;
    if ((!others && !from.connection.draining) || !from.mayRetry()) return false;
    call.tried = others ? tried : tried.filter((upstream) => upstream !== from.upstream);
    return true;
  }

  #choose(call: Call, lastError: RelayError | undefined): void {
    const upstream = this.#draining ? undefined : this.#pick(call.tried);
    if (upstream !== undefined) upstream.assign(call);
    else if (this.#draining) call.fail(drainingError());
    else if (this.#answer === undefined) this.#anteroom.enter(call);
    else if (this.#byKey.size === 0) call.fail(this.#absent());
    else call.fail(lastError === undefined || lastError.code === 'draining' ? this.#gone() : lastError);
  }

  /** Of the first tier that has one which has not failed; if none has, of the last. */
  #pick(tried: readonly Upstream[] | undefined): Upstream | undefined {
    const { random } = this.#options;
    let last: Upstream | undefined;
    for (const tier of this.#tiers) {
      const picked = balance(tier, tried, random);
      if (picked?.sound === true) return picked;
      last = picked ?? last;
    }
    return last;
  }

  #answered(answer: DiscoveryAnswer): void {
    if (this.#dropped) return;
    this.#answer = answer;
    const endpoints = this.#bounded(answer);
    const { pool } = this.#options;
    const before = new Map(this.#byKey);
    this.#byKey.clear();
    const placed: Array<[DiscoveredEndpoint, Upstream]> = [];
    for (const endpoint of endpoints) {
      const key = UpstreamPool.keyOf(answer.service, endpoint);
      if (this.#byKey.has(key)) continue;
      const upstream = before.get(key) ?? pool.take(answer.service, endpoint);
      if (upstream === undefined) continue;
      before.delete(key);
      this.#byKey.set(key, upstream);
      placed.push([endpoint, upstream]);
    }
    this.#tiers = tiersOf(placed, answer.zone);
    // Last, so that calls which wait at one that is gone find the others.
    for (const upstream of before.values()) pool.giveBack(upstream);
    this.#anteroom.open((call) => this.#choose(call, undefined));
  }

  #bounded({ service, endpoints }: DiscoveryAnswer): readonly DiscoveredEndpoint[] {
    const { maxEndpoints, spread } = this.#options;
    if (endpoints.length <= maxEndpoints) return endpoints;
    return endpoints
      .map((endpoint) => ({ endpoint, rank: spread(UpstreamPool.keyOf(service, endpoint)) }))
      .sort((a, b) => Number(b.endpoint.ready) - Number(a.endpoint.ready) || a.rank - b.rank)
      .slice(0, maxEndpoints)
      .map(({ endpoint }) => endpoint);
  }

  #absent(): RelayError {
    const { found = false, hint = '', endpoints = [] } = this.#answer ?? {};
    if (!found) return new RelayError('no-service', hint === '' ? `no service ${this.name}` : hint);
    if (endpoints.length > 0) {
      const message = `${this.name} has ${endpoints.length} endpoints, and this sidecar already holds as many as it may, of all services: let fewer services be called from here`;
      return new RelayError('too-many-services', message);
    }
    return new RelayError('no-endpoints', hint === '' ? `${this.name} has no endpoints` : hint);
  }

  /** All endpoints that the call has been to went away. */
  #gone(): RelayError {
    const message = `the endpoints of ${this.name} that the call waited for are gone; it was not sent, try again`;
    return new RelayError('peer-unreachable', message);
  }

  #unanswered(waitMs: number): RelayError {
    const why = this.#options.source.trouble ?? 'the controller has not answered';
    const message = `${why}, and ${this.name} was never resolved; the call waited ${waitMs} ms and was not sent`;
    return new RelayError('discovery-unavailable', message);
  }

  /** Asks no more, and gives its endpoints back; calls that are under way there finish. */
  drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.#stop();
    this.#anteroom.close();
    this.#tiers = [];
    for (const upstream of this.#byKey.values()) this.#options.pool.giveBack(upstream);
    this.#byKey.clear();
  }

  /** The sidecar ends: asks no more, and takes no more calls. */
  drain(): void {
    this.#draining = true;
    this.#stop();
    this.#anteroom.close();
  }
}

/** The groups that calls go to, one after the other; one group where all are alike. */
function tiersOf(placed: ReadonlyArray<[DiscoveredEndpoint, Upstream]>, zone: string): Upstream[][] {
  const those = (which: (endpoint: DiscoveredEndpoint) => boolean): Upstream[] =>
    placed.filter(([endpoint]) => which(endpoint)).map(([, upstream]) => upstream);
  const ready = those((endpoint) => endpoint.ready);
  const near = zone === '' ? [] : those((endpoint) => endpoint.ready && endpoint.zone === zone);
  const tiers: Upstream[][] = [];
  if (near.length > 0 && near.length < ready.length) tiers.push(near);
  if (ready.length > 0) tiers.push(ready);
  if (ready.length < placed.length) tiers.push(those(() => true));
  return tiers;
}
