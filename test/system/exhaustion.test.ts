import type { ServerOptions } from 'node:http2';
import { setImmediate as turn } from 'node:timers/promises';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { type LoadedIdentity, loadIdentity } from '../../src/identity/load.ts';
import { E, type Fields, rst } from '../harness/http2-peer.ts';
import { RawApp } from '../harness/rawh2.ts';
import { type Outcome, RawSession } from '../harness/rawsession.ts';
import { type Pair, SERVICE, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';

const HANG = '/shop.Raw/Hang';
const MIB = 1024 * 1024;
/** Sidecars that collect their garbage when they are told to, so that what is left of their heap is in use. */
const COLLECTS = ['--expose-gc', '--import', 'data:text/javascript,process.on("SIGUSR2",()=>gc())'];

let pair: Pair;
let self: LoadedIdentity;
beforeAll(async () => {
  const world = await World.make();
  // Node's own servers cut off whoever cancels more than a thousand calls, which a sidecar that passes on its
  // callers' cancellations may well do; this app holds out. And they refuse calls when a connection takes 10 MB,
  // which in Node 24 includes the headers of open calls.
  const resets = { streamResetBurst: 1_000_000, streamResetRate: 1_000_000 };
  const robust = { ...resets, maxSessionMemory: 1_000 } as ServerOptions;
  const app = await RawApp.start(robust);
  app.onRequest(({ stream, headers }) => {
    if (headers.some(([name, value]) => name === ':path' && value === HANG)) return;
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' },
      { endStream: true },
    );
  });
  const greeter = { ingress: { apps: [{ service: SERVICE, address: app.address }] } };
  pair = await startPair({ world, greeter, start: { nodeArgs: COLLECTS } });
  const files = await pair.world.identityFiles('web');
  self = await loadIdentity({ ...files, trustDomain: 'shop.example' }, systemClock);
});

const asPeer = (): Promise<RawSession> =>
  RawSession.asPeer(self.identity, pair.greeter.ingress, {
    expectedPeer: pair.world.spiffeId('greeter'),
    bundle: self.bundle,
  });

const request = (path: string, ...more: Fields): Fields => [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', path],
  [':authority', SERVICE],
  ['te', 'trailers'],
  ['content-type', 'application/grpc'],
  ...more,
];
/** A call that is never answered. */
const hang = (...more: Fields): Fields => request(HANG, ...more);
const EMPTY_MESSAGE = Buffer.alloc(5);

/** Whether an honest app's call is answered. */
async function expectService(): Promise<void> {
  const honest = await RawSession.toEgress(pair.web.egress);
  const { fields } = await honest.request(request('/shop.Raw/Call'));
  expect([...fields]).toContainEqual(['grpc-status', '0']);
  honest.close();
}

async function heap(sidecar: SidecarProcess): Promise<number> {
  sidecar.signal('SIGUSR2');
  await sidecar.probe('/livez'); // the signal is taken before a connection that comes later is
  return sidecar.metric('nodejs_heap_size_used_bytes');
}

/** A connection of somebody's, which does not outlive a test that fails. */
async function attack(open: () => Promise<RawSession>): Promise<RawSession> {
  const attacker = await open();
  onTestFinished(() => attacker.close());
  return attacker;
}

/** Sides that a client may attack: who is attacked, by what connection, and what its audit calls the attacker. */
const SIDES = [
  {
    side: 'app' as const,
    open: () => RawSession.toEgress(pair.web.egress),
    at: () => pair.web,
    streams: 1_024,
  },
  { side: 'peer' as const, open: asPeer, at: () => pair.greeter, streams: 4_096 },
];

