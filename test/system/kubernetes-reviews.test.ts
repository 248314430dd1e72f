/** Reviews of tokens, leader election and events against the real API server, with a service account's own rights. */
import { beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { collectionPath, EVENTS, LEASES, objectPath } from '../../src/kube/client/resource.ts';
import { EventRecorder } from '../../src/kube/eventrecorder.ts';
import { LeaderElection } from '../../src/kube/lease.ts';
import type { KubeEvent, Lease } from '../../src/kube/objects.ts';
import { TokenReviewer } from '../../src/kube/tokenreview.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { Kubernetes } from '../harness/kubernetes.ts';

const RBAC = 'rbac.authorization.k8s.io';
const settled = { timeout: 60_000, interval: 20 };

let cluster: Kubernetes;
let client: KubeClient;

beforeAll(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace('system', {}, 'controller');
  await cluster.namespace('shop', {}, 'web');
  await cluster.grant('system', 'controller', [
    { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['create', 'get', 'update'] },
    { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch'] },
  ]);
  const rules = [{ apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] }];
  await cluster.apply(
    { apiVersion: `${RBAC}/v1`, kind: 'ClusterRole', metadata: { name: 'reviews' }, rules },
    {
      apiVersion: `${RBAC}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name: 'reviews' },
      roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: 'reviews' },
      subjects: [{ kind: 'ServiceAccount', name: 'controller', namespace: 'system' }],
    },
  );
  const access = await cluster.accessOf(await cluster.token('system', 'controller'));
  client = openKubeClient({ access, clock: systemClock });
  return () => client.close();
});

describe('a token', () => {
  /** One that remembers nothing yet. */
  const reviewer = () => {
    const bounds = { maxPerSecond: 200, maxWaiting: 4096, maxPerAddress: 300 };
    const made = new TokenReviewer({
      client,
      clock: systemClock,
      audience: 'hauberk',
      log: silentLogger,
      bounds,
    });
    return { review: (token: string) => made.review(token, '127.0.0.1') };
  };

  test('bound to a pod is its service account’s and its pod’s, until the pod is deleted', async () => {
    const path = '/api/v1/namespaces/shop/pods';
    const spec = { serviceAccountName: 'web', containers: [{ name: 'app', image: 'app' }] };
    const [made] = await cluster.apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'web-1', namespace: 'shop' },
      spec,
    });
    const pod = { name: 'web-1', uid: made.metadata.uid as string };
    const token = await cluster.token('shop', 'web', { audience: 'hauberk', pod });
    const account = (await cluster.request('GET', '/api/v1/namespaces/shop/serviceaccounts/web')).body;
    expect(await reviewer().review(token)).toEqual({
      accepted: true,
      namespace: 'shop',
      serviceAccount: 'web',
      uid: account.metadata.uid,
      pod,
    });
    await cluster.request('DELETE', `${path}/web-1?gracePeriodSeconds=0`);
    await expect.poll(async () => (await reviewer().review(token)).accepted, settled).toBe(false);
  });

  test('without a pod has none', async () => {
    const token = await cluster.token('shop', 'web', { audience: 'hauberk' });
    expect(await reviewer().review(token)).toMatchObject({ accepted: true, pod: undefined });
  });

  test('for the API server itself, of a stranger, or not a service account’s is refused', async () => {
    const forServer = await reviewer().review(await cluster.token('shop', 'web'));
    expect(forServer).toMatchObject({ accepted: false, reason: 'not-authenticated' });
    expect(forServer).toHaveProperty('message', expect.stringContaining('invalid for the target audiences'));
    const [header, payload] = (await cluster.token('shop', 'web', { audience: 'hauberk' })).split('.');
    const forged = `${header}.${payload}.${'A'.repeat(342)}`;
    expect(await reviewer().review(forged)).toMatchObject({ accepted: false, reason: 'not-authenticated' });
  });
});

describe('a Lease', () => {
  const candidate = (identity: string): LeaderElection =>
    new LeaderElection({ client, clock: systemClock, namespace: 'system', name: 'leader', identity });
  const lease = () => client.get<Lease>(objectPath(LEASES, 'leader', 'system'));

  test('has one holder, who renews it, lets go and is followed at once', async () => {
    const [a, b] = [candidate('a'), candidate('b')];
    try {
      a.start();
      await expect.poll(() => a.isLeader, settled).toBe(true);
      b.start();
      const first = await lease();
      expect(first.spec?.holderIdentity).toBe(a.identity);
      await expect
        .poll(async () => (await lease()).spec?.renewTime !== first.spec?.renewTime, settled)
        .toBe(true);
      expect((await lease()).spec?.acquireTime).toBe(first.spec?.acquireTime);
      await expect.poll(() => b.holder, settled).toBe(a.identity);
      expect(b.isLeader).toBe(false);
      await a.stop();
      expect(a.isLeader).toBe(false);
      expect((await lease()).spec?.holderIdentity).toBe('');
      await expect.poll(() => b.isLeader, settled).toBe(true);
      expect((await lease()).spec).toMatchObject({ holderIdentity: b.identity, leaseTransitions: 1 });
    } finally {
      await a.stop();
      await b.stop();
    }
  });
});

test('events are accepted, and counted where they repeat', async () => {
  let ahead = 0;
  // Minutes pass at once.
  const clock = {
    ...systemClock,
    monotonic: () => performance.now() + ahead,
    after: (ms: number, run: () => void) => systemClock.after(Math.max(0, ms - ahead), run),
  };
  const recorder = new EventRecorder({ client, clock, instance: 'controller-1' });
  const current = await client.get<Lease>(objectPath(LEASES, 'leader', 'system'));
  const happened = (): boolean =>
    recorder.record({
      regarding: {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        namespace: 'system',
        name: 'leader',
        uid: current.metadata.uid as string,
      },
      type: 'Warning',
      reason: 'LeaderChanged',
      action: 'Lead',
      note: 'another replica leads: see its log',
    });
  const events = async (): Promise<KubeEvent[]> =>
    (await cluster.request('GET', collectionPath(EVENTS, 'system'))).body.items;
  happened();
  await expect.poll(async () => (await events()).length, settled).toBe(1);
  happened();
  ahead = 60_000;
  happened();
  await recorder.stop();
  expect(recorder.dropped).toBe(0);
  expect(await events()).toMatchObject([
    {
      reason: 'LeaderChanged',
      note: 'another replica leads: see its log',
      reportingController: 'hauberk.mesh/controller',
      reportingInstance: 'controller-1',
      series: { count: 3 },
    },
  ]);
});
