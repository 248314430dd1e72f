import { rm, writeFile } from 'node:fs/promises';
import { inspect } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { KubeError } from '../../src/kube/client/errors.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { collectionPath, objectPath, PODS, SECRETS } from '../../src/kube/client/resource.ts';
import type { KubeSecret, Pod } from '../../src/kube/objects.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { makeServerCertificate } from '../harness/kubetls.ts';

const SHOP = collectionPath(PODS, 'shop');
const pod = (name: string): Pod => ({ metadata: { name } });

let api: KubeApi;
const clients: KubeClient[] = [];

beforeEach(async () => {
  api = await KubeApi.start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await api.end();
});

function open(clock: Clock = systemClock, more: { maxAnswerBytes?: number; maxEventBytes?: number } = {}) {
  const client = openKubeClient({ access: api.access, clock, ...more });
  clients.push(client);
  return client;
}

const failure = (promise: Promise<unknown>): Promise<KubeError> =>
  promise.then(
    () => expect.unreachable('it did not fail'),
    (error) => {
      expect(error).toBeInstanceOf(KubeError);
      return error as KubeError;
    },
  );

it('creates, reads, replaces, patches and deletes an object', async () => {
  const client = open();
  const path = objectPath(SECRETS, 'ca', 'shop');
  const made = await client.create<KubeSecret>(collectionPath(SECRETS, 'shop'), {
    metadata: { name: 'ca' },
    data: { a: 'MQ==' },
  });
  expect(await client.get(path)).toEqual(made);
  const replaced = await client.replace<KubeSecret>(path, { ...made, data: { a: 'Mg==' } });
  expect(replaced.data).toEqual({ a: 'Mg==' });
  const merged = await client.patch<KubeSecret>(path, { data: { b: 'Mw==' } }, 'merge');
  expect(merged.data).toEqual({ a: 'Mg==', b: 'Mw==' });
  const patched = await client.patch<KubeSecret>(path, [{ op: 'remove', path: '/data/a' }], 'json');
  expect(patched.data).toEqual({ b: 'Mw==' });
  await client.delete(path);
  expect((await failure(client.get(path))).notFound).toBe(true);
});

it('a replacement of an older version is a conflict', async () => {
  const client = open();
  const path = objectPath(SECRETS, 'ca', 'shop');
  const made = await client.create<KubeSecret>(collectionPath(SECRETS, 'shop'), { metadata: { name: 'ca' } });
  await client.replace(path, made);
  const error = await failure(client.replace(path, made));
  expect(error.conflict).toBe(true);
  expect(error.reason).toBe('Conflict');
});

it('a list comes page by page, all of one resource version', async () => {
  for (let i = 0; i < 7; i++) api.put(SHOP, pod(`web-${i}`));
  const version = api.store.version;
  const list = await open().list<Pod>(SHOP, { limit: 3 });
  expect(list.items.map(({ metadata }) => metadata.name)).toEqual(
    [0, 1, 2, 3, 4, 5, 6].map((i) => `web-${i}`),
  );
  expect(list.metadata.resourceVersion).toBe(version);
  expect(api.asked.map(({ query }) => query.get('continue') === null)).toEqual([true, false, false]);
});

it('a list of which a page has expired fails with 410', async () => {
  for (let i = 0; i < 4; i++) api.put(SHOP, pod(`web-${i}`));
  const pages = open().pages<Pod>(SHOP, { limit: 3 })[Symbol.asyncIterator]();
  await pages.next();
  api.expire();
  expect((await failure(pages.next())).expired).toBe(true);
});

it('403 names the verb, the resource and the group that are to be granted', async () => {
  api.deny('list pods');
  const error = await failure(open().list(SHOP));
  expect(error.status).toBe(403);
  expect(error.message).toContain('list pods in namespace shop');
  expect(error.message).toContain(
    'grant the controller\'s service account the verb "list" on the resource "pods" of the API group "" by a Role and its binding in namespace shop',
  );
});

