/** hauberk.control.v1.Discovery: tells sidecars where services are. */
import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Recorder } from '../../audit/recorder.ts';
import type { Clock, TimerHandle } from '../../clock/clock.ts';
import type { EndpointsMessage, WatchRequest } from '../../control/messages.ts';
import type { Logger } from '../../telemetry/log.ts';
import { RefusalTally } from '../../transport/refusaltally.ts';
import { bearerOf, type CallRefusal, statusOf } from '../bearer.ts';
import type { TokenOwner, TokenReviewer } from '../tokenreview.ts';
import type { ClusterChange } from './clusterview.ts';
import type { ClusterState } from './resolve.ts';
import { STREAM_BOUNDS, type StreamBounds, StreamPlaces } from './streamplaces.ts';
import { type Subscription, Topics } from './topics.ts';

/** The cluster as it is watched. */
export interface WatchedCluster extends ClusterState {
  readonly synced: boolean;
  whenSynced(): Promise<void>;
  onChange(listener: (change: ClusterChange) => void): void;
  zoneOf(namespace: string, pod: string): string;
}

export interface DiscoveryServerOptions {
  readonly cluster: WatchedCluster;
  readonly tokens: Pick<TokenReviewer, 'review'>;
  readonly trustDomain: string;
  readonly clusterDomain: string;
  readonly clock: Clock;
  readonly recorder: Recorder;
  readonly log: Logger;
  readonly grpc: Pick<typeof import('@grpc/grpc-js'), 'Metadata' | 'status'>;
  readonly bounds?: Partial<StreamBounds>;
  readonly random?: () => number;
}

const MAX_ENDPOINTS = 1000;
const MAX_AUTHORITY = 300; // characters
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** How long a stream waits for a controller that does not know its cluster yet. */
const SYNC_MS = 10_000;
/** Streams end after this, and up to half as much again: their tokens are looked at anew, and other replicas get some. */
const AGE_MS = 1_800_000;
const SWEEP_MS = 60_000;

type WatchCall = ServerWritableStream<WatchRequest, EndpointsMessage>;

export class DiscoveryServer {
  readonly #options: DiscoveryServerOptions;
  readonly #places: StreamPlaces;
  readonly #topics: Topics;
  readonly #refusals: RefusalTally;
  readonly #open = new Set<WatchCall>();
  readonly #sweeper: TimerHandle;
  #draining = false;
  #refused = 0;

