import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePorts } from '../../bench/peers/port.ts';
import { systemClock } from '../../src/clock/clock.ts';
import type { LimitConfig } from '../../src/config/config.ts';
import { openRateLimits, type RateLimits, type StoreChange } from '../../src/limit/ratelimits.ts';
import { RedisServer } from '../harness/redis.ts';

const WEB = 'spiffe://shop.example/ns/shop/sa/web';
const GREETER = 'spiffe://shop.example/ns/shop/sa/greeter';
const PEER_LIMIT: LimitConfig = { scope: 'peer', maxRequests: 100, windowMs: 600_000 };
/** Generous, because the machine may be busy; a Redis that hangs is waited for this long, once. */
const TIMEOUT_MS = 1_000;

let folder: string;
let server: RedisServer;
let closeAll: Array<() => void>;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-redis-'));
  server = new RedisServer((await freePorts(1))[0] as number, folder);
  closeAll = [];
});

afterEach(async () => {
  for (const close of closeAll) close();
  await server.kill();
  await rm(folder, { recursive: true });
});

interface Replica {
  limits: RateLimits;
  changes: StoreChange[];
  /** Resolves when the store has come to that state, now or later. */
  becomes(state: StoreChange['state']): Promise<StoreChange>;
}

async function replica(
  options: { limits?: LimitConfig[]; namespace?: string; auth?: string } = {},
): Promise<Replica> {
  const changes: StoreChange[] = [];
  let changed: () => void = () => undefined;
  const limits = await openRateLimits({
    limits: options.limits ?? [PEER_LIMIT],
    clock: systemClock,
    store: {
      type: 'redis',
      url: `redis://${options.auth ?? ''}127.0.0.1:${server.port}`,
      timeoutMs: TIMEOUT_MS,
    },
    namespace: options.namespace ?? GREETER,
    onStoreChange: (change) => {
      changes.push(change);
      changed();
    },
  });
  closeAll.push(() => limits.close());
  const becomes = async (state: StoreChange['state']) => {
    while (changes.at(-1)?.state !== state) {
      await new Promise<void>((resolve) => {
        changed = resolve;
      });
    }
    return changes.at(-1) as StoreChange;
  };
  return { limits, changes, becomes };
}

async function admitted(limits: RateLimits, calls: number, peer = WEB): Promise<number> {
  const verdicts = await Promise.all(
    Array.from({ length: calls }, (_, n) => limits.admit(`s${n % 7}`, peer)),
  );
  return verdicts.filter((verdict) => verdict.allowed).length;
}

