import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import { freePorts } from '../../bench/peers/port.ts';
import type { Greeter } from '../harness/greeter.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { RedisServer } from '../harness/redis.ts';
import { atEnd, ingressTo, SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';

const LIMIT = 100;

let redis: RedisServer;
let world: World;
/** Two processes with one SPIFFE ID, each before an app of its own. */
let replicas: [SidecarProcess, SidecarProcess];
let apps: [Greeter, Greeter];

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-redis-'));
  atEnd(() => rm(folder, { recursive: true }));
  redis = new RedisServer((await freePorts(1))[0] as number, folder);
  atEnd(() => redis.kill());
  await redis.start();
  world = await World.make();
  apps = [await world.app({ name: 'one' }), await world.app({ name: 'two' })];
  const replica = ({ address }: Greeter): Promise<SidecarProcess> =>
    world.sidecar('greeter', {
      ...ingressTo(world, address),
      handshake: { maxEventLoopLag: '10s' }, // the machine may be busy: this is no test of overload
      limits: [{ scope: 'peer', maxRequests: LIMIT, window: '1h' }],
      limitStore: { type: 'redis', url: `redis://127.0.0.1:${redis.port}`, timeout: '2s' },
    });
  replicas = [await replica(apps[0]), await replica(apps[1])];
});

/** A client behind a sidecar of its own, with a route to these replicas. */
async function caller(identity: string, ...to: SidecarProcess[]): Promise<TestClient> {
  const route = {
    service: SERVICE,
    endpoints: to.map(({ ingress }) => ingress),
    peer: world.spiffeId('greeter'),
  };
  const web = await world.sidecar(identity, { egress: { routes: [route] } });
  return world.client(web.egress, { authority: SERVICE });
}

/** How many of so many calls at once were allowed; every other was refused by a limit. */
async function allowed(client: TestClient, calls: number): Promise<number> {
  const answers = await Promise.all(
    Array.from({ length: calls }, () => client.unary(SayHello, { name: 'Ada' })),
  );
  const good = answers.filter(({ code }) => code === status.OK);
  const limited = answers.filter(({ hauberkError }) => hauberkError === 'limited');
  expect(good.length + limited.length, answers.find(({ code }) => code !== 0)?.details).toBe(calls);
  for (const { code, trailers } of limited) {
    expect(code).toBe(status.RESOURCE_EXHAUSTED);
    expect(Number(trailers.get('grpc-retry-pushback-ms')[0])).toBeGreaterThan(0);
  }
  return good.length;
}

describe('two replicas that share a Redis', () => {
  it('let a peer make as many calls as its limit says, over both together', async () => {
    const client = await caller('balanced', ...replicas);
    // Until both are connected: a burst would all go to whichever is first.
    let before = 0;
    while (apps.some((app) => app.calls() === 0)) before += await allowed(client, 1);
    expect(await allowed(client, 3 * LIMIT)).toBe(LIMIT - before);
    expect(apps[0].calls() + apps[1].calls()).toBe(LIMIT);
    expect(await allowed(client, 20)).toBe(0);
  });

  it('count a peer that calls each of them from another process as one', async () => {
    const one = await caller('twofold', replicas[0]);
    const two = await caller('twofold', replicas[1]);
    expect(await allowed(one, 30)).toBe(30);
    expect(await allowed(two, 30)).toBe(30);
    const rest = await Promise.all([allowed(one, 60), allowed(two, 60)]);
    expect(rest[0] + rest[1]).toBe(LIMIT - 60);
  });

  it('leave every other peer its own', async () => {
    const [one, two] = [await caller('ada', replicas[0]), await caller('bob', replicas[0])];
    expect(await Promise.all([allowed(one, 150), allowed(two, 150)])).toEqual([LIMIT, LIMIT]);
  });

  it('go on, each by its own count, while Redis is away, and together once it is back', async () => {
    const [one, two] = [await caller('tested', replicas[0]), await caller('tested', replicas[1])];
    expect(await Promise.all([allowed(one, 10), allowed(two, 10)])).toEqual([10, 10]);
    const up = (): Promise<number[]> =>
      Promise.all(replicas.map((it) => it.metric('hauberk_limit_store_up', { store: 'redis' })));
    expect(await up()).toEqual([1, 1]);

    await redis.kill();
    for (const replica of replicas) {
      const lost = await replica.audit.event('limit.store', ({ state }) => state === 'lost');
      expect(lost.store).toBe('redis');
      expect(lost.detail).not.toBe('');
    }
    expect(await up()).toEqual([0, 0]);
    // Nobody waits for Redis, and each replica has a limit still.
    expect(await Promise.all([allowed(one, 150), allowed(two, 150)])).toEqual([LIMIT, LIMIT]);
    for (const { audit } of replicas) {
      expect((await audit.event('call.limited', ({ peer }) => peer === world.spiffeId('tested'))).scope).toBe(
        'peer',
      );
    }

    await redis.start();
    for (const replica of replicas) {
      await replica.audit.event('limit.store', ({ state }) => state === 'restored');
    }
    expect(await up()).toEqual([1, 1]);
    const later = [await caller('later', replicas[0]), await caller('later', replicas[1])] as const;
    const counts = await Promise.all([allowed(later[0], 80), allowed(later[1], 80)]);
    expect(counts[0] + counts[1]).toBe(LIMIT);
    for (const replica of replicas) {
      const states = (await replica.audit.of('limit.store')).map(({ state }) => state);
      expect(states).toEqual(['lost', 'restored']);
      expect(await replica.metric('hauberk_limit_store_switches_total')).toBe(2);
      await expect.poll(() => replica.metric('hauberk_calls_open')).toBe(0);
    }
  });
});

it('a replica whose Redis is away at its start is ready all the same, and says so', async () => {
  const [port] = await freePorts(1);
  const app = await world.app();
  const alone = await world.sidecar('greeter', {
    ...ingressTo(world, app.address),
    handshake: { maxEventLoopLag: '10s' },
    limits: [{ scope: 'peer', maxRequests: LIMIT, window: '1h' }],
    limitStore: { type: 'redis', url: `redis://127.0.0.1:${port}` },
  });
  expect((await alone.audit.event('limit.store')).state).toBe('lost');
  expect(await alone.metric('hauberk_limit_store_up')).toBe(0);
  expect(await allowed(await caller('early', alone), 150)).toBe(LIMIT);
});
