/**
 * Attacks on time, memory and places, from an app at egress and from a peer: with limits that are set low, where their
 * defaults would take minutes. docs/limits.md has the table.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { DATA, PING as PING_RECORD, PONG } from '../../src/transport/record.ts';
import { Attacker, eventually, opening, type PeerOptions, rogueRecords } from '../harness/attacker.ts';
import { Chat, Download } from '../harness/greeter-methods.ts';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  headers,
  PREFACE,
  ping,
  rst,
  settings,
  settingsAck,
  T,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { framed } from '../harness/rawh2.ts';
import { rawConnection, talk } from '../harness/rawtcp.ts';
import { dialAs } from '../harness/rogue.ts';
import { type Pair, SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';
import { COLLECTS, inUse, Steady } from '../harness/steady.ts';

const MIB = 1024 * 1024;
/** Apps that answer nothing: one takes no DATA, one takes one call a connection. */
const DEAF = 'deaf.shop';
const NARROW = 'narrow.shop';
const CONNECTIONS = 40;
const SESSIONS = 12;
/** The default. */
const QUEUE = 1_024;

let pair: Pair;
let steady: Steady;
let self: PeerOptions;
const before = new Map<string, number>();
const measured: string[] = [];
afterAll(() => console.info(measured.join('\n')));

beforeAll(async () => {
  const world = await World.make();
  const app = await world.app();
  const deaf = await Attacker.listen(() => {}, settings([4, 0]));
  const narrow = await Attacker.listen(() => {}, settings([3, 1]));
  const start = { nodeArgs: COLLECTS };
  const http2 = {
    prefaceTimeout: '300ms',
    settingsTimeout: '300ms',
    headersTimeout: '300ms',
    // Longer than at egress, which shall notice first what its own apps do.
    stallTimeout: '4s',
    queuedBytes: '256KiB',
    floodFrames: 1_000_000,
    peerBytes: `${PEER_MIB}MiB`,
  };
  const greeter = await world.sidecar(
    'greeter',
    {
      http2,
      session: { maxPerPeer: SESSIONS },
      handshake: { burstPerAddress: 1_000, ratePerAddress: 1_000 },
      ingress: {
        apps: [
          { service: SERVICE, address: app.address },
          { service: DEAF, address: deaf },
          { service: NARROW, address: narrow },
        ],
        allow: [{ peer: world.spiffeId('*') }],
      },
    },
    start,
  );
  const route = (service: string) => ({
    service,
    endpoints: [greeter.ingress],
    peer: world.spiffeId('greeter'),
  });
  const web = await world.sidecar(
    'web',
    {
      http2: { ...http2, stallTimeout: '1s' },
      egress: { maxConnections: CONNECTIONS, routes: [SERVICE, DEAF, NARROW].map(route) },
    },
    start,
  );
  const newClient: Pair['newClient'] = (more = {}) =>
    world.client(web.egress, { authority: SERVICE, ...more });
  pair = { world, app, web, greeter, client: newClient(), newClient };
  const files = await world.trust.issue('evil');
  const evil = await loadIdentity({ ...files, trustDomain: 'shop.example' }, systemClock);
  self = { identity: evil.identity, bundle: evil.bundle, expectedPeer: world.spiffeId('greeter') };
  steady = await Steady.start(pair.client);
  await steady.more(300);
  for (const sidecar of [web, greeter]) before.set(sidecar.name, await inUse(sidecar));
});

const attackers: Attacker[] = [];
const kept = (attacker: Attacker): Attacker => {
  attackers.push(attacker);
  return attacker;
};
beforeEach(async () => {
  for (const attacker of attackers.splice(0)) attacker.close();
  const open = (): Promise<number> => pair.web.metric('hauberk_calls_open', { direction: 'egress' });
  await eventually(async () => (await open()) <= 10);
});

const asApp = async (first?: Buffer): Promise<Attacker> => kept(await Attacker.app(pair.web.egress, first));
const asPeer = async (first?: Buffer): Promise<Attacker> =>
  kept(await Attacker.peer(pair.greeter.ingress, self, first));

const SIDES = [
  { side: 'app' as const, attack: asApp, at: (): SidecarProcess => pair.web, streams: 1_024 },
  { side: 'peer' as const, attack: asPeer, at: (): SidecarProcess => pair.greeter, streams: 4_096 },
];

