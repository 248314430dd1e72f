/** Discovery while pods and the controller come and go. */
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { keptFileOf } from '../../src/control/keptanswers.ts';
import { DiscoveryStage, type PodProcess, portOf } from '../harness/discoverystage.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import type { ConfigFile, SidecarProcess } from '../harness/sidecars.ts';
import { COLLECTS, inUse, Steady } from '../harness/steady.ts';

async function until(done: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`);
    await pause(20);
  }
}

it('no call is lost while pods are rolled', async () => {
  const stage = await DiscoveryStage.make();
  const app = await stage.world.app();
  const port = portOf(app.address);
  const start = (n: number): Promise<PodProcess> => stage.pod(`greeter-${n}`, { app: app.address });
  const [web, ...pods] = await Promise.all([stage.caller(), start(0), start(1)]);
  stage.service(
    'greeter',
    port,
    pods.map((pod) => ({ pod })),
  );
  const steady = await Steady.start(stage.world.client(web.egress, { authority: 'greeter.shop:50051' }));
  for (let n = 2; n < 5; n++) {
    const next = await start(n);
    pods.push(next);
    const old = pods.shift() as PodProcess;
    // As Kubernetes does it: the new one is ready, the old one is marked, gets SIGTERM, and is gone.
    stage.endpoints('greeter', port, [...pods.map((pod) => ({ pod })), { pod: old, state: 'terminating' }]);
    const ended = old.sidecar.stop();
    await steady.more(50);
    expect(await ended).toBe(0);
    stage.endpoints(
      'greeter',
      port,
      pods.map((pod) => ({ pod })),
    );
    stage.remove(old);
    await steady.more(50);
    await until(async () => (await next.sidecar.metric('hauberk_calls_total')) > 0, 'the new pod is called');
  }
  steady.stop();
  expect(steady.failed).toEqual([]);
  // Each step changes several objects, some of them twice.
  expect(stage.stats.told).toBeLessThan(20);
});

it('a controller that is killed leaves services in use, and tells of changes when it is back', async () => {
  const stage = await DiscoveryStage.make();
  const app = await stage.world.app();
  const port = portOf(app.address);
  const [web, one] = await Promise.all([stage.caller(), stage.pod('greeter-1', { app: app.address })]);
  stage.service('greeter', port, [{ pod: one }]);
  const client = stage.world.client(web.egress, { authority: 'greeter.shop:50051' });
  const steady = await Steady.start(client);
  stage.stop();
  await steady.more(50);
  const never = await client.unary(
    SayHello,
    { name: 'Ada' },
    { options: { host: 'other.shop:1' }, deadlineMs: 20_000 },
  );
  expect(never).toMatchObject({ code: 14, hauberkError: 'discovery-unavailable' });
  expect(never.details).toMatch(
    /the controller at 127.0.0.1:\d+ cannot be reached.* other\.shop:1 was never resolved/,
  );
  const { services } = await web.audit.event('discovery.lost');
  expect(services).toBeGreaterThan(0);
  expect(await web.metric('hauberk_discovery_stale_seconds')).toBeGreaterThan(9);
  const two = await stage.pod('greeter-2', { app: app.address });
  stage.endpoints('greeter', port, [{ pod: two }]);
  await steady.more(50);
  expect(await two.sidecar.metric('hauberk_calls_total')).toBe(0);
  await stage.start();
  await web.audit.event('discovery.restored');
  await until(async () => (await two.sidecar.metric('hauberk_calls_total')) > 50, 'the other pod is called');
  expect(await web.metric('hauberk_discovery_stale_seconds')).toBe(0);
  steady.stop();
  expect(steady.failed).toEqual([]);
});

it('a sidecar that restarts while the controller is away calls what it was told before, and forgets what there is not any more', async () => {
  const stage = await DiscoveryStage.make();
  const app = await stage.world.app();
  const port = portOf(app.address);
  const issued: ConfigFile = { identity: { issuer: 'controller' } };
  const [one, { svid }] = await Promise.all([
    stage.pod('greeter-1', { app: app.address }),
    stage.world.identityFiles('shop/web'),
  ]);
  stage.service('greeter', port, [{ pod: one }]);
  const file = keptFileOf(svid);
  const kept = async (name: string): Promise<boolean> =>
    (await readFile(file, 'utf8').catch(() => '')).includes(`"${name}"`);
  const answer = async (web: SidecarProcess, host: string) =>
    stage.world
      .client(web.egress)
      .unary(SayHello, { name: 'Ada' }, { options: { host }, deadlineMs: 20_000 });
  let web = await stage.caller(issued);
  expect((await answer(web, 'greeter.shop:50051')).code).toBe(0);
  await until(() => kept('greeter.shop:50051'), 'the answer is kept');
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  stage.stop();
  // Once as by the kernel, once as by Kubernetes.
  for (const end of [() => web.kill(), () => web.stop()]) {
    await end();
    web = await stage.caller(issued);
    expect(web.log).toContain('discovery begins with what was told before');
    expect((await answer(web, 'greeter.shop:50051')).code).toBe(0);
    expect(await web.metric('hauberk_discovery_answers_total', { result: 'kept' })).toBe(1);
  }
  const steady = await Steady.start(stage.world.client(web.egress, { authority: 'greeter.shop:50051' }));
  const two = await stage.pod('greeter-2', { app: app.address });
  stage.endpoints('greeter', port, [{ pod: two }]);
  await stage.start();
  await until(async () => (await two.sidecar.metric('hauberk_calls_total')) > 50, 'the other pod is called');
  steady.stop();
  expect(steady.failed).toEqual([]);
  stage.forget('greeter');
  await until(
    async () => (await answer(web, 'greeter.shop:50051')).hauberkError === 'no-service',
    'the service is unknown',
  );
  await until(async () => !(await kept('greeter.shop:50051')), 'it is kept no longer');
  stage.stop();
  await web.kill();
  web = await stage.caller(issued);
  expect(await answer(web, 'greeter.shop:50051')).toMatchObject({ hauberkError: 'discovery-unavailable' });
}, 60_000);

it('an app that makes up names neither grows the sidecar nor stops what it calls besides', async () => {
  const stage = await DiscoveryStage.make();
  const app = await stage.world.app();
  const port = portOf(app.address);
  const [web, one] = await Promise.all([
    stage.caller({}, COLLECTS),
    stage.pod('greeter-1', { app: app.address }),
  ]);
  stage.service('greeter', port, [{ pod: one }]);
  const steady = await Steady.start(stage.world.client(web.egress, { authority: 'greeter.shop:50051' }));
  const attacker = stage.world.client(web.egress);
  const codes = new Map<string, number>();
  const flood = async (round: number): Promise<void> => {
    await Promise.all(
      Array.from({ length: 500 }, async (_, i) => {
        const host = `made-up-${round}-${i}.shop:1`;
        const { hauberkError = 'none' } = await attacker.unary(
          SayHello,
          { name: 'x' },
          { options: { host } },
        );
        codes.set(hauberkError, (codes.get(hauberkError) ?? 0) + 1);
      }),
    );
  };
  for (let round = 0; round < 2; round++) await flood(round);
  const before = await inUse(web);
  for (let round = 2; round < 6; round++) await flood(round);
  await steady.more(50);
  expect([...codes.keys()].sort()).toEqual(expect.arrayContaining(['no-service', 'too-many-services']));
  expect(await web.metric('hauberk_discovery_names')).toBeLessThanOrEqual(257);
  expect(stage.stats.streams).toBeLessThanOrEqual(257);
  const grown = (await inUse(web)) - before;
  console.log(`grown by ${Math.round(grown / 1024)} KiB`);
  expect(grown).toBeLessThan(4 * 2 ** 20);
  const { body } = await web.probe('/metrics');
  expect(body).not.toContain('made-up');
  steady.stop();
  expect(steady.failed).toEqual([]);
});
