import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePorts } from '../../bench/peers/port.ts';
import { RateLimiter, type RateLimiterOptions } from '../../src/limit/ratelimiter.ts';
import type { StoreChange } from '../../src/limit/ratelimits.ts';
import { RedisServer } from '../harness/redis.ts';

/** Generous, because the machine may be busy; a Redis that hangs is waited for this long, once. */
const TIMEOUT_MS = 1_000;

let folder: string;
let server: RedisServer;
let atEnd: Array<() => unknown>;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-ratelimiter-'));
  server = new RedisServer((await freePorts(1))[0] as number, folder);
  atEnd = [];
});

afterEach(async () => {
  for (const end of atEnd) await end();
  await server.kill();
  await rm(folder, { recursive: true });
});

interface Replica {
  readonly limiter: RateLimiter;
  readonly changes: StoreChange[];
  becomes(state: StoreChange['state']): Promise<void>;
}

function replica(options: Partial<RateLimiterOptions> = {}, auth = ''): Replica {
  const changes: StoreChange[] = [];
  let changed: () => void = () => undefined;
  const limiter = new RateLimiter({
    maxRequests: 100,
    windowMs: 600_000,
    redis: `redis://${auth}127.0.0.1:${server.port}`,
    redisTimeoutMs: TIMEOUT_MS,
    onStoreChange: (change) => {
      changes.push(change);
      changed();
    },
    ...options,
  });
  atEnd.push(() => limiter.close());
  const becomes = async (state: StoreChange['state']): Promise<void> => {
    while (changes.at(-1)?.state !== state) {
      await new Promise<void>((resolve) => {
        changed = resolve;
      });
    }
  };
  return { limiter, changes, becomes };
}

async function allowed(limiter: RateLimiter, requests: number, key = 'a', cost = 1): Promise<number> {
  const results = await Promise.all(Array.from({ length: requests }, () => limiter.consume(key, cost)));
  return results.filter((result) => result.allowed).length;
}

function inspector(): Redis {
  const client = new Redis(server.port, '127.0.0.1');
  atEnd.push(() => client.disconnect());
  return client;
}