describe.each(SIDES)('somebody, as a sidecar’s $side,', ({ side, open, at, streams }) => {
  it('who opens calls with huge metadata that are never answered does not make it keep the metadata', async () => {
    const marks = { web: await pair.web.audit.mark(), greeter: await pair.greeter.audit.mark() };
    const attacker = await attack(open);
    const before = await heap(at());
    const refused: Outcome[] = [];
    const METADATA = 15_000; // within what may wait, should nobody take it for a while
    const CALLS = 1_000;
    for (let i = 0; i < CALLS; i++) {
      const fields = hang(['x-number', String(i)], ['x-huge', 'y'.repeat(METADATA)]);
      void attacker.request(fields, EMPTY_MESSAGE).then((outcome) => refused.push(outcome));
      if (i % 20 === 0) await attacker.taken();
    }
    const calls = async (): Promise<number> => at().metric('hauberk_calls_open');
    while ((await calls()) < CALLS) expect(refused).toEqual([]);
    // Calls are open before their headers are sent on: what waits for a slow peer or app is held until then.
    const grown = async (): Promise<number> => ((await heap(at())) - before) / MIB;
    await expect.poll(grown, { message: 'MiB' }).toBeLessThan((CALLS * METADATA) / MIB / 3);
    await expectService();
    attacker.close();
    while ((await calls()) > 0) await turn();
    await expectService();
    // What others share with the attacker has lived through it: the session between the sidecars, and the
    // connection to the app.
    for (const sidecar of [pair.web, pair.greeter]) {
      const events = (await sidecar.audit.all()).filter(({ seq }) => seq > marks[sidecar.name as 'web']);
      expect(events.filter((e) => e.type === 'connection.closed' && e.reason === 'flood')).toEqual([]);
      expect(events.filter((e) => e.type === 'session.closed' && e.direction === 'outbound')).toEqual([]);
    }
  });

  it('who opens more calls than it takes has the others refused, unprocessed', async () => {
    const attacker = await attack(open);
    const refused: Outcome[] = [];
    for (let i = 0; i < streams + 50; i++) {
      void attacker.request(hang(), EMPTY_MESSAGE).then((outcome) => refused.push(outcome));
      if (i % 20 === 0) await attacker.taken();
    }
    while (refused.length < 50) await turn();
    expect(new Set(refused.map(({ reset }) => reset))).toEqual(new Set([E.REFUSED_STREAM]));
    expect(attacker.ended).toBe(false);
    await expectService();
    attacker.close();
  });

  it('who opens calls only to reset them is cut off', async () => {
    const mark = await at().audit.mark();
    const attacker = await attack(open);
    for (let i = 0; i < 4_000 && !attacker.ended; i++) {
      void attacker.request(hang(), EMPTY_MESSAGE);
      attacker.write(rst(2 * i + 1, E.CANCEL));
      if (i % 20 === 0) await attacker.taken();
    }
    const event = await at().audit.event('flood.detected', (e) => e.kind === 'rapid-reset', mark);
    expect(event.side).toBe(side);
    await at().audit.event('connection.closed', (e) => e.side === side && e.reason === 'flood', mark);
    await expectService();
  });
});

it('calls with huge metadata that a peer does not take are kept up to a bound, and the others refused', async () => {
  const attacker = await attack(() => RawSession.toEgress(pair.web.egress));
  await expectService();
  const before = await heap(pair.web);
  pair.greeter.signal('SIGSTOP');
  onTestFinished(() => pair.greeter.signal('SIGCONT'));
  const [CALLS, METADATA] = [900, 60_000];
  const refused: Outcome[] = [];
  for (let i = 0; i < CALLS; i++) {
    const fields = hang(['x-number', String(i)], ['x-huge', 'y'.repeat(METADATA)]);
    void attacker.request(fields, EMPTY_MESSAGE).then((outcome) => refused.push(outcome));
    if (i % 20 === 0) await attacker.taken();
  }
  // 16 MiB wait, and what the connection and the kernel hold is under way.
  await expect.poll(() => refused.length).toBeGreaterThan(CALLS / 3);
  expect(new Set(refused.map(({ fields }) => fields.get('hauberk-error')))).toEqual(new Set(['queue-full']));
  const grown = async (): Promise<number> => ((await heap(pair.web)) - before) / MIB;
  await expect.poll(grown, { message: 'MiB' }).toBeLessThan((CALLS * METADATA) / MIB / 2);
  pair.greeter.signal('SIGCONT');
  await expectService();
});
