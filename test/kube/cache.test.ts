import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { collectionPath, PODS } from '../../src/kube/client/resource.ts';
import type { Pod } from '../../src/kube/objects.ts';
import { Backoff } from '../../src/kube/watch/backoff.ts';
import { Cache, type CacheOptions } from '../../src/kube/watch/cache.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { KubeApi } from '../harness/kubeapi.ts';

const ALL = collectionPath(PODS);
const SHOP = collectionPath(PODS, 'shop');

/** What the tests keep of a pod. */
interface Kept {
  readonly name: string;
  readonly ip: string;
}

const pod = (name: string, ip: string, phase = 'Running'): Pod => ({
  metadata: { name },
  status: { phase, podIP: ip },
});

let api: KubeApi;
const ends: Array<() => void> = [];

beforeEach(async () => {
  api = await KubeApi.start();
});

afterEach(async () => {
  for (const end of ends.splice(0)) end();
  await api.end();
});

/** The client's time is real unless `clientClock` says otherwise: then only the pauses wait on the clock. */
function open(
  clock: Clock = systemClock,
  more: Partial<CacheOptions<Pod, Kept>> = {},
  clientClock: Clock = systemClock,
) {
  const client: KubeClient = openKubeClient({ access: api.access, clock: clientClock });
  const cache = new Cache<Pod, Kept>({
    client,
    clock,
    path: ALL,
    keep: ({ metadata, status }) => ({ name: metadata.name as string, ip: status?.podIP as string }),
    indexers: { ip: ({ ip }) => [ip] },
    random: () => 0.5,
    ...more,
  });
  const told: string[] = [];
  cache.onChange(({ type, object }) => told.push(`${type} ${object.name} ${object.ip}`));
  ends.push(() => {
    cache.stop();
    client.close();
  });
  cache.start();
  return { cache, told };
}

const names = (cache: Cache<Pod, Kept>): string[] => [...cache.all()].map(({ name }) => name).sort();

it('holds a collection, tells its changes, and finds by what stands in it', async () => {
  api.put(SHOP, pod('a', '10.0.0.1'));
  const { cache, told } = open(systemClock, { limit: 1 });
  api.put(SHOP, pod('b', '10.0.0.2'));
  expect(cache.synced).toBe(false);
  await cache.whenSynced();
  expect(cache.synced).toBe(true);
  expect(cache.get('shop', 'a')).toEqual({ name: 'a', ip: '10.0.0.1' });
  expect(cache.get('other', 'a')).toBeUndefined();
  await expect.poll(() => api.watching).toBe(1);
  api.put(SHOP, pod('b', '10.0.0.3'));
  api.remove(`${SHOP}/a`);
  await expect
    .poll(() => told)
    .toEqual(['added a 10.0.0.1', 'added b 10.0.0.2', 'modified b 10.0.0.3', 'deleted a 10.0.0.1']);
  expect([cache.by('ip', '10.0.0.3'), cache.by('ip', '10.0.0.2'), cache.by('ip', '10.0.0.1')]).toEqual([
    [{ name: 'b', ip: '10.0.0.3' }],
    [],
    [],
  ]);
  expect(() => cache.by('name', 'b')).toThrow('there is no index name');
});

it('a change that cannot be seen in what is kept is not told, and keeps the object', async () => {
  api.put(SHOP, pod('a', '10.0.0.1'));
  const { cache, told } = open();
  await expect.poll(() => api.watching).toBe(1);
  const before = cache.get('shop', 'a');
  api.put(SHOP, pod('a', '10.0.0.1', 'Failed'));
  api.put(SHOP, pod('b', '10.0.0.2'));
  await expect.poll(() => told).toEqual(['added a 10.0.0.1', 'added b 10.0.0.2']);
  expect(cache.get('shop', 'a')).toBe(before);
});

