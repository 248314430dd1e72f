/** Caches of the API server's collections against the real one: restarts, compaction, silence, rights that come and go. */
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { collectionPath, ENDPOINT_SLICES } from '../../src/kube/client/resource.ts';
import type { EndpointSlice } from '../../src/kube/objects.ts';
import { Cache } from '../../src/kube/watch/cache.ts';
import { Kubernetes } from '../harness/kubernetes.ts';

const slices = collectionPath(ENDPOINT_SLICES, 'shop');
const RULE = { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] };

let cluster: Kubernetes;
let client: KubeClient;

/** Where a service is, by its slice's name: `greeter-1: 10.0.0.1`. */
interface Watched {
  readonly cache: Cache<EndpointSlice, string>;
  /** What is known: sorted lines. */
  known(): string[];
  /** What has changed since the last look: `added greeter-1: 10.0.0.1`. */
  changes(): string[];
}

const settled = { timeout: 60_000, interval: 20 };

async function watched(options: { quietMs?: number; limit?: number } = {}): Promise<Watched> {
  const cache = new Cache<EndpointSlice, string>({
    client,
    clock: systemClock,
    path: slices,
    keep: ({ metadata: { name }, endpoints }) =>
      `${name}: ${(endpoints ?? []).flatMap(({ addresses = [] }) => addresses).join(' ')}`,
    ...options,
  });
  let told: string[] = [];
  cache.onChange(({ type, object }) => told.push(`${type} ${object}`));
  cache.start();
  onTestFinished(() => cache.stop());
  await cache.whenSynced();
  told = [];
  return {
    cache,
    known: () => [...cache.all()].sort(),
    changes: () => told.splice(0),
  };
}

const place = async (service: string, ...addresses: string[]): Promise<void> => {
  await cluster.apply(cluster.endpointSlice('shop', service, addresses, { grpc: 50051 }));
};
const remove = async (service: string): Promise<void> => {
  await cluster.request('DELETE', `${slices}/${service}-1`);
};

beforeAll(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace('shop', {}, 'worker');
  await cluster.grant('shop', 'worker', [RULE]);
  client = openKubeClient({
    access: await cluster.accessOf(await cluster.token('shop', 'worker')),
    clock: systemClock,
  });
  await place('greeter', '10.0.0.1');
  return () => client.close();
});

describe('a cache', () => {
  test('knows what was there, and is told each change once', async () => {
    const { cache, known, changes } = await watched();
    expect(known()).toEqual(['greeter-1: 10.0.0.1']);
    await place('greeter', '10.0.0.1', '10.0.0.2');
    await place('web', '10.0.0.9');
    await remove('web');
    const told: string[] = [];
    await expect.poll(() => told.push(...changes()), settled).toBe(3);
    expect(told).toEqual([
      'modified greeter-1: 10.0.0.1 10.0.0.2',
      'added web-1: 10.0.0.9',
      'deleted web-1: 10.0.0.9',
    ]);
    expect(cache.lists).toBe(1);
  });

  test('keeps what it has while the server is away; afterwards tells only what has changed meanwhile', async () => {
    await place('greeter', '10.0.0.1');
    await place('leaving', '10.0.0.7');
    const { cache, known, changes } = await watched();
    const before = ['greeter-1: 10.0.0.1', 'leaving-1: 10.0.0.7'];
    await cluster.killApiServer();
    await expect.poll(() => cache.failure?.reason, settled).toBe('Unreachable');
    expect([cache.synced, known()]).toEqual([true, before]);
    await cluster.startApiServer();
    await place('greeter', '10.0.0.3');
    await remove('leaving');
    await cluster.compact();
    await expect.poll(known, settled).toEqual(['greeter-1: 10.0.0.3']);
    expect(changes().sort()).toEqual(['deleted leaving-1: 10.0.0.7', 'modified greeter-1: 10.0.0.3']);
    await expect.poll(() => cache.failure, settled).toBe(undefined);
    await place('greeter', '10.0.0.4');
    await expect.poll(known, settled).toEqual(['greeter-1: 10.0.0.4']);
  });

  test('of a server that restarts three times in a row is told everything in the end', async () => {
    const { known } = await watched();
    for (const address of ['10.0.1.1', '10.0.1.2', '10.0.1.3']) {
      await cluster.killApiServer();
      await cluster.startApiServer();
      await place('greeter', address);
    }
    await expect.poll(known, settled).toEqual(['greeter-1: 10.0.1.3']);
  });

  test('notices that a server has fallen silent, and goes on when it speaks again', async () => {
    const { cache, known } = await watched({ quietMs: 3_000 });
    onTestFinished(() => cluster.resumeApiServer());
    await place('other', '10.0.0.8');
    await expect.poll(known, settled).toEqual(['greeter-1: 10.0.1.3', 'other-1: 10.0.0.8']);
    cluster.pauseApiServer();
    await expect.poll(() => cache.failure?.reason, settled).toBe('Silent');
    expect(known()).toHaveLength(2);
    cluster.resumeApiServer();
    await remove('other');
    await place('greeter', '10.0.0.1');
    await expect.poll(known, settled).toEqual(['greeter-1: 10.0.0.1']);
  });

  test('says which right is missing, keeps what it has, and goes on once the right is given', async () => {
    const { cache, known } = await watched({ quietMs: 1_000 });
    await cluster.grant('shop', 'worker', []);
    await expect
      .poll(() => cache.failure?.message, settled)
      .toContain(
        'grant the controller\'s service account the verb "watch" on the resource "endpointslices" of the API group "discovery.k8s.io"',
      );
    expect(known()).toEqual(['greeter-1: 10.0.0.1']);
    await cluster.grant('shop', 'worker', [RULE]);
    await place('greeter', '10.0.0.2');
    await expect.poll(known, settled).toEqual(['greeter-1: 10.0.0.2']);
    expect(cache.failure).toBe(undefined);
  });

  test('of 700 objects is read in pages, and is whole', async () => {
    const all = Array.from({ length: 700 }, (_, i) => `many${i}`);
    for (let from = 0; from < all.length; from += 50)
      await Promise.all(
        all.slice(from, from + 50).map((name, i) => place(name, `10.1.${from / 50}.${i + 1}`)),
      );
    const { cache } = await watched({ limit: 64 });
    expect(cache.size).toBe(701);
    const asked = cluster
      .requestsOf('system:serviceaccount:shop:worker')
      .filter(({ verb }) => verb === 'list');
    expect(asked.length).toBeGreaterThan(10);
  });
});