const request = (service: string, path: string, whose = ''): Buffer =>
  block([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', service],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
    ...(whose === '' ? [] : [['x-whose', whose] as const]),
  ]);
const HANG = '/hauberk.test.v1.Hooks/Hang';
/** What all connections of a peer may hold together, and uploads on each that cross it. */
const PEER_MIB = 4;
const UPLOADS = 200;
const nth = (i: number): number => 2 * i + 1;

async function unfelt(attack: () => Promise<void>): Promise<void> {
  await attack();
  await steady.more(5);
}

const floodsOf = (sidecar: SidecarProcess, side: string, kind: string): Promise<number> =>
  sidecar.metric('hauberk_floods_total', { side, kind });

const floodAt = (sidecar: SidecarProcess, side: string, kind: string, mark: number) =>
  sidecar.audit.event('flood.detected', (e) => e.kind === kind && e.side === side, mark);

const ACKED = Buffer.concat([opening(), settingsAck()]);

describe.each(SIDES)('from a sidecar’s $side', ({ side, attack, at, streams }) => {
  it.each([
    ['slow-preface', 'a preface that does not come whole', PREFACE.subarray(0, 20)],
    ['slow-settings', 'SETTINGS that do not come', PREFACE],
    [
      'slow-headers',
      'a header block that does not end',
      Buffer.concat([ACKED, headers(1, Buffer.of(0x82), 0)]),
    ],
  ])('%s: %s', async (kind, _what, octets) => {
    const [mark, floods] = [await at().audit.mark(), await floodsOf(at(), side, kind)];
    await unfelt(async () => {
      const attacker = await attack(octets);
      attacker.acks = false;
      await attacker.end();
    });
    const { detail } = await floodAt(at(), side, kind, mark);
    expect(await floodsOf(at(), side, kind)).toBe(floods + 1);
    measured.push(`${side} | ${kind} | ${detail}`);
  });

  it('control-queue: somebody who asks and does not read', async () => {
    const [mark, floods] = [await at().audit.mark(), await floodsOf(at(), side, 'control-queue')];
    let sent = 0;
    await unfelt(async () => {
      const PINGS = 2_000; // 34 KB of answers
      const pings = Buffer.concat(Array.from({ length: PINGS }, () => ping()));
      let socket: Awaited<ReturnType<typeof rawConnection>>;
      let send: () => void;
      if (side === 'app') {
        socket = await rawConnection(pair.web.egress);
        socket.write(ACKED);
        send = () => void socket.write(pings);
      } else {
        const rogue = await rogueRecords(pair.greeter.ingress, self);
        socket = rogue.socket;
        rogue.send(DATA, ACKED);
        send = () => rogue.send(DATA, pings);
      }
      socket.pause();
      let closed = false;
      socket.on('close', () => {
        closed = true;
      });
      const crossed = async (): Promise<boolean> => (await floodsOf(at(), side, 'control-queue')) > floods;
      for (let i = 0; sent < 2_000_000 && !closed; i++) {
        if (socket.writableLength < MIB) {
          send();
          sent += PINGS;
        }
        await turn();
        if (i % 20 === 19 && (await crossed())) break;
      }
      socket.destroy();
    });
    const { detail } = await floodAt(at(), side, 'control-queue', mark);
    expect(await floodsOf(at(), side, 'control-queue')).toBe(floods + 1);
    await at().audit.event('connection.closed', (e) => e.side === side && e.reason === 'flood', mark);
    measured.push(`${side} | PINGs to somebody deaf | sent ${sent} | ${detail}`);
  });

  it('stalled: calls whose answers are not taken are reset while the queue is full, the others are not', async () => {
    const [mark, floods] = [await at().audit.mark(), await floodsOf(at(), side, 'stalled')];
    const CALLS = 10;
    await unfelt(async () => {
      const attacker = await attack(Buffer.concat([PREFACE, settings([4, 0]), windowUpdate(0, 2 ** 30)]));
      const order = framed(Download.requestSerialize({ count: 10, size: 65_536 }));
      for (let i = 0; i < CALLS; i++) {
        attacker.write(headers(nth(i), request(SERVICE, Download.path)), data(nth(i), order, END_STREAM));
      }
      await eventually(() => attacker.resets.size > 0 || attacker.ended);
      expect(new Set(attacker.resets.values())).toEqual(new Set([E.CANCEL]));
      expect(attacker.ended).toBe(false);
    });
    await floodAt(at(), side, 'stalled', mark);
    expect(await floodsOf(at(), side, 'stalled')).toBeGreaterThan(floods);
  });

  it('windows of one octet: octet by octet, and no harm', async () => {
    await unfelt(async () => {
      const attacker = await attack(Buffer.concat([PREFACE, settings([4, 1])]));
      await attacker.ready();
      const order = framed(Download.requestSerialize({ count: 1, size: 65_536 }));
      attacker.write(headers(1, request(SERVICE, Download.path)), data(1, order, END_STREAM));
      await eventually(() => attacker.octets === 1);
      await attacker.flood(() => windowUpdate(1, 1), 3_000);
      await eventually(() => attacker.octets >= 3_001 || attacker.ended);
      expect(attacker.octets).toBe(3_001);
      expect(attacker.ended).toBe(false);
    });
  });

  it('streams: calls beyond those that it takes are refused, unprocessed', async () => {
    const [mark, floods] = [await at().audit.mark(), await floodsOf(at(), side, 'streams')];
    const MORE = 50;
    await unfelt(async () => {
      const attacker = await (await attack()).ready();
      const call = request(DEAF, '/a/b');
      // The first waits for connections, and not many may wait.
      attacker.write(headers(1, call));
      const connected = (): Promise<number> =>
        pair.greeter.metric('hauberk_connections_open', { side: 'local-app' });
      await eventually(async () => (await connected()) >= 2);
      await attacker.flood((i) => headers(nth(i + 1), call), streams + MORE - 1);
      await eventually(() => attacker.resets.size >= MORE || attacker.ended);
      expect(attacker.ended).toBe(false);
      const last = Array.from({ length: MORE }, (_, i) => attacker.resets.get(nth(streams + i)));
      expect(new Set(last)).toEqual(new Set([E.REFUSED_STREAM]));
    });
    await floodAt(at(), side, 'streams', mark);
    expect(await floodsOf(at(), side, 'streams')).toBe(floods + MORE);
  });
});

