import { beforeAll, expect, it } from 'vitest';
import { SayHello } from '../harness/greeter-methods.ts';
import { HealthClient } from '../harness/health-client.ts';
import {
  atEnd,
  ingressTo,
  type Pair,
  SERVICE,
  type SidecarProcess,
  startPair,
  World,
} from '../harness/sidecars.ts';

let pair: Pair;
beforeAll(async () => {
  pair = await startPair();
  await eventually(pair.greeter, '/readyz', 200);
});

/** Asks a probe until it answers so; what it said then. */
async function eventually(sidecar: SidecarProcess, path: string, status: number): Promise<string> {
  for (;;) {
    const answer = await sidecar.probe(path);
    if (answer.status === status) return answer.body;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function healthOf(sidecar: SidecarProcess): HealthClient {
  const client = new HealthClient(sidecar.ready.probes.grpc[0] as string);
  atEnd(() => client.close());
  return client;
}

/** A free port on which a test starts an app, ends it, and starts it again: of an address where nobody else looks for one. */
async function appAddress(world: World): Promise<string> {
  const app = await world.app({ listen: '127.0.0.7:0' });
  app.kill();
  return app.address;
}

it('Check: the sidecar as a whole and each app', async () => {
  const health = healthOf(pair.greeter);
  expect(await health.check()).toBe('SERVING');
  expect(await health.check(SERVICE)).toBe('SERVING');
});

it('Check of a service that nobody knows is NOT_FOUND', async () => {
  await expect(healthOf(pair.greeter).check('nobody')).rejects.toMatchObject({ code: 5 });
});

it('List has all of them', async () => {
  expect(await healthOf(pair.greeter).list()).toEqual({ '': 'SERVING', [SERVICE]: 'SERVING' });
  expect(await healthOf(pair.web).list()).toEqual({ '': 'SERVING' });
});

it('Watch of a service that nobody knows says so', async () => {
  const watch = healthOf(pair.greeter).watch('nobody');
  expect(await watch.until(1)).toEqual(['SERVICE_UNKNOWN']);
  watch.end();
});

it('an app that comes, goes and comes back is followed by probes, Check and Watch, and is called at once', async () => {
  const world = await World.make();
  const address = await appAddress(world);
  const greeter = await world.sidecar('greeter', ingressTo(world, address));
  const web = await world.sidecar('web', {
    egress: {
      routes: [{ service: SERVICE, endpoints: greeter.ingress, peer: world.spiffeId('greeter') }],
    },
  });
  const client = world.client(web.egress, { authority: SERVICE });
  const health = healthOf(greeter);
  const whole = health.watch();
  const app = health.watch(SERVICE);

  // Not there yet.
  const waiting = { status: 503, body: `waiting for:\n  app ${SERVICE}\n` };
  expect(await greeter.probe('/readyz')).toEqual(waiting);
  expect(await greeter.probe('/startupz')).toEqual({ status: 200, body: 'ok\n' });
  expect(await greeter.probe('/livez')).toEqual({ status: 200, body: 'ok\n' });
  expect(await health.list()).toEqual({ '': 'NOT_SERVING', [SERVICE]: 'NOT_SERVING' });
  for (let i = 0; i < 5; i++) {
    expect(await client.unary(SayHello, { name: 'Ada' })).toMatchObject({
      code: 14,
      hauberkError: 'app-unreachable',
    });
  }

  // It comes.
  const first = await world.app({ listen: address });
  expect(await eventually(greeter, '/readyz', 200)).toBe('ok\n');
  expect((await greeter.probe('/startupz')).status).toBe(200);
  expect(await client.unary(SayHello, { name: 'Ada' })).toMatchObject({ code: 0 });

  // It goes: at once, because a connection to it breaks.
  first.kill();
  expect(await eventually(greeter, '/readyz', 503)).toBe(waiting.body);
  expect((await greeter.probe('/startupz')).status).toBe(200);
  expect(await health.check(SERVICE)).toBe('NOT_SERVING');

  // It comes back.
  await world.app({ listen: address });
  await eventually(greeter, '/readyz', 200);
  expect(await client.unary(SayHello, { name: 'Ada' })).toMatchObject({ code: 0 });
  const course = ['NOT_SERVING', 'SERVING', 'NOT_SERVING', 'SERVING'];
  expect(await whole.until(4)).toEqual(course);
  expect(await app.until(4)).toEqual(course);
  whole.end();
  app.end();
});

it('one of two apps that is missing keeps the sidecar from being ready, and is named', async () => {
  const world = await World.make();
  const app = await world.app();
  const config = {
    ingress: {
      apps: [
        { service: 'here.shop', address: app.address },
        { service: 'gone.shop', address: 'unix:/nonexistent/app.sock' },
      ],
    },
  };
  const sidecar = await world.sidecar('greeter', config);
  const health = healthOf(sidecar);
  const here = health.watch('here.shop');
  while ((await here.until(1)).at(-1) !== 'SERVING') await here.until(here.seen.length + 1);
  here.end();
  expect(await sidecar.probe('/readyz')).toEqual({ status: 503, body: 'waiting for:\n  app gone.shop\n' });
  expect(await health.list()).toEqual({
    '': 'NOT_SERVING',
    'here.shop': 'SERVING',
    'gone.shop': 'NOT_SERVING',
  });
});
