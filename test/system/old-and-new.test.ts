import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { SecureMesh } from '../../src/mesh/securemesh.ts';
import { SecureMeshServer } from '../../src/mesh/securemeshserver.ts';
import { AdminClient } from '../harness/admin-client.ts';
import { envelopeMethod } from '../harness/envelope-methods.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { Chat, Download, Echo, SayHello, Upload } from '../harness/greeter-methods.ts';
import { clientOn } from '../harness/meshside.ts';
import { Mitm } from '../harness/mitm.ts';
import { OLD_VERSION, oldHauberk } from '../harness/oldversion.ts';
import {
  atEnd,
  ingressTo,
  type Pair,
  type PairOptions,
  SERVICE,
  startPair,
  World,
} from '../harness/sidecars.ts';

/*
 * A rolling upgrade: sidecars and programs of this version and of the one before it call each other, both ways.
 */

let old: string;
let world: World;
beforeAll(async () => {
  [old, world] = await Promise.all([oldHauberk(), World.make()]);
});

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

/** Calls until one works, as a client would while connections are cut. */
async function sessionOf(client: TestClient): Promise<string> {
  for (;;) {
    const { code, message } = await client.unary(SayHello, { name: 'Ada' });
    if (code === 0) return message?.session as string;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function cut(middle: Mitm): void {
  for (const { client, server } of middle.links) {
    client.destroy();
    server.destroy();
  }
}

/** Messages there and back, one after the other, until both ends have changed both keys. */
async function untilRekeyed({ client, web, greeter }: Pair): Promise<void> {
  const { call, answer } = client.bidi(Chat, { paused: true });
  const rekeyed = async (): Promise<boolean> => {
    const events = await Promise.all([web, greeter].map(({ audit }) => audit.of('session.rekeyed')));
    return events.every((all) => new Set(all.map(({ direction }) => direction)).size === 2);
  };
  for (let n = 0; n % 500 !== 0 || !(await rekeyed()); n++) {
    const back = once(call, 'data');
    call.write({ data: Buffer.from(`${n}`) });
    expect(String(((await back) as [{ data: Buffer }])[0].data)).toBe(`${n}`);
  }
  call.end();
  expect((await answer).code).toBe(0);
}

describe.each([
  { calling: 'old', called: 'new' },
  { calling: 'new', called: 'old' },
])('a sidecar of the $calling version calls one of the $called', ({ calling, called }) => {
  const mainOf = (which: string): string | undefined => (which === 'old' ? old : undefined);
  const mains = (): NonNullable<PairOptions['mains']> => ({ web: mainOf(calling), greeter: mainOf(called) });
  let pair: Pair;
  let middle: Mitm;

  beforeAll(async () => {
    middle = await Mitm.start({ raw: true });
    const records = { rekeyRecords: 1024 };
    pair = await startPair({
      world,
      mains: mains(),
      route: { endpoints: [middle.address] },
      greeter: { records, admin: { listen: `unix:${world.dir}/${called}.sock` } },
      web: { records, pool: { backoff: '10ms', maxBackoff: '50ms' } },
    });
    middle.target = pair.greeter.ingress;
    await sessionOf(pair.client);
  });

  it('they are what they are said to be', () => {
    expect([pair.web.ready.version, pair.greeter.ready.version]).toEqual(
      [calling, called].map((which) => (which === 'old' ? OLD_VERSION : version)),
    );
    expect(version).not.toBe(OLD_VERSION);
  });

  it('all four kinds of calls pass, with what is in them', async () => {
    const { client } = pair;
    const data = Buffer.alloc(300_000, 'echo');
    const echo = await client.unary(Echo, { data }, { metadata: { 'x-tag': 'mine' } });
    expect([echo.code, echo.message?.data.equals(data)]).toEqual([0, true]);
    expect(echo.message?.metadata.find(({ key }) => key === 'x-tag')?.value.toString()).toBe('mine');
    const down = await client.serverStream(Download, { count: 50, size: 10_000 }).answer;
    expect([down.code, down.messages.length]).toEqual([0, 50]);
    const up = client.clientStream(Upload);
    for (let n = 0; n < 50; n++) up.call.write({ data: Buffer.alloc(10_000, n) });
    up.call.end();
    expect((await up.answer).message).toEqual({ messages: 50, octets: 500_000 });
    const chat = client.bidi(Chat);
    for (const text of ['a', 'b', 'c']) chat.call.write({ data: Buffer.from(text) });
    chat.call.end();
    expect((await chat.answer).messages.map((message) => String(message.data))).toEqual(['a', 'b', 'c']);
  });

  it('the handshake is post-quantum, and cut connections are resumed', async () => {
    const first = await sessionOf(pair.client);
    for (let n = 1; n <= 3; n++) {
      const links = middle.links.length;
      cut(middle);
      await expect.poll(() => middle.links.length, { timeout: 20_000 }).toBeGreaterThan(links);
      expect(await sessionOf(pair.client)).toBe(first);
      for (const { audit } of [pair.web, pair.greeter]) await audit.events('session.resumed', n);
    }
    for (const sidecar of [pair.web, pair.greeter]) {
      expect(await sidecar.metric('hauberk_handshake_modes_total', { mode: '1' })).toBe(1);
      expect(await sidecar.metric('hauberk_handshake_modes_total', { mode: '2' })).toBe(3);
      expect(await sidecar.audit.of('session.closed')).toEqual([]);
    }
  });

  it('keys change in both directions under a stream', async () => {
    await untilRekeyed(pair);
    expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  });

  it('a session that is revoked is followed by another; a peer that is blocked stays out until it is allowed', async () => {
    const api = new AdminClient(pair.greeter.ready.admin[0] as string);
    atEnd(() => api.close());
    const first = await sessionOf(pair.client);
    await api.call('RevokeSessions', { ids: [first], reason: 'drill' });
    const isFirst = ({ sessionId }: { sessionId: string }): boolean => sessionId === first;
    expect((await pair.greeter.audit.event('session.revoked', isFirst)).mayReturn).toBe(true);
    expect((await pair.web.audit.event('session.closed', isFirst)).reason).toBe('revoked');
    const second = await sessionOf(pair.client);
    expect(second).not.toBe(first);

    const peer = world.spiffeId('web');
    await api.call('BlockPeer', { peer, reason: 'drill' });
    const refused = await pair.client.unary(SayHello, { name: 'Ada' });
    expect(refused.code).not.toBe(0);
    await api.call('AllowPeer', { peer });
    expect(await sessionOf(pair.client)).not.toBe(second);
  });

  it.each<[ours: string, theirs: string, mode: number | undefined]>([
    ['required', 'preferred', 1],
    ['preferred', 'off', 0],
    ['off', 'preferred', 0],
    ['required', 'off', undefined],
  ])('post-quantum %s here and %s there comes to mode %s', async (ours, theirs, mode) => {
    const options: PairOptions = {
      world,
      mains: mains(),
      web: { crypto: { postQuantum: ours }, pool: { backoff: '10ms', maxBackoff: '50ms' } },
      greeter: { crypto: { postQuantum: theirs } },
    };
    const { web, greeter, client } = await startPair(options);
    if (mode === undefined) {
      const answer = await client.unary(SayHello, { name: 'Ada' });
      expect(answer.code).toBe(14);
      expect((await greeter.audit.event('handshake.failed')).reason).toBe('mode-refused');
    } else {
      await sessionOf(client);
      expect((await web.audit.event('session.created')).mode).toBe(mode);
    }
  });
});

describe('a sidecar of the old version calls a program of the new', () => {
  let client: TestClient;
  let middle: Mitm;
  let server: SecureMeshServer;

  beforeAll(async () => {
    await world.trust.issue('service');
    server = new SecureMeshServer({
      serviceId: 'service',
      keys: world.trust.dir,
      host: '127.0.0.1',
      log: 'silent',
    });
    server.handle('greet', async ({ name }, { session }) => ({ greeting: `Hello, ${name}`, id: session.id }));
    server.handleServerStream('count', async function* (to: number) {
      for (let n = 1; n <= to; n++) yield n;
    });
    server.handleClientStream('sum', async (numbers: AsyncIterable<number>) => {
      let sum = 0;
      for await (const n of numbers) sum += n;
      return sum;
    });
    server.handleBidiStream('double', async function* (numbers: AsyncIterable<number>) {
      for await (const n of numbers) yield 2 * n;
    });
    const port = await server.start();
    atEnd(() => server.cleanup(0));
    middle = await Mitm.start({ raw: true });
    middle.target = `127.0.0.1:${port}`;
    const sidecar = await world.sidecar(
      'caller',
      {
        egress: {
          routes: [{ service: 'service', endpoints: [middle.address], peer: world.spiffeId('service') }],
        },
        pool: { backoff: '10ms', maxBackoff: '50ms' },
      },
      { main: old },
    );
    expect(sidecar.ready.version).toBe(OLD_VERSION);
    client = world.client(sidecar.egress, { authority: 'service' });
  });

  async function greeted(): Promise<{ greeting: string; id: string }> {
    const greet = envelopeMethod<unknown, { greeting: string; id: string }>('service', 'greet');
    for (;;) {
      const { code, message } = await client.unary(greet, { name: 'Ada' });
      if (code === 0) return message as { greeting: string; id: string };
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  it('all four kinds of calls reach its handlers', async () => {
    expect((await greeted()).greeting).toBe('Hello, Ada');
    const counted = await client.serverStream(envelopeMethod('service', 'count'), 3).answer;
    expect([counted.code, counted.messages]).toEqual([0, [1, 2, 3]]);
    const sum = client.clientStream(envelopeMethod('service', 'sum'));
    for (const n of [1, 2, 3]) sum.call.write(n);
    sum.call.end();
    expect((await sum.answer).message).toBe(6);
    const double = client.bidi(envelopeMethod('service', 'double'));
    for (const n of [1, 2, 3]) double.call.write(n);
    double.call.end();
    expect((await double.answer).messages).toEqual([2, 4, 6]);
  });

  it('its sessions outlive their connections, and end when they are revoked', async () => {
    const { id } = await greeted();
    cut(middle);
    await expect.poll(() => server.mesh.sessions.peek(id)?.resumptions, { timeout: 20_000 }).toBe(1);
    expect((await greeted()).id).toBe(id);
    await server.mesh.revocation.revoke({ ids: [id] }, { reason: 'drill' });
    expect((await greeted()).id).not.toBe(id);
  });
});

describe('a program of the new version calls a sidecar of the old', () => {
  let mesh: SecureMesh;
  let client: TestClient;
  let middle: Mitm;

  beforeAll(async () => {
    const app = await world.app();
    const records = { rekeyRecords: 1024 };
    const config = { ...ingressTo(world, app.address), records };
    const sidecar = await world.sidecar('called', config, { main: old });
    expect(sidecar.ready.version).toBe(OLD_VERSION);
    middle = await Mitm.start({ raw: true });
    middle.target = sidecar.ingress;
    await world.trust.issue('program');
    mesh = await new SecureMesh({
      serviceId: 'program',
      keys: world.trust.dir,
      services: { [SERVICE]: { endpoints: [middle.address], peer: world.spiffeId('called') } },
      log: 'silent',
    }).start();
    atEnd(() => mesh.cleanup(0));
    client = clientOn(mesh.channel(SERVICE));
    atEnd(() => client.close());
  });

  it('all four kinds of calls come back', async () => {
    await sessionOf(client);
    expect((await client.unary(Echo, { data: Buffer.from('echo') })).message?.data.toString()).toBe('echo');
    const down = await client.serverStream(Download, { count: 5, size: 10_000 }).answer;
    expect([down.code, down.messages.length]).toEqual([0, 5]);
    const up = client.clientStream(Upload);
    for (let n = 0; n < 5; n++) up.call.write({ data: Buffer.alloc(1_000, n) });
    up.call.end();
    expect((await up.answer).message).toEqual({ messages: 5, octets: 5_000 });
    // So many that the keys have changed.
    const { call, answer } = client.bidi(Chat, { paused: true });
    for (let n = 0; n < 1_500; n++) {
      const back = once(call, 'data');
      call.write({ data: Buffer.from(`${n}`) });
      expect(String(((await back) as [{ data: Buffer }])[0].data)).toBe(`${n}`);
    }
    call.end();
    expect((await answer).code).toBe(0);
  });

  it('its sessions outlive their connections', async () => {
    const id = await sessionOf(client);
    cut(middle);
    await expect.poll(() => mesh.sessions.peek(id)?.resumptions, { timeout: 20_000 }).toBe(1);
    expect(await sessionOf(client)).toBe(id);
  });
});