describe('places that are all taken', () => {
  it('queue-full: calls that wait for an app are bounded, further ones get UNAVAILABLE', async () => {
    const full = (): Promise<number> => pair.greeter.metric('hauberk_errors_total', { code: 'queue-full' });
    const were = await full();
    const CALLS = QUEUE + 8 + 20;
    await unfelt(async () => {
      const attacker = await (await asPeer()).ready();
      const call = request(NARROW, '/a/b');
      await attacker.flood((i) => headers(nth(i), call, END_HEADERS | END_STREAM), CALLS);
      // 8 connections to the app with a call each, and as many as may wait.
      await eventually(() => attacker.count(T.HEADERS) >= 20 || attacker.ended);
      expect(attacker.ended).toBe(false);
    });
    expect((await full()) - were).toBeGreaterThanOrEqual(20);
  });

  it('too-many-connections: egress takes so many of apps, and turns away the others', async () => {
    const mark = await pair.web.audit.mark();
    const open: Attacker[] = [];
    await unfelt(async () => {
      for (let i = 0; i < CONNECTIONS + 20; i++) open.push(await asApp());
      await eventually(() => open.filter(({ ended }) => ended).length >= 20);
    });
    const event = await pair.web.audit.event(
      'connection.refused',
      ({ reason }) => reason === 'too-many-connections',
      mark,
    );
    expect(event.listener).toBe(pair.web.egress);
    const labels = { listener: 'egress', reason: 'too-many-connections' };
    await eventually(async () => (await pair.web.metric('hauberk_connections_refused_total', labels)) >= 20);
    for (const attacker of open) attacker.close();
    await eventually(async () => (await pair.web.metric('hauberk_connections_open', { side: 'app' })) < 5);
    await pair.web.audit.mark();
  });

  it('handshakes that are good and then do nothing: each ends in time, sessions of a peer are bounded', async () => {
    const mark = await pair.greeter.audit.mark();
    const HANDSHAKES = 60;
    let most = 0;
    await unfelt(async () => {
      let closed = 0;
      for (let i = 0; i < HANDSHAKES; i++) {
        const channel = await dialAs(self.identity, pair.greeter.ingress, self);
        channel.onClose = () => closed++;
        channel.onData = () => {};
        if (i % 20 === 19) {
          most = Math.max(most, await pair.greeter.metric('hauberk_sessions_open', { direction: 'inbound' }));
        }
      }
      await eventually(() => closed === HANDSHAKES);
    });
    // Those of web are two or three, one for each route that was used.
    expect(most).toBeLessThanOrEqual(SESSIONS + 3);
    await floodAt(pair.greeter, 'peer', 'slow-preface', mark);
    measured.push(`peer | ${HANDSHAKES} handshakes that do nothing | at most ${most} sessions`);
  });

  it('peer-memory: what all sessions of a peer hold together is bounded, and the one with most goes', async () => {
    const [mark, floods] = [
      await pair.greeter.audit.mark(),
      await floodsOf(pair.greeter, 'peer', 'peer-memory'),
    ];
    const used = await inUse(pair.greeter);
    let highest = 0;
    await unfelt(async () => {
      const call = request(DEAF, '/a/b');
      const body = Buffer.alloc(8000);
      for (let s = 0; s < SESSIONS - 4; s++) {
        const attacker = await (await asPeer()).ready();
        // Within the windows that are granted to a peer of whom much is held.
        const upload = (i: number): Buffer => Buffer.concat([headers(nth(i), call), data(nth(i), body)]);
        await attacker.flood(upload, UPLOADS, 5);
      }
      await eventually(async () => (await floodsOf(pair.greeter, 'peer', 'peer-memory')) > floods);
      highest = await inUse(pair.greeter);
    });
    const event = await floodAt(pair.greeter, 'peer', 'peer-memory', mark);
    expect(event.peer).toBe(pair.world.spiffeId('evil'));
    measured.push(
      `peer | ${SESSIONS - 4} sessions with ${((SESSIONS - 4) * UPLOADS * 8000) >> 20} MiB that nobody takes | ${event.detail} | in use ${mib(used)} -> ${mib(highest)} MiB`,
    );
    // Whole chunks are kept, so some more than the limit.
    expect((highest - used) / MIB).toBeLessThan(PEER_MIB * 2.5);
  });
});