it('429 and 503 with Retry-After are waited for, then asked again', async () => {
  const clock = new FakeClock();
  api.put(SHOP, pod('web'));
  api.fail({ status: 429, retryAfter: '3' });
  api.fail({ status: 503, retryAfter: new Date(clock.now() + 4000).toUTCString() });
  const answer = open(clock).get<Pod>(`${SHOP}/web`);
  await expect.poll(() => [api.asked.length, clock.pending]).toEqual([1, 1]);
  clock.advance(2999);
  expect(api.asked).toHaveLength(1);
  clock.advance(1);
  await expect.poll(() => [api.asked.length, clock.pending]).toEqual([2, 1]);
  clock.advance(1000);
  expect((await answer).metadata.name).toBe('web');
});

it.each([
  ['429 without Retry-After', { status: 429 }, undefined],
  ['a Retry-After beyond the deadline', { status: 429, retryAfter: '60' }, 60_000],
  ['500', { status: 500, retryAfter: '1' }, 1000],
])('%s is not waited for, but told', async (_, refused, retryAfterMs) => {
  api.fail(refused);
  const error = await failure(open().get(`${SHOP}/web`));
  expect([error.status, error.retryAfterMs]).toEqual([refused.status, retryAfterMs]);
  expect(api.asked).toHaveLength(1);
});

it('the token file is read again after a minute', async () => {
  const clock = new FakeClock();
  const client = open(clock);
  await client.list(SHOP);
  await api.useToken('second', ['stub-controller-token']);
  await client.list(SHOP);
  clock.advance(60_000);
  await client.list(SHOP);
  expect(api.asked.map(({ token }) => token)).toEqual([
    'stub-controller-token',
    'stub-controller-token',
    'second',
  ]);
});

it('the token file is read again though the file of the CA cannot be', async () => {
  const clock = new FakeClock();
  const client = open(clock);
  await client.list(SHOP);
  await api.useToken('second');
  await rm(api.access.ca);
  clock.advance(60_000);
  await client.list(SHOP);
  expect(api.asked.map(({ token }) => token)).toEqual(['stub-controller-token', 'second']);
});

it('the token file is read again at once after 401, and the request sent once more', async () => {
  const client = open(new FakeClock());
  await client.list(SHOP);
  await api.useToken('second');
  await client.list(SHOP);
  expect(api.asked.slice(1).map(({ token }) => token)).toEqual(['stub-controller-token', 'second']);
});

it('a watch begins with a token that was read anew after 401', async () => {
  const client = open(new FakeClock());
  await client.list(SHOP);
  await api.useToken('second');
  const watch = client.watch<Pod>(SHOP, { resourceVersion: api.store.version })[Symbol.asyncIterator]();
  const next = watch.next();
  await expect.poll(() => api.watching).toBe(1);
  api.put(SHOP, pod('web'));
  expect((await next).value).toMatchObject({ type: 'ADDED', object: { metadata: { name: 'web' } } });
  await watch.return?.();
  await expect.poll(() => api.watching).toBe(0);
});

it('a token that stays refused is an error that asks for another, without the token', async () => {
  await api.useToken('right');
  await writeFile(api.access.token, 'wrong-and-secret');
  const client = open();
  const error = await failure(client.list(SHOP));
  expect(error.status).toBe(401);
  expect(api.asked).toHaveLength(1);
  expect(inspect(error, { depth: 10 })).not.toContain('wrong-and-secret');
  expect(inspect(client, { depth: 10, showHidden: true })).not.toContain('wrong-and-secret');
});

it.each([
  ['two lines', 'one\ntwo'],
  ['nothing', '\n'],
  ['too much', 'x'.repeat(20_000)],
])('a token file with %s is refused before anything is sent', async (_, text) => {
  await writeFile(api.access.token, text);
  const error = await failure(open().list(SHOP));
  expect(error.reason).toBe('NoCredentials');
  expect(error.message).toContain(api.access.token);
  expect(error.message).not.toContain('two');
  expect(api.asked).toHaveLength(0);
});