it('what is not to be kept, or cannot be read, is left out', async () => {
  const keep = ({ metadata: { name = '' }, status }: Pod): Kept | undefined => {
    if (name === 'odd') throw new TypeError('odd');
    return status?.phase === 'Running' ? { name, ip: status?.podIP as string } : undefined;
  };
  api.put(SHOP, pod('odd', '10.0.0.1'));
  api.put(SHOP, pod('a', '10.0.0.2'));
  const { cache, told } = open(systemClock, { keep });
  await expect.poll(() => api.watching).toBe(1);
  expect(names(cache)).toEqual(['a']);
  api.put(SHOP, pod('a', '10.0.0.2', 'Failed'));
  await expect.poll(() => told).toEqual(['added a 10.0.0.2', 'deleted a 10.0.0.2']);
});

it.each(['event', 'status'] as const)(
  '410, as %s, has it list again and tell the difference, without being empty',
  async (as) => {
    for (const name of ['a', 'b', 'c']) api.put(SHOP, pod(name, name));
    const { cache, told } = open(systemClock, { random: () => 0 });
    await expect.poll(() => api.watching).toBe(1);
    api.expiredAs = as;
    let goOn = () => {};
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    api.hold = ({ verb }) => (verb === 'list' ? held : Promise.resolve());
    // The watch is cut off first, so that it hears of nothing.
    api.silence();
    api.remove(`${SHOP}/a`);
    api.put(SHOP, pod('b', 'other'));
    api.put(SHOP, pod('d', 'd'));
    api.silence(false);
    told.length = 0;
    api.expire();
    api.cut();
    await expect
      .poll(() => api.asked.filter(({ verb }) => verb === 'list').length, { timeout: 5000 })
      .toBe(2);
    expect(names(cache)).toEqual(['a', 'b', 'c']);
    expect(cache.synced).toBe(true);
    goOn();
    await expect.poll(() => told).toEqual(['modified b other', 'added d d', 'deleted a a']);
    expect(names(cache)).toEqual(['b', 'c', 'd']);
  },
);

it('a list whose later pages have expired begins anew', async () => {
  for (const name of ['a', 'b', 'c']) api.put(SHOP, pod(name, name));
  let once = true;
  api.hold = async ({ query }) => {
    if (!once || query.get('continue') === null) return;
    once = false;
    api.expire();
    api.remove(`${SHOP}/a`);
  };
  const { cache } = open(systemClock, { limit: 2 });
  await cache.whenSynced();
  expect(names(cache)).toEqual(['b', 'c']);
  expect(cache.lists).toBe(1);
});

it('while the server is away it keeps what it has, and then goes on where it was', async () => {
  const clock = new FakeClock();
  api.put(SHOP, pod('a', '10.0.0.1'));
  const { cache, told } = open(clock);
  await expect.poll(() => api.watching).toBe(1);
  await api.stop();
  await expect.poll(() => cache.failure?.reason).toBe('Unreachable');
  // Half of 1, 2, 4 ... 30 s.
  for (const pause of [500, 1000, 2000, 4000, 8000, 15_000, 15_000]) {
    await expect.poll(() => clock.pending).toBe(1);
    clock.advance(pause - 1);
    expect(clock.pending).toBe(1);
    clock.advance(1);
  }
  expect([cache.synced, names(cache)]).toEqual([true, ['a']]);
  api.put(SHOP, pod('b', '10.0.0.2'));
  await expect.poll(() => clock.pending).toBe(1);
  await api.listen();
  clock.advance(15_000);
  await expect.poll(() => told).toEqual(['added a 10.0.0.1', 'added b 10.0.0.2']);
  expect([cache.failure, cache.lists]).toEqual([undefined, 1]);
});