const mib = (octets: number): string => (octets / MIB).toFixed(1);

describe('records', () => {
  it.each<[kind: string, what: string, type: number, payload: Buffer]>([
    ['record-ping', 'PINGs', PING_RECORD, Buffer.alloc(8)],
    ['record-idle', 'PONGs', PONG, Buffer.alloc(8)],
    ['record-idle', 'empty DATA', DATA, Buffer.alloc(0)],
    ['record-idle', 'records of an ignorable type', 0xc0, Buffer.from('news')],
  ])('%s: %s', async (kind, what, type, payload) => {
    const [mark, floods] = [await pair.greeter.audit.mark(), await floodsOf(pair.greeter, 'peer', kind)];
    await unfelt(async () => {
      const rogue = await rogueRecords(pair.greeter.ingress, self);
      let closed = false;
      const over = (): void => {
        closed = true;
      };
      rogue.socket.on('end', over).on('close', over);
      rogue.send(DATA, ACKED);
      for (let i = 0; i < 400 && !closed; i++) {
        rogue.send(type, payload);
        if (i % 20 === 0) await turn();
      }
      await eventually(() => closed);
    });
    const event = await floodAt(pair.greeter, 'peer', kind, mark);
    expect(event.peer).toBe(pair.world.spiffeId('evil'));
    expect(await floodsOf(pair.greeter, 'peer', kind)).toBe(floods + 1);
    measured.push(`peer | ${what} | ${event.detail}`);
  });

  it('key-update: two KEY_UPDATEs in a row', async () => {
    const mark = await pair.greeter.audit.mark();
    await unfelt(async () => {
      const { socket, writer } = await rogueRecords(pair.greeter.ingress, self);
      socket.write(Buffer.concat([writer.keyUpdate(), writer.keyUpdate()]));
      await new Promise((resolve) => socket.once('end', resolve).once('close', resolve));
    });
    await floodAt(pair.greeter, 'peer', 'key-update', mark);
  });

  it('message-too-large: a first frame above its limit is not read', async () => {
    const mark = await pair.greeter.audit.mark();
    const hello = Buffer.concat([Buffer.from('HBK1'), Buffer.of(1, 0, 0, 1, 0, 0, 0, 0)]);
    await unfelt(async () => {
      await talk(pair.greeter.ingress, [Buffer.concat([hello, Buffer.of(1, 0xff, 0xff)])]);
    });
    const event = await pair.greeter.audit.event('handshake.failed', () => true, mark);
    expect(event.reason).toBe('message-too-large');
    expect(await pair.greeter.metric('hauberk_handshakes_total', { result: 'message-too-large' })).toBe(1);
  });
});

