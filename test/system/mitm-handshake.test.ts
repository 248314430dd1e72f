import { beforeAll, describe, expect, it } from 'vitest';
import { SayHello } from '../harness/greeter-methods.ts';
import { flipped, type Link, type Meddler, Mitm, type Unit } from '../harness/mitm.ts';
import { talk } from '../harness/rawtcp.ts';
import { type Pair, startPair } from '../harness/sidecars.ts';

/*
 * Every address of 127.0.0.0/8 is this machine: an endpoint 127.77.x.y leads to the man in the middle, who knows by
 * the address which attack is due. A call that fails at one endpoint goes to the next, so that one call suffers all
 * attacks of its route in turn.
 */
const ATTACKS_PER_ROUTE = 100;

interface Attack {
  readonly name: string;
  /** Reason in the audit of the initiator's or the responder's sidecar, where it is always the same. */
  readonly reason?: RegExp;
  readonly meddler: Meddler;
}

const concat = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts);

/** Of long units every byte at the start is changed, then one in so many; test/transport/ changes them all. */
const DENSE = 64;
const STRIDE = 7;

/** The units of a handshake. */
const UNITS = [
  { name: 'CLIENT_HELLO', is: (u: Unit) => u.kind === 'hello' },
  { name: 'message 1', is: (u: Unit) => u.direction === 'up' && u.kind === 'frame' && u.index === 0 },
  { name: 'message 2', is: (u: Unit) => u.direction === 'down' && u.kind === 'frame' },
  { name: 'message 3', is: (u: Unit) => u.direction === 'up' && u.kind === 'frame' && u.index === 1 },
];

const change =
  (is: (unit: Unit) => boolean, how: (bytes: Buffer, link: Link) => Buffer | undefined): Meddler =>
  (unit, link) =>
    is(unit) ? how(unit.bytes, link) : unit.bytes;

function flips(lengths: readonly number[]): Attack[] {
  return UNITS.flatMap(({ name, is }, n) =>
    Array.from({ length: lengths[n] as number }, (_, at) => ({
      name: `byte ${at} of ${name}`,
      at,
      meddler: change(is, (bytes) => flipped(bytes, Math.min(at, bytes.length - 1), at % 8)),
    })).filter(({ at }) => at < DENSE || at % STRIDE === 0),
  );
}

const CUTS: Attack[] = UNITS.flatMap(({ name, is }) => [
  { name: `drops ${name}`, meddler: change(is, () => undefined) },
  { name: `repeats ${name}`, meddler: change(is, (bytes) => concat(bytes, bytes)) },
  { name: `drops a byte of ${name}`, meddler: change(is, (b) => concat(b.subarray(0, 6), b.subarray(7))) },
  { name: `repeats a byte of ${name}`, meddler: change(is, (b) => concat(b.subarray(0, 7), b.subarray(6))) },
  { name: `cuts the last byte of ${name} off`, meddler: change(is, (b) => b.subarray(0, -1)) },
  { name: `adds a byte to ${name}`, meddler: change(is, (b) => concat(b, Buffer.of(0))) },
  {
    name: `swaps two bytes of ${name}`,
    meddler: change(is, (b) => {
      let at = 4;
      while (b[at] === b[at + 1]) at++;
      return concat(
        b.subarray(0, at),
        b.subarray(at + 1, at + 2),
        b.subarray(at, at + 1),
        b.subarray(at + 2),
      );
    }),
  },
  {
    name: `ends the connection at ${name}`,
    meddler: change(is, (bytes, link) => {
      link.client.destroy();
      link.server.destroy();
      return bytes;
    }),
  },
]);

