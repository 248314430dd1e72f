/** The client of the API server against the real one, as a service account that has rights in one namespace. */
import { rename, writeFile } from 'node:fs/promises';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import type { KubeAccess } from '../../src/config/incluster.ts';
import type { KubeClient, WatchOptions } from '../../src/kube/client/client.ts';
import { KubeError } from '../../src/kube/client/errors.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { collectionPath, LEASES, NAMESPACES, objectPath, SECRETS } from '../../src/kube/client/resource.ts';
import type { KubeSecret, Lease } from '../../src/kube/objects.ts';
import { startAdmissionServer } from '../harness/admissionserver.ts';
import { Kubernetes } from '../harness/kubernetes.ts';

const secrets = collectionPath(SECRETS, 'shop');
let cluster: Kubernetes;
let access: KubeAccess;
let client: KubeClient;

beforeAll(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace('shop', {}, 'worker', 'short-lived');
  await cluster.grant('shop', 'worker', [
    { apiGroups: [''], resources: ['secrets', 'configmaps'], verbs: ['*'] },
    { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['*'] },
  ]);
  access = await cluster.accessOf(await cluster.token('shop', 'worker'));
  client = openKubeClient({ access, clock: systemClock });
  return () => client.close();
});

describe('objects', () => {
  const secret = (name: string, data: Readonly<Record<string, string>>): KubeSecret => ({
    metadata: { name },
    type: 'Opaque',
    data,
  });

  test('are created, read, replaced by their resource version, and deleted', async () => {
    const one = objectPath(SECRETS, 'ca', 'shop');
    const made = await client.create(secrets, secret('ca', { one: 'MQ==' }));
    expect(await client.get(one)).toMatchObject({
      metadata: { name: 'ca', uid: made.metadata.uid },
      data: { one: 'MQ==' },
    });
    await expect(client.create(secrets, secret('ca', {}))).rejects.toMatchObject({
      conflict: true,
      reason: 'AlreadyExists',
    });
    const now = await client.replace<KubeSecret>(one, { ...made, data: { two: 'Mg==' } });
    expect(now.data).toEqual({ two: 'Mg==' });
    const late = await failure(client.replace(one, { ...made, data: {} }));
    expect([late.status, late.reason, late.conflict]).toEqual([409, 'Conflict', true]);
    expect(late.message).toContain('when asked to update secrets ca in namespace shop');
    await client.delete(one);
    expect(await failure(client.get(one))).toMatchObject({ status: 404, notFound: true });
  });

  test('are changed by patches of all four types', async () => {
    const one = objectPath(LEASES, 'leader', 'shop');
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'leader' } };
    await client.patch<Lease>(one, { ...lease, spec: { holderIdentity: 'a' } }, 'apply');
    const theirs = { ...lease, spec: { holderIdentity: 'b' } };
    const conflict = await failure(client.patch(one, theirs, 'apply', { fieldManager: 'other' }));
    expect([conflict.status, conflict.message]).toEqual([
      409,
      expect.stringContaining('.spec.holderIdentity'),
    ]);
    const forced = await client.patch<Lease>(one, theirs, 'apply', { fieldManager: 'other', force: true });
    expect(forced.spec?.holderIdentity).toBe('b');
    await client.patch<Lease>(one, { metadata: { labels: { app: 'web', old: 'yes' } } }, 'merge');
    await client.patch<Lease>(one, { metadata: { labels: { old: null } } }, 'strategic');
    const test = { op: 'test', path: '/metadata/labels', value: { app: 'web' } };
    const change = { op: 'replace', path: '/spec/holderIdentity', value: 'c' };
    expect((await client.patch<Lease>(one, [test, change], 'json')).spec?.holderIdentity).toBe('c');
    const failed = await failure(client.patch(one, [{ ...test, value: {} }, change], 'json'));
    expect(failed.status).toBe(422);
  });

  test('of a collection come page by page, and all are of one revision', async () => {
    for (let i = 0; i < 7; i++)
      await client.create(secrets, {
        ...secret(`page-${i}`, {}),
        metadata: { name: `page-${i}`, labels: { of: 'pages' } },
      });
    const pages: string[][] = [];
    const options = { limit: 3, labelSelector: 'of=pages' };
    for await (const page of client.pages(secrets, options)) {
      pages.push(page.items.map(({ metadata }) => metadata.name as string));
      // Not of the revision that is being listed.
      if (pages.length === 1) await client.delete(objectPath(SECRETS, 'page-6', 'shop'));
    }
    expect(pages).toEqual([['page-0', 'page-1', 'page-2'], ['page-3', 'page-4', 'page-5'], ['page-6']]);
    expect((await client.list(secrets, options)).items).toHaveLength(6);
  });

  test('a list whose revision was compacted meanwhile fails as expired', async () => {
    // Of another kind, so that the server has no copy of the revision that is listed and must ask etcd.
    const other = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'other', namespace: 'shop' } };
    await cluster.apply({ ...other, data: { at: 'first' } });
    const reading = (async () => {
      let pages = 0;
      for await (const _ of client.pages(secrets, { limit: 1 })) {
        pages++;
        if (pages > 1) continue;
        await cluster.apply({ ...other, data: { at: 'page one' } });
        await cluster.compact();
      }
    })();
    expect(await failure(reading)).toMatchObject({ status: 410, reason: 'Expired', expired: true });
  });
});

