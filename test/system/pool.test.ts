import { describe, expect, it } from 'vitest';
import { blackhole } from '../harness/blackhole.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { answerOf, fieldOf, framed, RawApp, RawClient } from '../harness/rawh2.ts';
import {
  type ConfigFile,
  ingressTo,
  merge,
  type SidecarFiles,
  type SidecarProcess,
  startPair,
  World,
} from '../harness/sidecars.ts';

/*
 * Connections to peers as operators meet them: a host that is gone, a rolling restart, everybody back at once, and the
 * limits of the pool. The rest of `pool` and `handshake` is in test/integration: heartbeat, waiting, resumption.
 */

const BODY = framed(Buffer.alloc(1));

/** A call that its app does not answer until the test does; how it ends. */
async function held(client: RawClient, name: string, more: Record<string, string> = {}): Promise<string> {
  const answer = await answerOf(client.grpc(`/shop.Raw/${name}`, more).end(BODY));
  return fieldOf(answer.headers, 'hauberk-error') ?? `${fieldOf(answer.headers, 'grpc-status')}`;
}

function answerAll(app: RawApp): void {
  const ok = { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' };
  for (const { stream } of app.requests.splice(0)) stream.respond(ok, { endStream: true });
}

describe('a host that takes no connections', () => {
  it('is given up after handshake.connectTimeout, and the call says where', async () => {
    const address = await blackhole();
    const { client, web } = await startPair({
      web: { handshake: { connectTimeout: '300ms' } },
      route: { endpoints: [address] },
    });
    const answer = await client.unary(SayHello, { name: 'Ada' }, { deadlineMs: 60_000 });
    expect(answer).toMatchObject({ code: 14, hauberkError: 'peer-unreachable' });
    expect(answer.details).toContain(`No connection to ${address} within 300 ms`);
    const failed = await web.audit.event('handshake.failed');
    expect(failed).toMatchObject({ direction: 'outbound', state: 'connecting', reason: 'connect-timeout' });
  });

  it('is no endpoint that calls wait for, but one, while others are well', async () => {
    const world = await World.make();
    const apps = [await world.app({ name: 'one' }), await world.app({ name: 'two' })];
    const ends: SidecarProcess[] = [];
    for (const app of apps) ends.push(await world.sidecar('greeter', ingressTo(world, app.address)));
    const { client } = await startPair({
      world,
      web: { handshake: { connectTimeout: '2m' } },
      route: { endpoints: [await blackhole(), ...ends.map(({ ingress }) => ingress)] },
    });
    let late = 0;
    for (let i = 0; i < 60; i++) {
      const { code } = await client.unary(SayHello, { name: 'Ada' }, { deadlineMs: 8_000 });
      if (code === 4) late++;
      else expect(code).toBe(0);
    }
    expect(late).toBeLessThanOrEqual(1);
    expect(apps.map((app) => app.calls() > 0)).toEqual([true, true]);
  });
});

describe('three endpoints', () => {
  it('that are restarted one after the other lose no call; that crash all at once are all back in use', async () => {
    const world = await World.make();
    const apps = [
      await world.app({ name: 'a' }),
      await world.app({ name: 'b' }),
      await world.app({ name: 'c' }),
    ];
    // Each time their common identity is issued anew: not while another one starts.
    const configure = (i: number, listen: string): Promise<SidecarFiles> => {
      const { address } = apps[i] as (typeof apps)[0];
      return world.configure('greeter', merge(ingressTo(world, address), { ingress: { listen } }));
    };
    const start = async (i: number, listen: string): Promise<SidecarProcess> =>
      world.run('greeter', await configure(i, listen));
    const ends: SidecarProcess[] = [];
    for (let i = 0; i < 3; i++) ends.push(await start(i, '127.0.0.1:0'));
    const addresses = ends.map(({ ingress }) => ingress);
    const { web, newClient } = await startPair({ world, route: { endpoints: addresses } });
    const codes = new Map<string, number>();
    let over = false;
    const caller = async (): Promise<void> => {
      const client = newClient();
      while (!over) {
        const { code, details } = await client.unary(SayHello, { name: 'Ada' }, { deadlineMs: 20_000 });
        const how = code === 0 ? 'answered' : `${code} ${details}`;
        codes.set(how, (codes.get(how) ?? 0) + 1);
      }
    };
    const callers = Array.from({ length: 4 }, caller);
    const used = async (): Promise<void> => {
      const before = apps.map((app) => app.calls());
      const more = (): boolean[] => apps.map((app, i) => app.calls() > (before[i] as number));
      await expect.poll(more, { timeout: 20_000 }).toEqual([true, true, true]);
    };
    await used();
    for (let i = 0; i < 3; i++) {
      expect(await (ends[i] as SidecarProcess).stop()).toBe(0);
      ends[i] = await start(i, addresses[i] as string);
      await used();
    }
    expect([...codes.keys()]).toEqual(['answered']);

    await Promise.all(ends.map((end) => end.kill()));
    await expect.poll(() => codes.size, { timeout: 20_000 }).toBeGreaterThan(1);
    const files: SidecarFiles[] = [];
    for (const [i, address] of addresses.entries()) files.push(await configure(i, address));
    await Promise.all(files.map((each) => world.run('greeter', each)));
    await used();
    over = true;
    await Promise.all(callers);
    expect([...codes.keys()].filter((how) => !/^(answered|14 )/.test(how))).toEqual([]);
    expect(await web.audit.of('endpoint.down')).toEqual([]);
  });
});

describe('a pool', () => {
  it('opens no more connections to an endpoint than pool.size; what needs more streams waits', async () => {
    const world = await World.make();
    const app = await RawApp.start();
    const { web, greeter } = await startPair({
      world,
      greeter: merge(ingressTo(world, app.address), { http2: { sessionStreams: 2 } }),
      web: { pool: { size: 2 } },
    });
    const client = new RawClient(web.egress, 'greeter.shop');
    const first = Array.from({ length: 2 }, () => held(client, 'Hold'));
    await expect.poll(() => app.requests.length, { timeout: 20_000 }).toBe(2);
    const more = Array.from({ length: 5 }, () => held(client, 'Hold'));
    await expect.poll(() => app.requests.length, { timeout: 20_000 }).toBe(4);
    const open = (): Promise<number> =>
      greeter.metric('hauberk_peer_connections', { direction: 'inbound', state: 'open' });
    expect([await web.metric('hauberk_calls_open'), await open()]).toEqual([7, 2]);
    expect(app.requests).toHaveLength(4);
    answerAll(app);
    await expect.poll(() => app.requests.length, { timeout: 20_000 }).toBe(3);
    answerAll(app);
    expect(await Promise.all([...first, ...more])).toEqual(Array(7).fill('0'));
    // Calls that come one by one share what is there.
    app.onRequest(() => answerAll(app));
    for (let i = 0; i < 5; i++) expect(await held(client, 'Quick')).toBe('0');
    expect(await open()).toBe(2);
  });

  it('of pool.maxConcurrentSessions lets an idle session make room, and calls wait for a busy one', async () => {
    const world = await World.make();
    const services = ['one.shop', 'two.shop'] as const;
    const apps = [await RawApp.start(), await RawApp.start()] as const;
    const ends = [
      await world.sidecar('greeter', ingressTo(world, apps[0].address, services[0])),
      await world.sidecar('greeter', ingressTo(world, apps[1].address, services[1])),
    ] as const;
    const route = (i: 0 | 1): ConfigFile => ({
      service: services[i],
      endpoints: [ends[i].ingress],
      peer: world.spiffeId('greeter'),
    });
    const web = await world.sidecar('web', {
      egress: { routes: [route(0), route(1)] },
      pool: { maxConcurrentSessions: 1 },
    });
    const [one, two] = services.map((service) => new RawClient(web.egress, service)) as [
      RawClient,
      RawClient,
    ];
    apps[0].onRequest(() => answerAll(apps[0]));
    expect(await held(one, 'Quick')).toBe('0');
    const busy = held(two, 'Hold');
    await expect.poll(() => apps[1].requests.length, { timeout: 20_000 }).toBe(1);
    await web.audit.event('session.evicted');
    const patient = held(one, 'Quick');
    expect(await held(one, 'Late', { 'grpc-timeout': '300m' })).toBe('deadline-exceeded');
    expect(await web.audit.of('session.created')).toHaveLength(2);
    answerAll(apps[1]);
    expect(await Promise.all([busy, patient])).toEqual(['0', '0']);
    await web.audit.events('session.created', 3);
    expect(await web.metric('hauberk_sessions_open', { direction: 'outbound' })).toBe(1);
  });
});
