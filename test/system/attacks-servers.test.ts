/**
 * Attacks by those who are called: a malicious app behind ingress, and a malicious peer at the other end of a session
 * that egress has opened. The healthy calls go to other apps and peers of the same sidecars.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { Attacker, eventually } from '../harness/attacker.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import {
  ACK,
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  frame,
  goaway,
  headers,
  ping,
  RESPONSE,
  rst,
  settings,
  settingsAck,
  T,
  u32,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { type Pair, SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';
import { COLLECTS, inUse, Steady } from '../harness/steady.ts';

const MIB = 1024 * 1024;
const APP = 'evil-app.shop';
const PEER = 'evil-peer.shop';

let pair: Pair;
let steady: Steady;
/** Connections with the evil ones. */
const attackers: Attacker[] = [];
/** What becomes of a stream; also on a connection that was there before, for sidecars dial again by themselves. */
let serve: (attacker: Attacker, id: number) => void = () => {};
const before = new Map<string, number>();
const measured: string[] = [];
afterAll(() => console.info(measured.join('\n')));

beforeAll(async () => {
  const world = await World.make();
  const files = await world.trust.issue('evil');
  const evil = await loadIdentity({ ...files, trustDomain: 'shop.example' }, systemClock);
  const accept = (attacker: Attacker): void => {
    attackers.push(attacker);
    attacker.onRequest = (id) => serve(attacker, id);
  };
  const app = await Attacker.listen(accept);
  const peer = await Attacker.listenAsPeer(evil, accept);
  const good = await world.app();
  const start = { nodeArgs: COLLECTS };
  const greeter = await world.sidecar(
    'greeter',
    {
      // Else slow answers wear the connection out, which ends it in order, before they are too many.
      http2: { appCancelBurst: 100_000 },
      ingress: {
        apps: [
          { service: SERVICE, address: good.address },
          { service: APP, address: app },
        ],
        allow: [{ peer: world.spiffeId('*') }],
      },
    },
    start,
  );
  const route = (service: string, endpoint: string, identity: string) => ({
    service,
    endpoints: [endpoint],
    peer: world.spiffeId(identity),
  });
  const web = await world.sidecar(
    'web',
    {
      // Not as many as a slow machine provokes.
      http2: { sessionResetsPerSecond: 1 },
      egress: {
        routes: [
          route(SERVICE, greeter.ingress, 'greeter'),
          route(APP, greeter.ingress, 'greeter'),
          route(PEER, peer, 'evil'),
        ],
      },
    },
    start,
  );
  const newClient: Pair['newClient'] = (more = {}) =>
    world.client(web.egress, { authority: SERVICE, ...more });
  pair = { world, app: good, web, greeter, client: newClient(), newClient };
  steady = await Steady.start(pair.client);
  await steady.more(300);
  for (const sidecar of [web, greeter]) before.set(sidecar.name, await inUse(sidecar));
});

beforeEach(async () => {
  // The next call shall not be put on what is being closed.
  await eventually(async () => {
    for (const attacker of attackers.splice(0)) attacker.close();
    return (await openTo('greeter', 'local-app')) <= 1 && (await openTo('web', 'peer')) <= 2;
  });
});
const openTo = (name: 'web' | 'greeter', side: string): Promise<number> =>
  pair[name].metric('hauberk_connections_open', { side });

const SIDES = [
  { side: 'local-app' as const, service: APP, at: (): SidecarProcess => pair.greeter },
  { side: 'peer' as const, service: PEER, at: (): SidecarProcess => pair.web },
];

interface Flood {
  readonly kind: string;
  readonly what: string;
  /** Sent on the stream of the one call, before the flood. */
  readonly first?: (id: number) => Buffer;
  readonly each: (id: number, i: number) => Buffer;
  readonly least: number;
}