it('a server whose certificate another CA has signed is told nothing', async () => {
  await writeFile(api.access.ca, (await makeServerCertificate()).ca);
  const error = await failure(open().list(SHOP));
  expect(error.reason).toBe('Untrusted');
  expect(error.message).toContain('does the CA file hold the CA of this cluster?');
  expect(api.asked).toHaveLength(0);
});

it('a CA that was replaced in its file is trusted a minute later', async () => {
  const clock = new FakeClock();
  const client = open(clock);
  const { readFile } = await import('node:fs/promises');
  const right = await readFile(api.access.ca);
  await writeFile(api.access.ca, (await makeServerCertificate()).ca);
  expect((await failure(client.list(SHOP))).reason).toBe('Untrusted');
  await writeFile(api.access.ca, right);
  clock.advance(60_000);
  await client.list(SHOP);
});

it('a server that does not answer fails at the deadline', async () => {
  const clock = new FakeClock();
  api.slowMs = Number.POSITIVE_INFINITY;
  const answer = failure(open(clock).get(`${SHOP}/web`, { deadlineMs: 5000 }));
  await expect.poll(() => api.asked.length).toBe(1);
  clock.advance(5000);
  expect((await answer).reason).toBe('DeadlineExceeded');
});

it('a server that is not there is unreachable, and is found again when it is', async () => {
  const client = open();
  await client.list(SHOP);
  await api.stop();
  const error = await failure(client.list(SHOP));
  expect([error.status, error.reason]).toEqual([0, 'Unreachable']);
  await api.listen();
  await client.list(SHOP);
});

it('an answer above the limit is not read to its end', async () => {
  api.put(SHOP, { ...pod('web'), spec: { nodeName: 'x'.repeat(100_000) } });
  const error = await failure(open(systemClock, { maxAnswerBytes: 50_000 }).get(`${SHOP}/web`));
  expect(error.reason).toBe('TooLarge');
});

it('whoever gives up is told so, and the request ends', async () => {
  api.slowMs = Number.POSITIVE_INFINITY;
  const aborter = new AbortController();
  const answer = failure(open().list(SHOP, { signal: aborter.signal }));
  await expect.poll(() => api.asked.length).toBe(1);
  aborter.abort();
  expect((await answer).reason).toBe('Aborted');
});

it.each(['http://127.0.0.1:1', 'not an address', 'https://user@127.0.0.1', ''])(
  'the address %j is refused',
  (server) => {
    expect(() => openKubeClient({ access: { ...api.access, server }, clock: systemClock })).toThrow(
      KubeError,
    );
  },
);

it('a token that the server repeats is not in the error', async () => {
  const client = open();
  api.fail({ status: 500, message: 'you sent Bearer stub-controller-token' });
  const error = await failure(client.list(SHOP));
  expect(error.message).toContain('you sent Bearer [secret]');
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('stub-controller-token');
});

it('errors of connections hold no request, and so no token', async () => {
  const client = open();
  await client.list(SHOP);
  api.slowMs = Number.POSITIVE_INFINITY;
  const answer = failure(client.create(SHOP, pod('web')));
  await expect.poll(() => api.asked.length).toBe(2);
  api.cut();
  const error = await answer;
  expect(error.reason).toBe('Unreachable');
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('stub-controller-token');
});

it('a kept connection that the server has closed costs no read, and repeats no write', async () => {
  const client = open();
  await client.list(SHOP);
  // The server closes it when the next request has come, as in a race.
  api.hold = async () => {
    api.hold = undefined;
    api.cut();
    await new Promise(() => {});
  };
  await client.list(SHOP);
  expect(api.asked).toHaveLength(3);
  api.hold = async () => {
    api.hold = undefined;
    api.cut();
    await new Promise(() => {});
  };
  expect((await failure(client.create(SHOP, pod('web')))).reason).toBe('Unreachable');
  expect(api.asked).toHaveLength(4);
});