it('a server that is overloaded is asked again when it said, not sooner, and not for the whole list', async () => {
  const clock = new FakeClock();
  const { cache } = open(clock);
  await expect.poll(() => api.watching).toBe(1);
  api.fail({ status: 429, retryAfter: '20', times: 2 });
  api.cut();
  await expect.poll(() => cache.failure?.reason).toBe('Unreachable');
  const asked = () => api.asked.length;
  // The lost connection, then 429 twice: half of 1, 2 and 4 s, and 20 s that the server wants.
  for (const [pause, before] of [
    [500, 2],
    [21_000, 3],
    [22_000, 4],
  ] as const) {
    await expect.poll(() => clock.pending).toBe(1);
    clock.advance(pause - 1);
    expect(asked()).toBe(before);
    clock.advance(1);
    await expect.poll(asked).toBe(before + 1);
  }
  await expect.poll(() => api.watching).toBe(1);
  expect(cache.lists).toBe(1);
});

it.each([
  [403, false],
  [429, false],
  [503, false],
  [504, true],
  [400, true],
])('after %i to a watch the collection is listed again: %j', async (status, again) => {
  const { cache } = open(systemClock, { random: () => 0 });
  await expect.poll(() => api.watching).toBe(1);
  api.fail({ status, of: ({ verb }) => verb === 'watch' });
  api.cut();
  await expect.poll(() => api.asked.filter(({ verb }) => verb === 'watch').length).toBe(3);
  expect(cache.lists).toBe(again ? 2 : 1);
});

it('a server that goes on refusing a watch with 500 is asked for the list at last', async () => {
  const { cache } = open(systemClock, { random: () => 0 });
  await expect.poll(() => api.watching).toBe(1);
  api.fail({ status: 500, of: ({ verb }) => verb === 'watch', times: 4 });
  api.cut();
  await expect.poll(() => [api.watching, cache.lists]).toEqual([1, 2]);
});

it('an event of which half came is told once the watch goes on', async () => {
  const { told } = open(systemClock, { random: () => 0 });
  await expect.poll(() => api.watching).toBe(1);
  api.tearEvent();
  api.put(SHOP, pod('a', '10.0.0.1'));
  await expect.poll(() => told).toEqual(['added a 10.0.0.1']);
});

it('a connection that died in silence is replaced', async () => {
  const clock = new FakeClock();
  const { cache, told } = open(clock, {}, clock);
  // The watch is up for the cache, too, not for the server alone.
  await expect.poll(() => api.watching).toBe(1);
  api.put(SHOP, pod('first', '10.0.0.9'));
  await expect.poll(() => told.splice(0)).toEqual(['added first 10.0.0.9']);
  api.silence();
  api.put(SHOP, pod('a', '10.0.0.1'));
  clock.advance(150_000);
  await expect.poll(() => cache.failure?.reason).toBe('Silent');
  expect(cache.silentMs).toBe(150_000);
  api.silence(false);
  await expect.poll(() => clock.pending).toBe(1);
  clock.advance(500);
  await expect.poll(() => told).toEqual(['added a 10.0.0.1']);
  expect([cache.silentMs, cache.lists]).toEqual([0, 1]);
});

it('a server that accepts requests and never answers is asked again, and what is known stays', async () => {
  const clock = new FakeClock();
  api.put(SHOP, pod('a', '10.0.0.1'));
  const { cache, told } = open(clock, {}, clock);
  await expect.poll(() => api.watching).toBe(1);
  api.slowMs = Number.POSITIVE_INFINITY;
  api.cut();
  await expect.poll(() => [cache.failure?.reason, clock.pending]).toEqual(['Unreachable', 1]);
  clock.advance(500);
  await expect.poll(() => api.asked.length).toBe(3);
  clock.advance(30_000);
  await expect.poll(() => cache.failure?.reason).toBe('DeadlineExceeded');
  expect([cache.synced, names(cache)]).toEqual([true, ['a']]);
  api.slowMs = 0;
  api.put(SHOP, pod('b', '10.0.0.2'));
  await expect.poll(() => clock.pending).toBe(1);
  clock.advance(1000);
  await expect.poll(() => told).toEqual(['added a 10.0.0.1', 'added b 10.0.0.2']);
});

