import { EventEmitter } from 'node:events';
import * as grpc from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import type { EndpointsMessage } from '../../../src/control/messages.ts';
import { KubeError } from '../../../src/kube/client/errors.ts';
import { DiscoveryServer, type WatchedCluster } from '../../../src/kube/discovery/discoveryserver.ts';
import type { StreamBounds } from '../../../src/kube/discovery/streamplaces.ts';
import { ReviewPostponed, type TokenOwner, type TokenRefusal } from '../../../src/kube/tokenreview.ts';
import { silentLogger } from '../../../src/telemetry/log.ts';
import { FakeClock } from '../../harness/fake-clock.ts';
import { contextOn, settled } from '../../relay/memorywire.ts';
import { cluster, endpoint, pod, service, slice } from './cluster.ts';

const KNOWN = cluster({
  services: [service('greeter.shop')],
  slices: [slice('greeter.shop', [endpoint('10.1.0.1', 'a')])],
  pods: [pod('a', ['10.1.0.1'])],
});

/** A stream as grpc-js gives it. */
class Call extends EventEmitter {
  readonly metadata = new grpc.Metadata();
  readonly got: EndpointsMessage[] = [];
  readonly written: Array<() => void> = [];
  ended = false;
  /** `STATUS code: details`. */
  refused: string | undefined;
  pushback: unknown;
  readonly request: { authority: string; namespace: string; port: number };

  constructor(authority: string, token: string | undefined, namespace = '') {
    super();
    this.request = { authority, namespace, port: 0 };
    if (token !== undefined) this.metadata.set('authorization', `Bearer ${token}`);
    this.on('error', (error: grpc.StatusObject) => {
      const [code] = error.metadata.get('hauberk-error');
      this.refused = `${grpc.status[error.code]} ${code}: ${error.details}`;
      [this.pushback] = error.metadata.get('grpc-retry-pushback-ms');
      this.emit('close');
    });
  }

  write(message: EndpointsMessage, done: () => void): boolean {
    this.got.push(message);
    this.written.push(done);
    return true;
  }

  end(): void {
    this.ended = true;
    this.emit('close');
  }

  getPeer(): string {
    return '10.1.0.9:1234';
  }
}

function make({ synced = true, bounds = {} }: { synced?: boolean; bounds?: Partial<StreamBounds> } = {}) {
  const clock = new FakeClock();
  let isSynced = synced;
  let tellSynced: () => void = () => {};
  const whenSynced = new Promise<void>((resolve) => {
    tellSynced = resolve;
  });
  const watched: WatchedCluster = {
    ...KNOWN,
    get synced() {
      return isSynced;
    },
    whenSynced: () => whenSynced,
    onChange: () => {},
    zoneOf: () => '',
  };
  const callers: string[] = [];
  const review = async (token: string, caller: string): Promise<TokenOwner | TokenRefusal> => {
    callers.push(caller);
    if (token === 'many') throw new ReviewPostponed('address-limit', 'too many', 1500);
    if (token === 'away') throw new KubeError('the API server is away', { reason: 'Unreachable' });
    if (token === 'foreign') return { accepted: false, reason: 'not-a-service-account', message: 'a user' };
    if (token === 'bad') return { accepted: false, reason: 'not-authenticated', message: 'bad token' };
    const pod = token === 'unbound' ? undefined : { name: token, uid: `uid-${token}` };
    return { accepted: true, namespace: 'web', serviceAccount: 'web', uid: 'u', pod };
  };
  const server = new DiscoveryServer({
    cluster: watched,
    tokens: { review },
    trustDomain: 'shop.example',
    clusterDomain: 'cluster.local',
    clock,
    recorder: contextOn(clock).recorder,
    log: silentLogger,
    grpc,
    bounds,
    random: () => 0,
  });
  const watch = async (
    authority = 'greeter.shop',
    token: string | undefined = 'good',
    namespace = '',
  ): Promise<Call> => {
    const call = new Call(authority, token, namespace);
    server.handlers.Watch(call as never);
    await settled();
    return call;
  };
  return {
    clock,
    server,
    watch,
    callers,
    sync: async () => {
      isSynced = true;
      tellSynced();
      await settled();
    },
  };
}