const FLOODS: Flood[] = [
  { kind: 'ping', what: 'PING', each: () => ping(), least: 200 },
  { kind: 'ping', what: 'PING ACK', each: () => ping('whatever', ACK), least: 200 },
  { kind: 'settings', what: 'SETTINGS', each: () => settings(), least: 198 },
  { kind: 'settings', what: 'SETTINGS ACK', each: () => settingsAck(), least: 198 },
  {
    kind: 'priority',
    what: 'PRIORITY',
    each: (id) => frame(T.PRIORITY, 0, id + 2, Buffer.concat([u32(0), Buffer.of(1)])),
    least: 200,
  },
  { kind: 'goaway', what: 'GOAWAY', each: (id) => goaway(id, 0), least: 200 },
  {
    kind: 'empty-frame',
    what: 'empty DATA',
    first: (id) => headers(id, block(RESPONSE)),
    each: (id) => data(id, ''),
    least: 200,
  },
  { kind: 'unknown-frame', what: 'unknown frames', each: () => frame(0xfe, 0, 0, 'what?'), least: 200 },
  { kind: 'window-update', what: 'WINDOW_UPDATE', each: () => windowUpdate(0, 1), least: 200 },
  {
    kind: 'continuation',
    what: 'CONTINUATION',
    first: (id) => headers(id, block(RESPONSE), 0),
    each: (id) => frame(T.CONTINUATION, 0, id, ''),
    least: 7,
  },
  {
    kind: 'header-list',
    what: 'header block of 80 KiB',
    first: (id) => headers(id, Buffer.alloc(16_384), 0),
    each: (id) => frame(T.CONTINUATION, 0, id, Buffer.alloc(16_384)),
    least: 3,
  },
];

async function unfelt(attack: () => Promise<void>): Promise<void> {
  await attack();
  await steady.more(5);
}

/** Calls the evil one until it has a stream on a connection. */
function called(): Promise<{ attacker: Attacker; id: number }> {
  return new Promise((resolve) => {
    serve = (attacker, id) => resolve({ attacker, id });
  });
}