describe('a watch', () => {
  const watching = (options: WatchOptions): { told: string[]; ended: Promise<KubeError | undefined> } => {
    const told: string[] = [];
    const reading = async (): Promise<void> => {
      for await (const { type, object } of client.watch(secrets, options))
        told.push(type === 'BOOKMARK' ? type : `${type} ${object.metadata.name}`);
    };
    return { told, ended: failureOf(reading()) };
  };

  test('tells each change once and in order, then bookmarks; the server ends it when its time is over', async () => {
    const one = objectPath(SECRETS, 'seen', 'shop');
    const from = (await client.list(secrets)).metadata.resourceVersion as string;
    const changes = async (): Promise<void> => {
      await client.create(secrets, { metadata: { name: 'seen' } });
      await client.patch(one, { metadata: { labels: { a: 'b' } } }, 'merge');
      await client.delete(one);
    };
    const changed = changes();
    const told: string[] = [];
    let last = '';
    for await (const { type, object } of client.watch(secrets, {
      resourceVersion: from,
      timeoutSeconds: 3,
    })) {
      const { name = '', labels = {}, resourceVersion = '' } = object.metadata;
      told.push(type === 'BOOKMARK' ? type : `${type} ${name} ${JSON.stringify(labels)}`);
      last = resourceVersion;
    }
    await changed;
    expect(told.filter((what) => what !== 'BOOKMARK')).toEqual([
      'ADDED seen {}',
      'MODIFIED seen {"a":"b"}',
      'DELETED seen {"a":"b"}',
    ]);
    // A server sends one before it ends a watch, so that the next one misses nothing.
    expect(told.at(-1)).toBe('BOOKMARK');
    expect(BigInt(last)).toBeGreaterThan(BigInt(from));
  });

  test('that its server leaves fails at once; a server that was started again remembers no earlier revision', async () => {
    const from = (await client.list(secrets)).metadata.resourceVersion as string;
    const { told, ended } = watching({ resourceVersion: from });
    await client.create(secrets, { metadata: { name: 'kept' } });
    await expect.poll(() => told).toEqual(['ADDED kept']);
    await cluster.killApiServer();
    expect((await ended)?.reason).toBe('Unreachable');
    const away = await failure(client.get(objectPath(SECRETS, 'kept', 'shop')));
    expect([away.status, away.reason, away.message]).toEqual([
      0,
      'Unreachable',
      expect.stringContaining('ECONNREFUSED'),
    ]);
    await cluster.startApiServer();
    await client.create(secrets, { metadata: { name: 'newer' } });
    const old = watching({ resourceVersion: from, timeoutSeconds: 5 });
    expect(await old.ended).toMatchObject({ status: 410, expired: true });
    expect(old.told).toEqual([]);
  });

  test('of a server that hangs counts as dead after a while, and other requests end by their deadline', async () => {
    const from = (await client.list(secrets)).metadata.resourceVersion as string;
    onTestFinished(() => cluster.resumeApiServer());
    const { told, ended } = watching({ resourceVersion: from, quietMs: 3_000 });
    await client.create(secrets, { metadata: { name: 'before' } });
    await expect.poll(() => told).toEqual(['ADDED before']);
    cluster.pauseApiServer();
    const late = await failure(client.list(secrets, { deadlineMs: 500 }));
    expect([late.reason, late.message]).toEqual([
      'DeadlineExceeded',
      expect.stringMatching(/list secrets in namespace shop.* no answer in \d+ ms/),
    ]);
    expect((await ended)?.reason).toBe('Silent');
    cluster.resumeApiServer();
    expect((await client.list(secrets)).items.length).toBeGreaterThan(0);
  });
});