describe('a stream of discovery', () => {
  it('tells a caller whose token is good where a service is', async () => {
    const { watch, server } = make();
    const call = await watch();
    expect(call.got.map(({ endpoints }) => endpoints.map(({ address }) => address))).toEqual([['10.1.0.1']]);
    expect(server.stats).toMatchObject({ streams: 1, services: 1, told: 1, refused: 0 });
  });

  it('looks for short names where the caller is, unless it says where', async () => {
    const { watch } = make();
    expect((await watch('greeter')).got[0]?.hint).toContain('no service greeter.web');
    expect((await watch('greeter', 'good', 'shop')).got[0]?.found).toBe(true);
  });

  it('may be that of a service account without a pod', async () => {
    expect((await make().watch('greeter.shop', 'unbound')).got).toHaveLength(1);
  });

  it('is refused where its namespace is none', async () => {
    const { watch, callers } = make();
    for (const namespace of ['Shop', 'a.b', '-', 'x'.repeat(64)]) {
      expect((await watch('greeter', 'good', namespace)).refused).toMatch(/^INVALID_ARGUMENT bad-request: /);
    }
    expect(callers).toEqual([]);
  });

  it('is to come again where its address has sent too many tokens', async () => {
    const { watch, callers } = make();
    const call = await watch('greeter.shop', 'many');
    expect([call.refused, call.pushback]).toEqual(['RESOURCE_EXHAUSTED address-limit: too many', '1500']);
    expect(callers).toEqual(['10.1.0.9']);
  });

  it('is refused without a token, with a bad one, and without a name', async () => {
    const { watch, server } = make();
    expect((await watch('greeter', '')).refused).toBe(
      'UNAUTHENTICATED no-token: send a service account token: authorization: Bearer ...',
    );
    expect((await watch('greeter', 'bad')).refused).toBe('UNAUTHENTICATED not-authenticated: bad token');
    expect((await watch('greeter', 'foreign')).refused).toBe(
      'PERMISSION_DENIED not-a-service-account: a user',
    );
    const away = await watch('greeter', 'away');
    expect([away.refused, away.pushback]).toEqual([
      'UNAVAILABLE kubernetes-unavailable: the API server cannot be asked about the token now: come again later',
      '1000',
    ]);
    expect((await watch('')).refused).toContain('INVALID_ARGUMENT bad-request');
    expect((await watch('x'.repeat(301))).refused).toContain('INVALID_ARGUMENT bad-request');
    expect(server.stats).toMatchObject({ streams: 0, services: 0, refused: 6 });
  });

  it('tells nothing before the cluster is known, and all of it then', async () => {
    const { watch, sync } = make({ synced: false });
    const call = await watch();
    expect([call.got, call.refused]).toEqual([[], undefined]);
    await sync();
    expect(call.got).toHaveLength(1);
  });

  it('is refused for now if the cluster does not become known', async () => {
    const { watch, clock } = make({ synced: false });
    const call = await watch();
    clock.advance(10_000);
    await settled();
    expect([call.got, call.refused]).toEqual([
      [],
      'UNAVAILABLE not-synced: the controller has not read the services of its cluster yet; its log says what keeps it',
    ]);
  });

  it('ends when its token is to be looked at anew, and when the controller ends', async () => {
    const { watch, clock, server } = make();
    const old = await watch();
    clock.advance(1_000_000);
    const young = await watch();
    clock.advance(800_000);
    expect([old.ended, young.ended]).toEqual([true, false]);
    server.drain();
    expect(young.ended).toBe(true);
    expect((await watch()).refused).toContain('UNAVAILABLE draining');
    expect(server.stats.streams).toBe(0);
    server.close();
    expect(clock.pending).toBe(0);
  });

  it('is one of so many of its pod, and of all', async () => {
    const { watch } = make({ bounds: { streamsPerPod: 2, streams: 3 } });
    const [first] = [await watch(), await watch('a.b')];
    expect((await watch('c.d')).refused).toBe(
      'RESOURCE_EXHAUSTED pod-limit: the pod has 2 streams open: end some',
    );
    expect((await watch('a.b', 'other')).refused).toBeUndefined();
    expect((await watch('a.b', 'third')).refused).toContain('RESOURCE_EXHAUSTED busy');
    first?.emit('cancelled');
    first?.emit('close');
    expect((await watch('a.b', 'third')).refused).toBeUndefined();
    expect((await watch('c.d')).refused).toContain('RESOURCE_EXHAUSTED');
  });

  it('is not opened faster than its pod may, and is told when', async () => {
    const { watch, clock } = make({ bounds: { burst: 3, perSecond: 2 } });
    for (let i = 0; i < 3; i++) expect((await watch(`s${i}.shop`)).refused).toBeUndefined();
    const late = await watch('s9.shop');
    expect([late.refused, late.pushback]).toEqual([
      'RESOURCE_EXHAUSTED pod-pace: the pod opens more than 2 streams a second',
      '500',
    ]);
    expect((await watch('s9.shop', 'other')).refused).toBeUndefined();
    clock.advance(500);
    expect((await watch('s9.shop')).refused).toBeUndefined();
  });

  it('that is cancelled while its token is checked takes no place', async () => {
    const { server } = make();
    const call = new Call('greeter.shop', 'good');
    server.handlers.Watch(call as never);
    call.emit('cancelled');
    await settled();
    expect([call.got, server.stats.streams]).toEqual([[], 0]);
  });
});