describe.each(SIDES)('from a called $side', ({ side, service, at }) => {
  it.each(FLOODS)('$what: ends with ENHANCE_YOUR_CALM, $kind', async ({ kind, what, first, each, least }) => {
    const labels = { side, kind };
    const [mark, floods] = await Promise.all([
      at().audit.mark(),
      at().metric('hauberk_floods_total', labels),
    ]);
    const client = pair.newClient({ authority: service });
    let sent = 0;
    await unfelt(async () => {
      const coming = called();
      const answer = client.unary(SayHello, { name: 'victim' });
      const { attacker, id } = await coming;
      await attacker.ready();
      if (first !== undefined) attacker.write(first(id));
      sent = await attacker.flood((i) => each(id, i), least);
      expect(attacker.ended, `after ${sent}`).toBe(false);
      sent += await attacker.flood((i) => each(id, i), 400);
      await attacker.end();
      expect(attacker.goaway).toBe(E.ENHANCE_YOUR_CALM);
      // Who called the evil one is told, and can call again.
      const { code, hauberkError } = await answer;
      expect({ code, hauberkError }).toEqual({
        code: 14,
        hauberkError: side === 'peer' ? 'session-lost' : 'app-lost',
      });
    });
    const event = await at().audit.event('flood.detected', (e) => e.kind === kind && e.side === side, mark);
    expect(event.peer).toBe(side === 'peer' ? pair.world.spiffeId('evil') : undefined);
    await at().audit.event('connection.closed', (e) => e.side === side && e.reason === 'flood', mark);
    expect(await at().metric('hauberk_floods_total', labels)).toBe(floods + 1);
    measured.push(`${side} (called) | ${what} | sent ${sent} | ${event.detail}`);
  });

  it('1xx: after 16 the call ends, and nothing else', async () => {
    const labels = { side, kind: 'interim' };
    const [mark, floods] = await Promise.all([
      at().audit.mark(),
      at().metric('hauberk_floods_total', labels),
    ]);
    const client = pair.newClient({ authority: service });
    await unfelt(async () => {
      serve = (attacker, id) => {
        attacker.write(...Array.from({ length: 1_000 }, () => headers(id, block([[':status', '103']]))));
      };
      for (let i = 0; i < 5; i++) {
        const { code, hauberkError } = await client.unary(SayHello, { name: 'victim' });
        expect({ code, hauberkError }).toEqual({ code: 13, hauberkError: 'app-protocol-error' });
      }
      const resets = (): number[] => attackers.flatMap((attacker) => [...attacker.resets.values()]);
      await eventually(() => resets().length >= 5);
      expect(resets()).toEqual(Array.from({ length: 5 }, () => E.PROTOCOL_ERROR));
    });
    await at().audit.event('flood.detected', (e) => e.kind === 'interim' && e.side === side, mark);
    expect(await at().metric('hauberk_floods_total', labels)).toBe(floods + 5);
  });

  it('answers that provoke resets (CVE-2025-8671): the connection ends after 1,000', async () => {
    const labels = { side, kind: 'provoked-reset' };
    const [mark, floods] = await Promise.all([
      at().audit.mark(),
      at().metric('hauberk_floods_total', labels),
    ]);
    const caller = await Attacker.app(pair.web.egress);
    let provoked = 0;
    await unfelt(async () => {
      serve = (attacker, id) => {
        provoked++;
        attacker.write(headers(id, block([['x', 'no status']]), END_HEADERS | END_STREAM));
      };
      const call = block([
        [':method', 'POST'],
        [':scheme', 'http'],
        [':path', '/a/b'],
        [':authority', service],
        ['te', 'trailers'],
        ['content-type', 'application/grpc'],
      ]);
      const over = (): boolean => attackers.some(({ goaway }) => goaway === E.ENHANCE_YOUR_CALM);
      for (let i = 0; !over() && i < 4_000; i++) {
        caller.write(headers(2 * i + 1, call, END_HEADERS | END_STREAM));
        // Answered before the next ones: not more at once than there may be.
        if (i % 50 === 49) while (caller.count(T.HEADERS) <= i && !over()) await caller.taken();
      }
      expect(over()).toBe(true);
      expect(provoked).toBeGreaterThan(1_000);
      expect(caller.ended).toBe(false);
      caller.close();
    });
    await at().audit.event('flood.detected', (e) => e.kind === 'provoked-reset' && e.side === side, mark);
    expect(await at().metric('hauberk_floods_total', labels)).toBe(floods + 1);
    measured.push(`${side} (called) | provoked resets | ${provoked} answers`);
  });

  it('header lists that unpack to megabytes: the call ends, nothing is kept, nothing else ends', async () => {
    const client = pair.newClient({ authority: service });
    const bomb = Buffer.concat([
      Buffer.of(0x88, 0x40, 1, 0x78, 0x7f, 0xa1, 0x1e),
      Buffer.alloc(4_000, 'y'),
      Buffer.alloc(12_000, 0xbe),
    ]);
    const used = await inUse(at());
    let highest = 0;
    await unfelt(async () => {
      serve = (attacker, id) => attacker.write(headers(id, bomb));
      const answers = Array.from({ length: 50 }, () => client.unary(SayHello, { name: 'victim' }));
      for (const { code, hauberkError } of await Promise.all(answers)) {
        expect({ code, hauberkError }).toEqual({ code: 8, hauberkError: 'headers-too-large' });
      }
      highest = await inUse(at());
      expect(attackers.map((attacker) => attacker.goaway)).toEqual(attackers.map(() => undefined));
    });
    expect((highest - used) / MIB).toBeLessThan(8);
  });

  it('one that resets every call hurts nobody else', async () => {
    const client = pair.newClient({ authority: service });
    await unfelt(async () => {
      serve = (attacker, id) => attacker.write(rst(id, E.INTERNAL_ERROR));
      for (let i = 0; i < 30; i++) {
        const answers = Array.from({ length: 50 }, () => client.unary(SayHello, { name: 'victim' }));
        for (const { code } of await Promise.all(answers)) expect(code).toBe(13);
      }
    });
  });
});

describe('after all attacks', () => {
  it.each(['web', 'greeter'] as const)('the memory of %s is what it was', async (name) => {
    await steady.more(100);
    const used = await inUse(pair[name]);
    const was = before.get(name) as number;
    measured.push(`${name} | in use ${(was / MIB).toFixed(1)} -> ${(used / MIB).toFixed(1)} MiB`);
    expect((used - was) / MIB).toBeLessThan(6);
  });

  it('no healthy call has failed, and the sessions with the good peer are those of the beginning', async () => {
    expect(steady.failed).toEqual([]);
    const events = await pair.web.audit.of('session.created');
    // One for the good app, one for the evil one behind the same sidecar.
    expect(events.filter(({ peer }) => peer === pair.world.spiffeId('greeter'))).toHaveLength(2);
    measured.push(`healthy calls: ${steady.ok} ok, ${steady.failed.length} failed`);
  });
});