describe('who may not', () => {
  test('is told what right is missing', async () => {
    const { status, reason, message } = await failure(client.list(collectionPath(NAMESPACES)));
    expect([status, reason]).toEqual([403, 'Forbidden']);
    expect(message).toMatch(
      /cannot list resource "namespaces".*; grant the controller's service account the verb "list" on the resource "namespaces" of the API group "" by a ClusterRole and its binding$/,
    );
    const { message: elsewhere } = await failure(client.get(objectPath(SECRETS, 'ca', 'kube-system')));
    expect(elsewhere).toMatch(
      /the verb "get" on the resource "secrets" of the API group "" by a Role and its binding in namespace kube-system$/,
    );
  });

  test('is refused once its service account is gone, and goes on with a new token as soon as the file has it', async () => {
    const theirs = await cluster.accessOf(await cluster.token('shop', 'short-lived'));
    const other = openKubeClient({ access: theirs, clock: systemClock });
    onTestFinished(() => other.close());
    expect((await failure(other.list(secrets))).status).toBe(403);
    await cluster.request('DELETE', '/api/v1/namespaces/shop/serviceaccounts/short-lived');
    // The server remembers tokens for some seconds.
    await expect
      .poll(async () => (await failure(other.list(secrets))).status, {
        timeout: 30_000,
        interval: 500,
      })
      .toBe(401);
    await writeFile(`${theirs.token}.new`, await cluster.token('shop', 'worker'));
    await rename(`${theirs.token}.new`, theirs.token);
    expect((await other.list(secrets)).items.length).toBeGreaterThan(0);
  });

  test('a server with a certificate of another CA is not spoken with', async () => {
    const stranger = await cluster.certificate('stranger', ['IP:127.0.0.1']);
    const other = openKubeClient({ access: { ...access, ca: stranger.cert }, clock: systemClock });
    onTestFinished(() => other.close());
    expect(await failure(other.list(secrets))).toMatchObject({
      status: 0,
      reason: 'Untrusted',
    });
  });
});

test('a server that has too much to do is asked again when it says so; then the error says it', async () => {
  const worker = 'system:serviceaccount:shop:worker';
  const group = 'flowcontrol.apiserver.k8s.io';
  const refused = (): number => cluster.requestsOf(worker).filter(({ code }) => code === 429).length;
  const release: Array<() => void> = [];
  onTestFinished(() => {
    for (const go of release) go();
  });
  await startAdmissionServer(
    cluster,
    'shop',
    'configmaps',
    () => new Promise((go) => release.push(() => go({}))),
  );
  // One request at a time: one runs however few are allowed.
  await cluster.apply(
    {
      apiVersion: `${group}/v1`,
      kind: 'PriorityLevelConfiguration',
      metadata: { name: 'one' },
      spec: {
        type: 'Limited',
        limited: {
          nominalConcurrencyShares: 0,
          lendablePercent: 0,
          borrowingLimitPercent: 0,
          limitResponse: { type: 'Reject' },
        },
      },
    },
    {
      apiVersion: `${group}/v1`,
      kind: 'FlowSchema',
      metadata: { name: 'one' },
      spec: {
        priorityLevelConfiguration: { name: 'one' },
        matchingPrecedence: 2,
        rules: [
          {
            subjects: [{ kind: 'ServiceAccount', serviceAccount: { namespace: 'shop', name: 'worker' } }],
            resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'] }],
          },
        ],
      },
    },
  );
  // Until webhook and level are noticed.
  const configMaps = '/api/v1/namespaces/shop/configmaps';
  const long: Array<Promise<KubeError | undefined>> = [];
  let error: KubeError | undefined;
  await expect
    .poll(
      async () => {
        long.push(failureOf(client.create(configMaps, { metadata: { generateName: 'slow-' } })));
        error = await failureOf(client.list(secrets, { deadlineMs: 900 }));
        return error?.status;
      },
      { timeout: 30_000, interval: 200 },
    )
    .toBe(429);
  expect([error?.reason, error?.retryAfterMs]).toEqual(['TooManyRequests', 1000]);
  expect(error?.message).toContain('its priority level is full');
  const before = refused();
  const waiting = client.list(secrets, { deadlineMs: 60_000 });
  await expect.poll(refused, { timeout: 20_000 }).toBeGreaterThan(before);
  for (const go of release) go();
  expect((await waiting).items.length).toBeGreaterThan(0);
  await Promise.all(long);
});

async function failure(doing: Promise<unknown>): Promise<KubeError> {
  const error = await failureOf(doing);
  if (error === undefined) throw new Error('it did not fail');
  return error;
}

async function failureOf(doing: Promise<unknown>): Promise<KubeError | undefined> {
  try {
    await doing;
    return undefined;
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    return error;
  }
}
