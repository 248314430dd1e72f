import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FakeClock } from '../harness/fake-clock.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { type Link, Mitm } from '../harness/mitm.ts';
import { ingressTo, merge, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';
import { makeTrust, type Trust } from '../harness/trust.ts';
import { Bench, Party } from '../transport/wire.ts';

const records = { heartbeatMs: 1_000, heartbeatTimeoutMs: 500 };

describe('a channel', () => {
  let trust: Trust;
  let bench: Bench;
  beforeAll(async () => {
    trust = await makeTrust({ clock: new FakeClock() });
  });
  afterEach(() => bench.close());

  it('asks a peer that is silent, lives while it is answered, and ends soon after it is not', async () => {
    bench = await Bench.open({ limits: { records } }, trust);
    let asked = 0;
    let swallow = false;
    const port = await bench.middle((chunk, direction) => {
      if (swallow) return undefined;
      if (direction === 'down') asked++;
      return chunk;
    });
    const { client, server } = await bench.connect({ port }); // only the server asks
    client.send('.');
    await server.received(1);
    bench.clock.advance(500);
    for (let round = 2; round <= 6; round++) {
      const before = asked;
      bench.clock.advance(500);
      await expect.poll(() => asked, { timeout: 20_000 }).toBeGreaterThan(before);
      client.send('.'); // comes behind the answer
      await server.received(round);
      bench.clock.advance(250);
      expect(server.channel.silent).toBe(false);
    }
    expect(client.data).toEqual([]);
    swallow = true;
    bench.clock.advance(500);
    expect(server.channel.silent).toBe(false);
    bench.clock.advance(250);
    expect(server.channel.silent).toBe(true);
    expect(server.channel.closed).toBe(false);
    bench.clock.advance(250);
    expect((await server.ended).reason).toBe('heartbeat-timeout');
  });

  it('does not end while the kernel still sends what waits, and does when it sends nothing', async () => {
    bench = await Bench.open({ limits: { records } }, trust);
    const { socket } = await bench.rogue(); // answers no PING
    socket.removeAllListeners('data');
    let taken = 0;
    socket.on('data', (chunk: Buffer) => {
      taken += chunk.length;
      if (taken >= 2 ** 20) socket.pause();
    });
    const server = new Party(await bench.channels.next());
    socket.pause();
    const fill = (): void => {
      while (server.channel.backlog < 4 * 2 ** 20) server.send(Buffer.alloc(60_000));
    };
    fill();
    for (let round = 0; round < 8; round++) {
      taken = 0;
      socket.resume();
      await expect.poll(() => taken, { timeout: 20_000 }).toBeGreaterThanOrEqual(2 ** 20);
      await pause(10); // for libuv to write on
      fill();
      bench.clock.advance(500);
      expect([round, server.channel.closed]).toEqual([round, false]);
    }
    expect(server.channel.backlog).toBeGreaterThan(0);
    for (let i = 0; i < 6; i++) bench.clock.advance(500);
    expect((await server.ended).reason).toBe('heartbeat-timeout');
  });
});

describe.concurrent('between sidecars', () => {
  // A busy machine must not seem dead.
  const beats = { records: { heartbeat: '300ms', heartbeatTimeout: '2s' } };

  it.for([
    { who: 'caller', web: beats, greeter: {}, seen: 'heartbeat-timeout' },
    { who: 'called side', web: {}, greeter: beats, seen: 'truncated' },
  ])(
    'a half-open connection is ended by the $who, and the session resumed on another',
    async (row, { expect }) => {
      const { web, greeter, seen } = row;
      const middle = await Mitm.start({ raw: true });
      const pair = await startPair({ web, greeter, route: { endpoints: [middle.address] } });
      middle.target = pair.greeter.ingress;
      expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
      const [dead] = middle.links;
      middle.meddler = (unit, link) => (link === dead ? undefined : unit.bytes);
      const answer = await pair.client.unary(SayHello, { name: 'Bob' }, { deadlineMs: 60_000 });
      expect(answer).toMatchObject({ code: 14, hauberkError: 'session-lost' });
      expect(answer.details).toContain(seen);
      const { audit } = web === beats ? pair.web : pair.greeter;
      await audit.event('connection.closed', ({ reason }) => reason === 'heartbeat-timeout');
      // No call asks for it.
      const { sessionId } = await pair.web.audit.event('session.resumed');
      expect(sessionId).toBe((await pair.web.audit.event('session.created')).sessionId);
      expect((await pair.client.unary(SayHello, { name: 'Cleo' })).code).toBe(0);
      expect(pair.app.calls('SayHello')).toBe(2);
      const alive = middle.links.at(-1) as Link;
      // Idle now, and alive: it is asked and answers, again and again.
      const moved = (): number => Math.min(...Object.values(alive.sent).map((chunks) => chunks.length));
      const before = moved();
      await expect.poll(moved, { timeout: 20_000 }).toBeGreaterThanOrEqual(before + 3);
      expect(await pair.web.audit.of('session.resumed')).toHaveLength(1);
      expect(await pair.web.audit.of('session.created')).toHaveLength(1);
    },
  );

  it('an endpoint is given up after so many dials, checked, and back in use when it is there again', async ({
    expect,
  }) => {
    const world = await World.make();
    const app = await world.app();
    const middle = await Mitm.start({ raw: true });
    const start = (): Promise<SidecarProcess> => world.sidecar('greeter', ingressTo(world, app.address));
    const first = await start();
    middle.target = first.ingress;
    const web = await world.sidecar(
      'web',
      merge(
        { pool: { maxReconnectAttempts: 3, backoff: '20ms', healthCheck: '300ms' } },
        {
          egress: {
            routes: [
              { service: 'greeter.shop', endpoints: [middle.address], peer: world.spiffeId('greeter') },
            ],
          },
        },
      ),
    );
    const client = world.client(web.egress, { authority: 'greeter.shop' });
    expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    await first.kill();
    const down = await web.audit.event('endpoint.down');
    expect(down).toMatchObject({ service: 'greeter.shop', remote: middle.address, attempts: 3 });
    expect((await client.unary(SayHello, { name: 'Bob' })).code).toBe(14);
    middle.target = (await start()).ingress;
    await web.audit.event('endpoint.up', ({ remote }) => remote === middle.address);
    expect((await client.unary(SayHello, { name: 'Cleo' })).code).toBe(0);
    expect(await web.audit.of('endpoint.down')).toHaveLength(1);
  });
});