it('a token that was replaced while the watch was open is used for the next one', async () => {
  const { cache, told } = open(systemClock, { random: () => 0 });
  await expect.poll(() => api.watching).toBe(1);
  await api.useToken('second');
  api.put(SHOP, pod('a', 'a'));
  await expect.poll(() => told).toHaveLength(1);
  api.cut();
  await expect.poll(() => api.asked.at(-1)?.token).toBe('second');
  await expect.poll(() => api.watching).toBe(1);
  expect(cache.lists).toBe(1);
});

it('a token that is refused for a while costs nothing but time', async () => {
  const clock = new FakeClock();
  const { cache } = open(clock);
  await expect.poll(() => api.watching).toBe(1);
  api.fail({ status: 401, times: 2 });
  api.cut();
  for (const [reason, pause] of [
    ['Unreachable', 500],
    ['StubFailure', 1000],
    ['StubFailure', 2000],
  ] as const) {
    await expect.poll(() => [cache.failure?.reason, clock.pending]).toEqual([reason, 1]);
    clock.advance(pause);
  }
  await expect.poll(() => [api.watching, cache.failure]).toEqual([1, undefined]);
  expect(cache.lists).toBe(1);
});

it('bookmarks carry the version on, so that a quiet collection is not listed again', async () => {
  const { cache } = open(systemClock, { random: () => 0, path: SHOP });
  await expect.poll(() => api.watching).toBe(1);
  api.put(collectionPath(PODS, 'other'), pod('x', 'x'));
  api.store.compact();
  api.bookmark();
  api.put(SHOP, pod('a', '10.0.0.1'));
  await expect.poll(() => cache.size).toBe(1);
  api.cut();
  await expect.poll(() => api.asked.filter(({ verb }) => verb === 'watch').length).toBe(2);
  await expect.poll(() => api.watching).toBe(1);
  expect(cache.lists).toBe(1);
});

it('a server that has gone back in time is listed again', async () => {
  api.put(SHOP, pod('a', '10.0.0.1'));
  const { cache } = open(systemClock, { random: () => 0 });
  await expect.poll(() => api.watching).toBe(1);
  api.sendRaw('{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"999"}}}\n');
  await expect.poll(() => cache.lists).toBe(2);
});

it('a listener that throws ends neither the watch nor other listeners', async () => {
  const { cache, told } = open();
  const seen: string[] = [];
  cache.onChange(() => {
    throw new Error('listener');
  });
  const end = cache.onChange(({ object }) => seen.push(object.name));
  await expect.poll(() => api.watching).toBe(1);
  api.put(SHOP, pod('a', 'a'));
  api.put(SHOP, pod('b', 'b'));
  await expect.poll(() => seen).toEqual(['a', 'b']);
  end();
  api.put(SHOP, pod('c', 'c'));
  await expect.poll(() => told).toHaveLength(3);
  expect(seen).toEqual(['a', 'b']);
});

it('a cache that was stopped keeps what it has and asks for nothing', async () => {
  const clock = new FakeClock();
  api.put(SHOP, pod('a', 'a'));
  const { cache } = open(clock);
  await expect.poll(() => api.watching).toBe(1);
  cache.stop();
  await expect.poll(() => api.watching).toBe(0);
  cache.start();
  clock.advance(600_000);
  expect([names(cache), clock.pending, api.asked.length]).toEqual([['a'], 0, 2]);
});

it('the pause after a failure is drawn from a span that doubles, up to 30 s', () => {
  const most = new Backoff(() => 0.999_999);
  const spans = [1, 2, 3, 4, 5, 6, 7, 100].map(() => Math.round(most.failed()));
  expect(spans).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  most.succeeded();
  expect(Math.round(most.failed(5000))).toBe(6000);
  expect(new Backoff(() => 0).failed()).toBe(0);
});