describe('cancels of many calls at once', () => {
  const CALLS = 900; // on each connection: within what it may reset

  async function cancelAll(connect: () => Promise<Attacker>, whose: string): Promise<void> {
    const cancelling: Attacker[] = [];
    const call = request(SERVICE, HANG, whose);
    const body = Buffer.alloc(5);
    for (let n = 0; n < 3; n++) {
      const attacker = await (await connect()).ready();
      cancelling.push(attacker);
      await attacker.flood(
        (i) => Buffer.concat([headers(nth(i), call), data(nth(i), body, END_STREAM)]),
        CALLS,
      );
    }
    await eventually(async () => (await pair.greeter.metric('hauberk_calls_open')) >= 3 * CALLS);
    for (const attacker of cancelling) {
      attacker.write(...Array.from({ length: CALLS }, (_, i) => rst(nth(i), E.CANCEL)));
    }
    await eventually(async () => (await pair.greeter.metric('hauberk_calls_open')) < 10);
    expect(cancelling.map(({ ended }) => ended)).toEqual([false, false, false]);
  }

  it.each([
    ['peers', 'an app close the connection that all share', asPeer, 2 * CALLS],
    ['apps', 'a peer end the session that all share', asApp, 3 * CALLS],
  ])('%s’ do not make %s', async (whose, _what, connect, most) => {
    const mark = await pair.web.audit.mark();
    const { ok } = steady;
    // A call that lives through it all, on connections that the cancelled ones share.
    const { call, answer } = pair.newClient().bidi(Chat);
    let echoed = 0;
    call.on('data', () => echoed++);
    const echo = async (n: number): Promise<void> => {
      call.write({ data: Buffer.from('still there?') });
      await eventually(() => echoed === n || call.destroyed);
      expect(echoed).toBe(n);
    };
    await echo(1);
    // Of the calls of the case before, the app is still being told.
    const told = (): number =>
      pair.app.sightings.filter(
        (seen) => seen.what === 'cancelled' && seen.metadata.get('x-whose').includes(whose),
      ).length;
    await unfelt(() => cancelAll(connect, whose));
    await steady.more(50);
    await echo(2);
    // What each connection of the app bears: 800 at once and 30 a second.
    expect(told()).toBeGreaterThan(0);
    expect(told()).toBeLessThan(most);
    call.end();
    expect((await answer).code).toBe(0);
    const since = (await pair.web.audit.all()).filter(({ seq }) => seq > mark);
    expect(since.filter((e) => e.type === 'connection.closed' && e.side === 'peer')).toEqual([]);
    measured.push(`${3 * CALLS} cancels at once | ${steady.ok - ok} healthy calls meanwhile`);
  });
});

describe('after all attacks', () => {
  it.each(['web', 'greeter'] as const)('the memory of %s is what it was', async (name) => {
    await steady.more(100);
    const was = before.get(name) as number;
    let used = 0;
    // Connections that were cut linger for a while.
    await eventually(async () => {
      used = await inUse(pair[name]);
      return used - was < 8 * MIB;
    });
    measured.push(
      `${name} | in use ${mib(was)} -> ${mib(used)} MiB | RSS ${mib(await pair[name].rss())} MiB`,
    );
  });

  it('no healthy call has failed', () => {
    expect(steady.failed).toEqual([]);
    measured.push(`healthy calls: ${steady.ok} ok, ${steady.failed.length} failed`);
  });
});