const down = (unit: Unit): boolean => unit.direction === 'down' && unit.kind === 'frame';
const RETRY = (mode: number): Buffer => Buffer.of(2, 0, 1, mode);
const TRICKS: Attack[] = [
  {
    name: 'answers with RETRY to the same mode',
    reason: /^bad-retry$/,
    meddler: change(down, () => RETRY(1)),
  },
  {
    name: 'answers with RETRY to a mode not offered',
    reason: /^bad-retry$/,
    meddler: change(down, () => RETRY(3)),
  },
  {
    name: 'answers in the responder’s place with RETRY to mode 0, and lets all that follows pass',
    reason: /^decrypt-failed$/,
    meddler: (unit, link) => {
      if (!(unit.direction === 'up' && unit.kind !== 'record') || link.sent.up.length > 2) return unit.bytes;
      if (unit.kind === 'frame') link.inject('down', RETRY(0));
      return undefined;
    },
  },
  {
    name: 'makes the responder say RETRY to mode 0',
    reason: /^(connection-lost|decrypt-failed)$/,
    meddler: change(UNITS[0]?.is as (u: Unit) => boolean, (hello) =>
      concat(hello.subarray(0, 5), Buffer.of(5, 0, (1 << 5) | 1), hello.subarray(8)),
    ),
  },
  { name: 'answers with RETRY to resumption', reason: /^bad-retry$/, meddler: change(down, () => RETRY(2)) },
  { name: 'forges an alert', reason: /^peer-alert$/, meddler: change(down, () => Buffer.of(3, 0, 2, 1, 0)) },
  {
    name: 'offers less in the initiator’s name',
    reason: /^decrypt-failed$/,
    meddler: change(UNITS[0]?.is as (u: Unit) => boolean, (hello) => flipped(hello, 6, 3)),
  },
  {
    name: 'answers with the initiator’s own message 1',
    reason: /^reflected-key$/,
    meddler: (unit, link) => {
      if (unit.direction === 'up' && unit.kind === 'frame' && unit.index === 0)
        link.inject('down', unit.bytes);
      return undefined;
    },
  },
  {
    name: 'answers with the initiator’s own key in a message of the right size',
    reason: /^reflected-key$/,
    meddler: (unit, link) => {
      if (unit.direction === 'up' && unit.kind === 'frame' && unit.index === 0) {
        const forged = Buffer.alloc(3 + 900);
        forged.set([1, 900 >> 8, 900 & 255]);
        unit.bytes.copy(forged, 3, 3);
        link.inject('down', forged);
      }
      return undefined;
    },
  },
  {
    name: 'puts a key of low order into message 2',
    reason: /^weak-key$/,
    meddler: change(down, (bytes) => concat(bytes.subarray(0, 3), Buffer.alloc(32), bytes.subarray(35))),
  },
  {
    name: 'puts a key of low order into message 1',
    meddler: change(UNITS[1]?.is as (u: Unit) => boolean, (bytes) =>
      concat(bytes.subarray(0, 3), Buffer.alloc(32), bytes.subarray(35)),
    ),
  },
  {
    name: 'changes the first record of the initiator',
    reason: /^not-confirmed$/,
    meddler: change(
      (u) => u.direction === 'up' && u.kind === 'record',
      (bytes) => flipped(bytes, 5),
    ),
  },
  {
    name: 'changes the first record of the responder',
    reason: /^not-confirmed$/,
    meddler: change(
      (u) => u.direction === 'down' && u.kind === 'record',
      (bytes) => flipped(bytes, 5),
    ),
  },
  {
    name: 'withholds the first record of the responder',
    reason: /^handshake-timeout$/,
    meddler: change(
      (u) => u.direction === 'down' && u.kind === 'record',
      () => undefined,
    ),
  },
];

let pair: Pair;
let mitm: Mitm;
const attacks: Attack[] = [];
const addressOf = (n: number): string => `127.77.${n >> 8}.${n & 255}`;