describe('with Redis', () => {
  beforeEach(() => server.start());

  it('processes share one count, exactly, and those of another prefix have their own', async () => {
    const replicas = [replica(), replica(), replica()];
    const counts = await Promise.all(replicas.map(({ limiter }) => allowed(limiter, 80)));
    expect(counts.reduce((sum, count) => sum + count)).toBe(100);
    for (const { limiter } of replicas) {
      expect(await limiter.peek('a')).toMatchObject({ allowed: false, remaining: 0 });
      expect(await limiter.peek('b')).toMatchObject({ allowed: true, remaining: 100, resetMs: 0 });
    }
    expect(await allowed(replica({ keyPrefix: 'other' }).limiter, 150)).toBe(100);
    expect(replicas.flatMap(({ changes }) => changes)).toEqual([]);
  });

  it('a request is counted whole or not at all, by whichever process', async () => {
    const [one, two] = [replica(), replica()];
    const big = await Promise.all([allowed(one.limiter, 8, 'a', 15), allowed(two.limiter, 8, 'a', 15)]);
    expect(big[0]! + big[1]!).toBe(6);
    expect(await one.limiter.consume('a', 11)).toMatchObject({ allowed: false, remaining: 10 });
    expect(await two.limiter.consume('a', 10)).toMatchObject({ allowed: true, remaining: 0 });
  });

  it('a reset by one is a reset for all', async () => {
    const [one, two] = [replica(), replica()];
    expect(await allowed(one.limiter, 101)).toBe(100);
    await two.limiter.reset('a');
    expect(await one.limiter.peek('a')).toMatchObject({ remaining: 100 });
    expect(await allowed(one.limiter, 101)).toBe(100);
  });

  it('a window ends in time, and its key with it; denied requests make it no longer', async () => {
    const { limiter } = replica({ maxRequests: 3, windowMs: 2_500 });
    const client = inspector();
    expect(await allowed(limiter, 5)).toBe(3);
    const keys = await client.keys('*');
    expect(keys.filter((key) => !key.includes('probe'))).toEqual(['hauberk:default:limiter:3/2500:a']);
    const { retryAfterMs } = await limiter.consume('a');
    expect(retryAfterMs).toBeGreaterThan(0);
    expect(retryAfterMs).toBeLessThanOrEqual(2_500);
    // Redis' clock and ours may differ by a round trip.
    await new Promise((resolve) => setTimeout(resolve, retryAfterMs + 100));
    expect(await client.keys('*:a')).toEqual([]);
    expect(await allowed(limiter, 5)).toBe(3);
  });

  it('killed: each counts for itself at once; started again: shared again', async () => {
    const [one, two] = [replica(), replica()];
    expect(await allowed(one.limiter, 10)).toBe(10);
    expect(await allowed(two.limiter, 10)).toBe(10);
    await server.kill();
    await Promise.all([one.becomes('lost'), two.becomes('lost')]);
    expect([await allowed(one.limiter, 150, 'b'), await allowed(two.limiter, 150, 'b')]).toEqual([100, 100]);
    expect(await one.limiter.peek('b')).toMatchObject({ allowed: false, remaining: 0 });
    await one.limiter.reset('b');
    expect(await one.limiter.peek('b')).toMatchObject({ allowed: true });

    await server.start();
    await Promise.all([one.becomes('restored'), two.becomes('restored')]);
    const counts = await Promise.all([allowed(one.limiter, 80, 'c'), allowed(two.limiter, 80, 'c')]);
    expect(counts[0]! + counts[1]!).toBe(100);
    expect(one.changes).toMatchObject([
      { store: 'redis', state: 'lost', error: { code: 'store-unavailable' } },
      { state: 'restored' },
    ]);
  });

  it('hanging: a request waits no longer than the deadline, those after it not at all', async () => {
    const { limiter, changes, becomes } = replica();
    await limiter.consume('a');
    server.hang();
    try {
      expect(await allowed(limiter, 20)).toBe(20);
      expect(changes).toMatchObject([{ state: 'lost', detail: expect.stringContaining(`${TIMEOUT_MS} ms`) }]);
    } finally {
      server.goOn();
    }
    await becomes('restored');
  });

  it('that cannot write counts as lost', async () => {
    const { limiter, becomes } = replica();
    await limiter.consume('a');
    const client = inspector();
    await client.replicaof('127.0.0.1', '1');
    expect(await allowed(limiter, 120)).toBe(100);
    await becomes('lost');
    await client.replicaof('NO', 'ONE');
    await becomes('restored');
  });

  it('a closed limiter leaves no connection behind, also when it is closed while it connects', async () => {
    const client = inspector();
    const connections = async (): Promise<number> =>
      String(await client.client('LIST')).match(/name=hauberk-limits/g)?.length ?? 0;
    const { limiter, changes } = replica();
    await limiter.consume('a');
    expect(await connections()).toBe(1);
    await limiter.close();
    const early = replica();
    const asked = early.limiter.consume('a');
    await Promise.all([early.limiter.close(), expect(asked).rejects.toMatchObject({ code: 'closed' })]);
    while ((await connections()) > 0) await new Promise((resolve) => setImmediate(resolve));
    expect([...changes, ...early.changes]).toEqual([]);
  });
});

it('a Redis that is away at the start stops nothing, and its password is shown nowhere', async () => {
  server = new RedisServer(server.port, folder, 'correct horse');
  const { limiter, changes, becomes } = replica({}, ':correct%20horse@');
  expect(await allowed(limiter, 150)).toBe(100);
  expect(changes).toMatchObject([{ state: 'lost', detail: expect.stringContaining('ECONNREFUSED') }]);
  await server.start();
  await becomes('restored');
  expect(await allowed(limiter, 150, 'b')).toBe(100);
  expect(inspect([limiter, changes], { depth: 12, showHidden: true })).not.toMatch(/correct.{1,3}horse/);
});