  constructor(options: DiscoveryServerOptions) {
    const { cluster, clock, trustDomain, clusterDomain, bounds } = options;
    this.#options = options;
    this.#places = new StreamPlaces(clock, { ...STREAM_BOUNDS, ...bounds });
    this.#topics = new Topics({
      state: cluster,
      clock,
      trustDomain,
      clusterDomain,
      maxEndpoints: MAX_ENDPOINTS,
    });
    this.#refusals = new RefusalTally(clock);
    cluster.onChange((change) => {
      if (cluster.synced) this.#topics.changed(change);
    });
    this.#sweeper = clock.every(SWEEP_MS, () => this.#places.sweep());
  }

  get handlers(): { readonly Watch: (call: WatchCall) => void } {
    return { Watch: (call) => this.#watch(call) };
  }

  get stats(): {
    readonly streams: number;
    readonly services: number;
    readonly told: number;
    readonly refused: number;
  } {
    return {
      streams: this.#places.taken,
      services: this.#topics.size,
      told: this.#topics.told,
      refused: this.#refused,
    };
  }

  #watch(call: WatchCall): void {
    const gone = new AbortController();
    const end = (): void => {
      gone.abort();
      this.#open.delete(call);
    };
    call.on('cancelled', end);
    call.on('close', end);
    call.on('error', end);
    this.#open.add(call);
    this.#serve(call, gone.signal).catch((error) => {
      this.#options.log.error({ error: String(error) }, 'a stream of discovery failed');
      call.destroy(error as Error);
    });
  }

  async #serve(call: WatchCall, gone: AbortSignal): Promise<void> {
    const { namespace, authority, port } = call.request;
    if (this.#draining) return this.#refuse(call, DRAINING, undefined);
    if (authority === '' || authority.length > MAX_AUTHORITY) {
      const detail = `an authority has 1 to ${MAX_AUTHORITY} characters`;
      return this.#refuse(call, { status: 'INVALID_ARGUMENT', reason: 'bad-request', detail }, undefined);
    }
    if (namespace !== '' && !NAMESPACE.test(namespace)) {
      const detail = 'the namespace is none that Kubernetes can have';
      return this.#refuse(call, { status: 'INVALID_ARGUMENT', reason: 'bad-request', detail }, undefined);
    }
    const caller = await this.#callerOf(call);
    if (caller === undefined || gone.aborted) return;
    if (!(await this.#known(gone))) {
      if (!gone.aborted) this.#refuse(call, NOT_SYNCED, caller);
      return;
    }
    const full = this.#places.take(placeOf(caller));
    if (full !== undefined) {
      this.#refuse(call, { status: 'RESOURCE_EXHAUSTED', ...full }, caller);
      return;
    }
    const request = { authority, port, namespace: namespace === '' ? caller.namespace : namespace };
    this.#follow(call, gone, caller, request);
  }

  #follow(call: WatchCall, gone: AbortSignal, caller: TokenOwner, request: WatchRequest): void {
    const { clock, cluster, random = Math.random } = this.#options;
    let subscription: Subscription | undefined;
    // One message at a time: until it has gone out, only the newest state is kept.
    const take = (message: EndpointsMessage): boolean => {
      call.write(message, () => subscription?.resume());
      return false;
    };
    const ageing = clock.after(AGE_MS * (1 + random() / 2), () => call.end());
    gone.addEventListener(
      'abort',
      () => {
        clock.clear(ageing);
        subscription?.end();
        this.#places.giveBack(placeOf(caller));
      },
      { once: true },
    );
    const { namespace, pod } = caller;
    const zone = pod === undefined ? '' : cluster.zoneOf(namespace, pod.name);
    subscription = this.#topics.subscribe(request, zone, take);
  }

  async #callerOf(call: WatchCall): Promise<TokenOwner | undefined> {
    const found = await bearerOf(call, this.#options.tokens);
    if ('accepted' in found) return found;
    this.#refuse(call, found, undefined);
    return undefined;
  }

  /** The cluster is known, perhaps only now. */
  async #known(gone: AbortSignal): Promise<boolean> {
    const { cluster, clock } = this.#options;
    if (cluster.synced) return true;
    let timer: TimerHandle | undefined;
    const late = new Promise<void>((resolve) => {
      timer = clock.after(SYNC_MS, resolve);
      gone.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([cluster.whenSynced(), late]);
    clock.clear(timer);
    return cluster.synced && !gone.aborted;
  }

  #refuse(call: WatchCall, refusal: CallRefusal, caller: TokenOwner | undefined): void {
    const { grpc, recorder } = this.#options;
    const { status, reason, detail } = refusal;
    this.#refused++;
    call.emit('error', statusOf(refusal, grpc));
    if (status === 'UNAVAILABLE') return; // nobody's fault who asks
    const pod = caller?.pod === undefined ? undefined : `${caller.namespace}/${caller.pod.name}`;
    const remote = call.getPeer();
    this.#refusals.add(`${reason} ${pod ?? ''}`, (count) => {
      recorder.record({ type: 'discovery.refused', reason, detail, remote, pod, count });
    });
  }

  /** Takes no streams any more, and ends those that are open: sidecars go to another replica. */
  drain(): void {
    this.#draining = true;
    for (const call of this.#open) call.end();
  }

  close(): void {
    this.drain();
    this.#topics.close();
    this.#options.clock.clear(this.#sweeper);
  }
}

/** Whose places a caller takes: its pod's, or those of all who have its service account. */
const placeOf = ({ pod, namespace, serviceAccount }: TokenOwner): string =>
  pod?.uid ?? `${namespace}/${serviceAccount}`;

const DRAINING: CallRefusal = {
  status: 'UNAVAILABLE',
  reason: 'draining',
  detail: 'this replica of the controller is ending: ask another',
};

const NOT_SYNCED: CallRefusal = {
  status: 'UNAVAILABLE',
  reason: 'not-synced',
  detail: 'the controller has not read the services of its cluster yet; its log says what keeps it',
};