describe('with Redis', () => {
  beforeEach(() => server.start());

  it('replicas share a peer limit, exactly', async () => {
    const replicas = await Promise.all([replica(), replica(), replica()]);
    const counts = await Promise.all(replicas.map(({ limits }) => admitted(limits, 80)));
    expect(counts.reduce((sum, count) => sum + count)).toBe(100);
    expect(await replicas[0]!.limits.admit('s', WEB)).toMatchObject({
      allowed: false,
      scope: 'peer',
      limit: 100,
    });
    expect(replicas.flatMap(({ changes }) => changes)).toEqual([]);
  });

  it('calls in turn are shared as exactly as calls at once', async () => {
    const [one, two] = [await replica(), await replica()];
    let count = 0;
    for (let n = 0; n < 60; n++) count += (await admitted(one.limits, 1)) + (await admitted(two.limits, 1));
    expect(count).toBe(100);
  });

  it('sidecars of another service count apart', async () => {
    const [one, two] = [await replica(), await replica({ namespace: WEB })];
    expect(await admitted(one.limits, 150)).toBe(100);
    expect(await admitted(two.limits, 150)).toBe(100);
  });

  it('a window that is no whole number of seconds ends in time, and its key with it', async () => {
    const windowMs = 2_500;
    const { limits } = await replica({ limits: [{ scope: 'peer', maxRequests: 3, windowMs }] });
    const client = new Redis(server.port, '127.0.0.1');
    closeAll.push(() => client.disconnect());
    expect(await admitted(limits, 5)).toBe(3);
    const keys = await client.keys('*/2500:*');
    expect(keys).toEqual([`hauberk:${GREETER}:peer:3/2500:${WEB}`]);
    const left = await client.pttl(keys[0]!);
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(windowMs);
    const verdict = await limits.admit('s', WEB);
    expect(verdict).toMatchObject({ allowed: false });
    // Redis' clock and ours may differ by a round trip.
    if (!verdict.allowed) await new Promise((resolve) => setTimeout(resolve, verdict.retryAfterMs + 100));
    expect(await admitted(limits, 5)).toBe(3);
  });

  it('killed: the insurance counts at once, with an event; started again: shared again, with an event', async () => {
    const [one, two] = [await replica(), await replica()];
    expect(await admitted(one.limits, 10)).toBe(10);
    await server.kill();
    const lost = await Promise.all([one.becomes('lost'), two.becomes('lost')]);
    expect(lost[0]).toMatchObject({ store: 'redis', error: { code: 'store-unavailable' } });
    // Each for itself now.
    expect(await admitted(one.limits, 150, `${WEB}2`)).toBe(100);
    expect(await admitted(two.limits, 150, `${WEB}2`)).toBe(100);

    await server.start();
    await Promise.all([one.becomes('restored'), two.becomes('restored')]);
    const counts = await Promise.all([
      admitted(one.limits, 80, `${WEB}3`),
      admitted(two.limits, 80, `${WEB}3`),
    ]);
    expect(counts[0]! + counts[1]!).toBe(100);
    expect(one.changes.map(({ state }) => state)).toEqual(['lost', 'restored']);
  });

  it('hanging: a call waits no longer than the deadline, those after it not at all', async () => {
    const { limits, changes, becomes } = await replica();
    server.hang();
    try {
      expect(await admitted(limits, 20)).toBe(20);
      expect(changes.map(({ state }) => state)).toEqual(['lost']);
      expect(changes[0]!.detail).toContain(`${TIMEOUT_MS} ms`);
    } finally {
      server.goOn();
    }
    await becomes('restored');
  });

  it('that cannot write counts as lost until it can', async () => {
    const client = new Redis(server.port, '127.0.0.1');
    closeAll.push(() => client.disconnect());
    const { limits, becomes, changes } = await replica();
    await client.replicaof('127.0.0.1', '1');
    expect(await admitted(limits, 120)).toBe(100);
    await becomes('lost');
    await client.replicaof('NO', 'ONE');
    await becomes('restored');
    expect(changes).toHaveLength(2);
  });
});

it('a Redis that is away at the start stops nothing, and is used once it is there', async () => {
  const { limits, changes, becomes } = await replica();
  expect(changes).toMatchObject([{ state: 'lost', detail: expect.stringContaining('ECONNREFUSED') }]);
  expect(await admitted(limits, 150)).toBe(100);
  await server.start();
  await becomes('restored');
  const other = await replica();
  expect(await admitted(other.limits, 60, `${WEB}2`)).toBe(60);
  expect(await admitted(limits, 60, `${WEB}2`)).toBe(40);
});

it('a password works, and a wrong one is lost without being shown', async () => {
  server = new RedisServer(server.port, folder, 'correct horse');
  await server.start();
  const right = await replica({ auth: ':correct%20horse@' });
  expect(await admitted(right.limits, 150)).toBe(100);
  expect(right.changes).toEqual([]);

  const wrong = await replica({ auth: 'default:battery%20staple@' });
  expect(await admitted(wrong.limits, 150, `${WEB}2`)).toBe(100);
  expect(wrong.changes).toMatchObject([{ state: 'lost', detail: expect.stringContaining('WRONGPASS') }]);
  const shown = [wrong, right].map((it) => inspect(it, { depth: 12, showHidden: true })).join();
  expect(shown).toContain('default:***@127.0.0.1');
  expect(shown).not.toMatch(/battery|staple|correct.{1,3}horse/);
});

it('closed limits leave no connection and no timer behind, and say nothing of it', async () => {
  await server.start();
  const { limits, changes } = await replica();
  await admitted(limits, 1);
  const client = new Redis(server.port, '127.0.0.1');
  closeAll.push(() => client.disconnect());
  const connections = async () =>
    String(await client.client('LIST')).match(/name=hauberk-limits/g)?.length ?? 0;
  expect(await connections()).toBe(1);
  limits.close();
  while ((await connections()) > 0) await new Promise((resolve) => setImmediate(resolve));
  expect(changes).toEqual([]);
});
