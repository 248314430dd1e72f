/** What the other tests take for granted of their API server: it is the real one, and it does what a cluster's does. */
import { beforeAll, describe, expect, test } from 'vitest';
import { startAdmissionServer } from '../harness/admissionserver.ts';
import { Kubernetes, type Manifest } from '../harness/kubernetes.ts';

describe('kube-apiserver with etcd', () => {
  let cluster: Kubernetes;
  beforeAll(async () => {
    cluster = await Kubernetes.make();
    await cluster.namespace('shop', {}, 'web');
  });

  test('is Kubernetes 1.35, and kubectl agrees', async () => {
    const { stdout } = await cluster.kubectl(['version', '--output=json']);
    expect(JSON.parse(stdout).serverVersion).toMatchObject({
      major: '1',
      minor: '35',
      gitVersion: 'v1.35.0',
    });
  });

  test('who has no token or a wrong one is refused, and a service account may do nothing by itself', async () => {
    const pods = '/api/v1/namespaces/shop/pods';
    expect((await cluster.request('GET', pods, { token: 'made up' })).status).toBe(401);
    expect((await cluster.request('GET', pods, { token: '' })).status).toBe(403);
    const token = await cluster.token('shop', 'web');
    const { status, body } = await cluster.request('GET', pods, { token });
    expect([status, body.message]).toEqual([
      403,
      'pods is forbidden: User "system:serviceaccount:shop:web" cannot list resource "pods" in API group "" in the namespace "shop"',
    ]);
  });

  test('a pod needs its service account, and Pod Security holds where a namespace says so', async () => {
    const missing = await cluster.request('POST', '/api/v1/namespaces/shop/pods', {
      body: pod('shop', { serviceAccountName: 'nobody' }),
    });
    expect([missing.status, missing.body.message]).toEqual([
      403,
      expect.stringContaining('serviceaccount "nobody" not found'),
    ]);
    await cluster.namespace('strict', { 'pod-security.kubernetes.io/enforce': 'restricted' });
    const { status, body } = await cluster.request('POST', '/api/v1/namespaces/strict/pods', {
      body: pod('strict'),
    });
    expect([status, body.message]).toEqual([
      403,
      expect.stringContaining('violates PodSecurity "restricted'),
    ]);
  });

  test('a revision from before a compaction is gone', async () => {
    const [old] = await cluster.apply(settings('first'));
    for (const text of ['second', 'third']) await cluster.apply(settings(text));
    const page = await cluster.request('GET', '/api/v1/namespaces?limit=1');
    await cluster.apply(settings('fourth'));
    await cluster.compact();
    const rest = await cluster.request(
      'GET',
      `/api/v1/namespaces?limit=1&continue=${page.body.metadata.continue}`,
    );
    expect([rest.status, rest.body.reason]).toEqual([410, 'Expired']);
    await cluster.killApiServer();
    await cluster.startApiServer();
    const watch = await cluster.request(
      'GET',
      `/api/v1/namespaces/shop/configmaps?watch=1&timeoutSeconds=5&resourceVersion=${old.metadata.resourceVersion}`,
    );
    expect(watch.body).toMatchObject({ type: 'ERROR', object: { code: 410, reason: 'Expired' } });
    const kept = await cluster.request('GET', '/api/v1/namespaces/shop/configmaps/settings');
    expect(kept.body.data).toEqual({ text: 'fourth' });
  });

  test('a webhook of a Service is called at the address of its EndpointSlice', async () => {
    const asked: string[] = [];
    await startAdmissionServer(cluster, 'shop', 'configmaps', ({ object }) => {
      asked.push(object.metadata.generateName);
      return { patch: [{ op: 'add', path: '/data/seen', value: 'yes' }] };
    });
    // Registrations are noticed by and by.
    await expect
      .poll(
        async () => {
          const body = { ...settings('hooked'), metadata: { generateName: 'hooked-' } };
          return (await cluster.request('POST', '/api/v1/namespaces/shop/configmaps', { body })).body.data;
        },
        { timeout: 30_000, interval: 200 },
      )
      .toEqual({ text: 'hooked', seen: 'yes' });
    expect(asked).toEqual(['hooked-']);
  });
});

function settings(text: string): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'settings', namespace: 'shop' },
    data: { text },
  };
}

function pod(namespace: string, spec: Readonly<Record<string, unknown>> = {}): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'app', namespace },
    spec: { containers: [{ name: 'app', image: 'app' }], ...spec },
  };
}