beforeAll(async () => {
  mitm = await Mitm.start({ host: '0.0.0.0' });
  // The lengths of messages 2 and 3, from a handshake that nobody meddles with.
  const probe = await startPair({ route: { endpoints: [`127.0.0.1:${mitm.port}`] } });
  mitm.target = probe.greeter.ingress;
  expect((await probe.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  const lengthOf = (is: (unit: Unit) => boolean): number =>
    [...mitm.link.sent.up, ...mitm.link.sent.down].find(is)?.bytes.length as number;
  attacks.push(...flips(UNITS.map(({ is }) => lengthOf(is) + 2)), ...CUTS, ...TRICKS);
  await Promise.all([probe.web.stop(), probe.greeter.stop()]);

  const limits = {
    // What makes an end wait is waited for, but not as long as by default.
    handshake: {
      timeout: '1s',
      firstFrameTimeout: '1s',
      ratePerAddress: 1_000_000,
      burstPerAddress: 1_000_000,
      maxEventLoopLag: '10s',
    },
    log: { level: 'error' },
  };
  const routes = [];
  for (let first = 0; first < attacks.length; first += ATTACKS_PER_ROUTE) {
    const due = attacks.slice(first, first + ATTACKS_PER_ROUTE);
    routes.push({
      service: `attacked${first / ATTACKS_PER_ROUTE}.shop`,
      endpoints: due.map((_, n) => `${addressOf(first + n)}:${mitm.port}`),
      peer: probe.world.spiffeId('greeter'),
    });
  }
  const untouched = {
    service: 'greeter.shop',
    endpoints: [`127.0.0.1:${mitm.port}`],
    peer: probe.world.spiffeId('greeter'),
  };
  pair = await startPair({
    world: probe.world,
    greeter: limits,
    // A call waits until it has been to all endpoints of its route.
    web: { ...limits, egress: { routes: [untouched, ...routes] }, pool: { waitTimeout: '10m' } },
  });
  mitm.target = pair.greeter.ingress;
  mitm.meddler = (unit, link) => {
    const [, net, high, low] = link.dialled.split('.').map(Number);
    if (net !== 77) return unit.bytes;
    return (attacks[((high as number) << 8) | (low as number)] as Attack).meddler(unit, link);
  };
});

describe('a man in the middle of a handshake', () => {
  it('who changes any byte of it, or cuts, repeats, swaps, forges, ends it at both sides', async () => {
    const calls = Array.from({ length: Math.ceil(attacks.length / ATTACKS_PER_ROUTE) }, (_, route) =>
      pair.newClient({ authority: `attacked${route}.shop` }).unary(SayHello, { name: 'Mallory' }),
    );
    for (const { code, hauberkError } of await Promise.all(calls)) {
      expect({ code, hauberkError }).toEqual({ code: 14, hauberkError: 'handshake-refused' });
    }
    expect(mitm.links.length).toBeGreaterThanOrEqual(attacks.length);
    expect(pair.app.calls()).toBe(0);
    expect(await pair.web.audit.of('session.created')).toEqual([]);

    const failed = await pair.web.audit.events('handshake.failed', attacks.length);
    const reasons = new Map(failed.map(({ remote, reason }) => [remote.split(':')[0], reason]));
    expect(reasons.size).toBe(attacks.length);
    for (const [n, { name, reason }] of attacks.entries()) {
      if (reason !== undefined) expect(reasons.get(addressOf(n)), name).toMatch(reason);
    }
    const web = new Set(reasons.values());
    const greeter = new Set((await pair.greeter.audit.of('handshake.failed')).map(({ reason }) => reason));
    for (const seen of [web, greeter]) {
      expect(seen).toContain('decrypt-failed');
      for (const wrong of ['internal-error', 'overloaded', 'rate-limited', 'half-open-evicted']) {
        expect(seen).not.toContain(wrong);
      }
    }
    expect(greeter).toContain('weak-key');
    expect(greeter).toContain('unexpected-bytes');
    expect(greeter).toContain('unknown-version');
  });

  it('who replays the first flight gets an answer that he cannot read, and no session', async () => {
    const { session } = (await pair.client.unary(SayHello, { name: 'Ada' })).message ?? {};
    expect(session).toMatch(/^[0-9a-f-]{36}$/);
    const before = await pair.greeter.audit.mark();
    const { link } = mitm;
    const up = link.sent.up.map(({ bytes }) => bytes);
    const first = concat(...up.slice(0, 2));
    const replay = await talk(pair.greeter.ingress, [first]);
    expect(replay.received.length).toBeGreaterThan(500);
    expect(replay.received.subarray(0, 100).equals(link.bytes('down').subarray(0, 100))).toBe(false);
    const timedOut = await pair.greeter.audit.event('handshake.failed', () => true, before);
    expect(timedOut.reason).toMatch(/handshake-timeout|connection-lost/);
  });

  it('who replays a whole connection is refused at message 3', async () => {
    const { link } = mitm;
    const before = await pair.greeter.audit.mark();
    const calls = pair.app.calls();
    const up = link.sent.up.map(({ bytes }) => bytes);
    await talk(pair.greeter.ingress, [concat(...up.slice(0, 2)), concat(...up.slice(2))]);
    const refusal = await pair.greeter.audit.event('handshake.failed', () => true, before);
    expect(refusal.reason).toBe('decrypt-failed');
    expect(refusal.peer).toBeUndefined();
    await talk(pair.greeter.ingress, [concat(...up)]);
    await pair.greeter.audit.event('handshake.failed', ({ reason }) => reason === 'unexpected-bytes', before);
    expect(pair.app.calls()).toBe(calls);
    const sessions = await pair.greeter.audit.of('session.created');
    expect(sessions.filter(({ seq }) => seq > before)).toEqual([]);
  });

  it('none of this upset either sidecar: the session from before still works', async () => {
    expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    for (const sidecar of [pair.web, pair.greeter]) expect(sidecar.log).toBe('');
  });
});
