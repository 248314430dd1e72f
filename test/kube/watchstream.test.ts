import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import type { KubeClient, WatchEvent, WatchOptions } from '../../src/kube/client/client.ts';
import { KubeError } from '../../src/kube/client/errors.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { linesOf } from '../../src/kube/client/lines.ts';
import { collectionPath, PODS } from '../../src/kube/client/resource.ts';
import type { Pod } from '../../src/kube/objects.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { KubeApi } from '../harness/kubeapi.ts';

const SHOP = collectionPath(PODS, 'shop');
const pod = (name: string, app = 'web'): Pod => ({ metadata: { name, labels: { app } } });

let api: KubeApi;
const clients: KubeClient[] = [];

beforeEach(async () => {
  api = await KubeApi.start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await api.end();
});

/** What a watch said, and how it ended. */
function follow(options: Partial<WatchOptions> = {}, clock: Clock = systemClock, maxEventBytes?: number) {
  const client = openKubeClient({
    access: api.access,
    clock,
    ...(maxEventBytes !== undefined && { maxEventBytes }),
  });
  clients.push(client);
  const told: Array<WatchEvent<Pod>> = [];
  const ended = (async (): Promise<KubeError | undefined> => {
    try {
      const watch = client.watch<Pod>(SHOP, { resourceVersion: api.store.version, ...options });
      for await (const event of watch) told.push(event);
      return undefined;
    } catch (error) {
      return error as KubeError;
    }
  })();
  return { told, ended, names: () => told.map(({ type, object }) => `${type} ${object.metadata.name}`) };
}

it('tells what changes, as its selector sees it', async () => {
  const { names } = follow({ labelSelector: 'app=web' });
  await expect.poll(() => api.watching).toBe(1);
  api.put(SHOP, pod('a'));
  api.put(SHOP, pod('other', 'cache'));
  api.put(SHOP, { ...pod('a'), spec: { nodeName: 'n' } });
  api.put(SHOP, pod('a', 'cache'));
  await expect.poll(names).toEqual(['ADDED a', 'MODIFIED a', 'DELETED a']);
});

it('tells what came between its resource version and its beginning', async () => {
  const resourceVersion = api.store.version;
  api.put(SHOP, pod('a'));
  const { names } = follow({ resourceVersion });
  await expect.poll(names).toEqual(['ADDED a']);
});

it('a bookmark holds the resource version', async () => {
  const { told } = follow();
  await expect.poll(() => api.watching).toBe(1);
  api.bookmark();
  await expect.poll(() => told.length).toBe(1);
  expect(told[0]).toMatchObject({
    type: 'BOOKMARK',
    object: { metadata: { resourceVersion: api.store.version } },
  });
});

it.each(['event', 'status'] as const)(
  'a resource version that has expired is 410, told as %s',
  async (as) => {
    const resourceVersion = api.store.version;
    api.expire();
    api.expiredAs = as;
    const error = await follow({ resourceVersion }).ended;
    expect(error).toBeInstanceOf(KubeError);
    expect([error?.status, error?.reason]).toEqual([410, 'Expired']);
  },
);

it('an event that broke off half-way is not told, and the watch fails', async () => {
  const { names, ended } = follow();
  await expect.poll(() => api.watching).toBe(1);
  api.put(SHOP, pod('a'));
  await expect.poll(names).toEqual(['ADDED a']);
  api.tearEvent();
  api.put(SHOP, pod('b'));
  expect((await ended)?.reason).toBe('Unreachable');
  expect(names()).toEqual(['ADDED a']);
});

it('a connection that says nothing any more counts as dead', async () => {
  const clock = new FakeClock();
  const { names, ended } = follow({ quietMs: 60_000 }, clock);
  await expect.poll(() => api.watching).toBe(1);
  await expect.poll(() => clock.pending).toBe(1);
  clock.advance(59_999);
  api.put(SHOP, pod('a'));
  await expect.poll(names).toEqual(['ADDED a']);
  api.silence();
  api.put(SHOP, pod('b'));
  clock.advance(59_999);
  expect(clock.pending).toBe(1);
  clock.advance(1);
  expect((await ended)?.reason).toBe('Silent');
});

it.each([
  ['what is not JSON', 'nonsense\n', 'Malformed'],
  ['what is not an event', '{"type":"ADDED"}\n', 'Malformed'],
  ['null', 'null\n', 'Malformed'],
  ['a line without an end', 'x'.repeat(2000), 'TooLarge'],
])('%s ends the watch', async (_, text, reason) => {
  const { ended } = follow({}, systemClock, 1000);
  await expect.poll(() => api.watching).toBe(1);
  api.sendRaw(text);
  expect((await ended)?.reason).toBe(reason);
  await expect.poll(() => api.watching).toBe(0);
});

it('a watch that the server ends in order ends without an error', async () => {
  const { ended } = follow({ timeoutSeconds: 0.02 });
  expect(await ended).toBeUndefined();
});

it('lines are the same however they are cut into chunks', async () => {
  const text = Buffer.from('one\n\ntwö\nthree\nhalf');
  for (let size = 1; size <= text.length; size++) {
    const chunks = async function* () {
      for (let at = 0; at < text.length; at += size) yield text.subarray(at, at + size);
    };
    const lines: string[] = [];
    for await (const line of linesOf(chunks(), 5, () => new Error('too long'))) lines.push(line);
    expect(lines).toEqual(['one', 'twö', 'three']);
  }
});
