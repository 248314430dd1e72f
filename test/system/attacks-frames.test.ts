/**
 * Floods and breaches of HTTP/2, from an app at egress and from a peer inside a session: what the limits table of the
 * design says, against live sidecars with their defaults. docs/limits.md has the same table in words.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { Attacker, type PeerOptions } from '../harness/attacker.ts';
import {
  ACK,
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  goaway,
  headers,
  ping,
  rst,
  settings,
  settingsAck,
  T,
  u32,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { type Pair, SERVICE, type SidecarProcess, startPair } from '../harness/sidecars.ts';
import { COLLECTS, inUse, Steady } from '../harness/steady.ts';

const MIB = 1024 * 1024;

let pair: Pair;
let steady: Steady;
let self: PeerOptions;
const before = new Map<string, number>();

beforeAll(async () => {
  pair = await startPair({ start: { nodeArgs: COLLECTS } });
  const files = await pair.world.identityFiles('web');
  const { identity, bundle } = await loadIdentity({ ...files, trustDomain: 'shop.example' }, systemClock);
  self = { identity, bundle, expectedPeer: pair.world.spiffeId('greeter') };
  steady = await Steady.start(pair.client);
  await steady.more(300);
  for (const sidecar of [pair.web, pair.greeter]) before.set(sidecar.name, await inUse(sidecar));
});

const measured: string[] = [];
afterAll(() => console.info(measured.join('\n')));

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
const HANG = block(request('/hauberk.test.v1.Hooks/Hang'));
const open = (id: number): Buffer => headers(id, HANG);
const nth = (i: number): number => 2 * i + 1;

interface Flood {
  readonly kind: string;
  readonly what: string;
  readonly first?: Buffer;
  readonly each: (i: number) => Buffer;
  /** The connection lives until so many are sent. */
  readonly least: number;
  readonly most: number;
}

/** A session bears 500 resets a second for ever: a slow machine makes not many more. */
const MOST_RESETS = 20_000;

const FLOODS: Flood[] = [
  {
    kind: 'rapid-reset',
    what: 'rapid reset (CVE-2023-44487)',
    each: (i) => Buffer.concat([open(nth(i)), rst(nth(i), E.CANCEL)]),
    least: 1_000,
    most: MOST_RESETS,
  },
  {
    kind: 'provoked-reset',
    what: 'provoked resets (CVE-2025-8671) by WINDOW_UPDATE of 0',
    each: (i) => Buffer.concat([open(nth(i)), windowUpdate(nth(i), 0)]),
    least: 1_000,
    most: MOST_RESETS,
  },
  {
    kind: 'continuation',
    what: 'CONTINUATION (CVE-2024-27316)',
    first: headers(1, HANG, 0),
    each: () => frame(T.CONTINUATION, 0, 1, ''),
    least: 7,
    most: 30,
  },
  {
    kind: 'header-list',
    what: 'header block of 80 KiB',
    first: headers(1, Buffer.alloc(16_384), 0),
    each: () => frame(T.CONTINUATION, 0, 1, Buffer.alloc(16_384)),
    least: 3,
    most: 4,
  },
  { kind: 'ping', what: 'PING', each: () => ping(), least: 200, most: 400 },
  { kind: 'ping', what: 'PING ACK', each: () => ping('whatever', ACK), least: 200, most: 400 },
  { kind: 'settings', what: 'SETTINGS', each: () => settings(), least: 198, most: 400 },
  { kind: 'settings', what: 'SETTINGS ACK', each: () => settingsAck(), least: 198, most: 400 },
  {
    kind: 'settings',
    what: 'SETTINGS of 33 entries',
    each: () => settings(...Array.from({ length: 33 }, () => [0x99, 1] as [number, number])),
    least: 0,
    most: 1,
  },
  {
    kind: 'priority',
    what: 'PRIORITY',
    each: (i) => frame(T.PRIORITY, 0, nth(i), Buffer.concat([u32(0), Buffer.of(1)])),
    least: 200,
    most: 400,
  },
  { kind: 'goaway', what: 'GOAWAY', first: open(1), each: () => goaway(0, 0), least: 200, most: 400 },
  { kind: 'empty-frame', what: 'empty DATA', first: open(1), each: () => data(1, ''), least: 200, most: 400 },
  {
    kind: 'unknown-frame',
    what: 'unknown frames',
    each: () => frame(0xfe, 0, 0, 'what?'),
    least: 200,
    most: 400,
  },
  {
    kind: 'window-update',
    what: 'WINDOW_UPDATE',
    first: open(1),
    each: (i) => windowUpdate(i % 2, 1),
    least: 200,
    most: 600,
  },
  {
    kind: 'closed-stream',
    what: 'RST_STREAM on a stream that is over',
    first: Buffer.concat([open(1), rst(1, E.CANCEL)]),
    each: () => rst(1, E.CANCEL),
    least: 200,
    most: 400,
  },
  {
    kind: 'provoked-reset',
    what: 'empty requests',
    each: (i) => headers(nth(i), Buffer.alloc(0), END_HEADERS | END_STREAM),
    least: 1_000,
    most: MOST_RESETS,
  },
];

/** Breaches that end the connection at once. */
const BREACHES: Array<[what: string, code: number, octets: Buffer]> = [
  ['RST_STREAM on an idle stream', E.PROTOCOL_ERROR, rst(1, E.CANCEL)],
  ['WINDOW_UPDATE on an idle stream', E.PROTOCOL_ERROR, windowUpdate(1, 1)],
  ['DATA on an idle stream', E.PROTOCOL_ERROR, data(1, 'x')],
  ['a connection window above 2^31-1', E.FLOW_CONTROL_ERROR, windowUpdate(0, 2 ** 31 - 1)],
  ['a frame above 16 KiB', E.FRAME_SIZE_ERROR, frame(T.DATA, 0, 1, '', 16_385)],
  // RFC 7541 section 6.3: more table than is allowed.
  ['an HPACK table of 1 MiB', E.COMPRESSION_ERROR, headers(1, Buffer.of(0x3f, 0xe1, 0xff, 0x3f))],
  ['three HPACK table sizes', E.COMPRESSION_ERROR, headers(1, Buffer.of(0x20, 0x20, 0x20))],
  // Section 5.1: an integer without end.
  ['a huge HPACK integer', E.COMPRESSION_ERROR, headers(1, Buffer.from(`ff${'ff'.repeat(64)}00`, 'hex'))],
  ['an HPACK index beyond the table', E.COMPRESSION_ERROR, headers(1, Buffer.of(0xff, 0x80, 0x01))],
  // Section 5.2: EOS inside, and padding of 8 bits.
  ['Huffman code with EOS', E.COMPRESSION_ERROR, headers(1, Buffer.from('0084ffffffff0161', 'hex'))],
  ['Huffman padding of 8 bits', E.COMPRESSION_ERROR, headers(1, Buffer.from('00821fff0161', 'hex'))],
  ['a string longer than its block', E.COMPRESSION_ERROR, headers(1, Buffer.from('007fffffff07', 'hex'))],
];

const SMUGGLING: Array<[what: string, fields: Fields]> = [
  ['an upper-case name', request('/a/b', ['X-A', '1'])],
  ['a name with a control', request('/a/b', ['x\u0001', '1'])],
  ['a name with CR', request('/a/b', ['x\r', '1'])],
  ['a name with LF', request('/a/b', ['x\ny', '1'])],
  ['a name with NUL', request('/a/b', ['x\0', '1'])],
  ['a name with a space', request('/a/b', ['x y', '1'])],
  ['an empty name', request('/a/b', ['', '1'])],
  ['a value with CR LF', request('/a/b', ['x', '1\r\ny: 2'])],
  ['a value with NUL', request('/a/b', ['x', '1\0'])],
  ['a pseudo-header twice', request('/a/b', [':path', '/c/d'])],
  ['an unknown pseudo-header', [[':what', 'x'], ...request('/a/b')]],
  [':status in a request', [[':status', '200'], ...request('/a/b')]],
  ['a pseudo-header behind a field', [['x', '1'], ...request('/a/b')]],
  ['no :path', request('/a/b').filter(([name]) => name !== ':path')],
  ['no :method', request('/a/b').filter(([name]) => name !== ':method')],
  ['a :path with a space', request('/a/b c')],
  [':authority unlike host', request('/a/b', ['host', 'other.shop'])],
  ['te other than trailers', request('/a/b', ['te', 'gzip'])],
  ['connection', request('/a/b', ['connection', 'close'])],
  ['transfer-encoding', request('/a/b', ['transfer-encoding', 'chunked'])],
  ['upgrade', request('/a/b', ['upgrade', 'h2c'])],
  ['keep-alive', request('/a/b', ['keep-alive', '1'])],
  ['proxy-connection', request('/a/b', ['proxy-connection', '1'])],
  ['two lengths', request('/a/b', ['content-length', '1'], ['content-length', '2'])],
  ['a length that is no number', request('/a/b', ['content-length', '+1'])],
];

const SIDES = [
  {
    side: 'app' as const,
    attack: async () => (await Attacker.app(pair.web.egress)).ready(),
    at: () => pair.web,
  },
  {
    side: 'peer' as const,
    attack: async () => (await Attacker.peer(pair.greeter.ingress, self)).ready(),
    at: () => pair.greeter,
  },
];

/** The healthy client goes on, whatever `attack` does. */
async function unfelt(attack: () => Promise<void>): Promise<void> {
  const { ok } = steady;
  await attack();
  await steady.more(5);
  expect(steady.ok).toBeGreaterThan(ok);
}

const mib = async (sidecar: SidecarProcess): Promise<number> => Math.round((await sidecar.rss()) / MIB);

describe.each(SIDES)('from a sidecar’s $side', ({ side, attack, at }) => {
  it.each(FLOODS)(
    '$what: ends with ENHANCE_YOUR_CALM, $kind',
    async ({ kind, what, first, each, least, most }) => {
      const labels = { side, kind };
      const [mark, floods, rss] = await Promise.all([
        at().audit.mark(),
        at().metric('hauberk_floods_total', labels),
        mib(at()),
      ]);
      let sent = 0;
      await unfelt(async () => {
        const attacker = await attack();
        if (first !== undefined) attacker.write(first);
        // Up to the limit nothing happens, which an answer to a PING tells.
        const quiet = kind === 'continuation' || kind === 'header-list';
        sent = await attacker.flood(each, least, 25);
        if (!quiet) {
          const pings = attacker.count(T.PING);
          if (kind !== 'ping') {
            attacker.write(ping('are you?'));
            while (attacker.count(T.PING) === pings && !attacker.ended) await attacker.taken();
          }
        }
        expect(attacker.ended, `after ${sent}`).toBe(false);
        sent += await attacker.flood((i) => each(least + i), most - least);
        await attacker.end();
        expect(attacker.goaway).toBe(E.ENHANCE_YOUR_CALM);
      });
      const event = await at().audit.event('flood.detected', (e) => e.kind === kind && e.side === side, mark);
      expect(event.peer).toBe(side === 'peer' ? pair.world.spiffeId('web') : undefined);
      const closed = await at().audit.event('connection.closed', (e) => e.remote === event.remote, mark);
      expect(closed).toMatchObject({ side, reason: 'flood' });
      expect(await at().metric('hauberk_floods_total', labels)).toBe(floods + 1);
      measured.push(
        `${side} | ${what} | sent ${sent} | ${event.detail} | RSS ${rss} -> ${await mib(at())} MiB`,
      );
    },
  );

  it.each(BREACHES)('%s: ends at once', async (what, code, octets) => {
    const mark = await at().audit.mark();
    await unfelt(async () => {
      const attacker = await attack();
      attacker.write(octets);
      await attacker.end();
      expect(attacker.goaway).toBe(code);
    });
    const event = await at().audit.event('connection.closed', (e) => e.side === side, mark);
    expect(event.reason).toBe('protocol-error');
    measured.push(`${side} | ${what} | ${event.detail}`);
  });

  it('what smuggles requests: each is a stream error, and the connection lives', async () => {
    const labels = { side, kind: 'malformed' };
    const [mark, floods] = await Promise.all([
      at().audit.mark(),
      at().metric('hauberk_floods_total', labels),
    ]);
    await unfelt(async () => {
      const attacker = await attack();
      SMUGGLING.forEach(([, fields], i) => {
        attacker.write(headers(nth(i), block(fields), END_HEADERS | END_STREAM));
      });
      while (attacker.resets.size < SMUGGLING.length && !attacker.ended) await attacker.taken();
      const codes = SMUGGLING.map(([what], i) => [what, attacker.resets.get(nth(i))]);
      expect(codes).toEqual(SMUGGLING.map(([what]) => [what, E.PROTOCOL_ERROR]));
      expect(attacker.ended).toBe(false);
      attacker.close();
    });
    await at().audit.event('flood.detected', (e) => e.kind === 'malformed' && e.side === side, mark);
    expect(await at().metric('hauberk_floods_total', labels)).toBe(floods + SMUGGLING.length);
    measured.push(`${side} | ${SMUGGLING.length} kinds of smuggling | each RST_STREAM PROTOCOL_ERROR`);
  });

  it('HPACK bombs and lists of too many fields: each is answered headers-too-large, and nothing is kept', async () => {
    const labels = { code: 'headers-too-large' };
    const errors = await at().metric('hauberk_errors_total', labels);
    const BOMBS = 100;
    // A field of 4,000 octets goes into the table, then 12,000 references to it: 48 MB in a frame of 16 KiB.
    const bomb = Buffer.concat([
      HANG,
      Buffer.of(0x40, 1, 0x78, 0x7f, 0xa1, 0x1e),
      Buffer.alloc(4_000, 'y'),
      Buffer.alloc(12_000, 0xbe),
    ]);
    const fields = block([...request('/a/b'), ...Array.from({ length: 123 }, () => ['x', '1'] as const)]);
    let highest = 0;
    const used = await inUse(at());
    await unfelt(async () => {
      const attacker = await attack();
      await attacker.flood(
        (i) => headers(nth(i), i % 2 === 0 ? bomb : fields, END_HEADERS | END_STREAM),
        BOMBS,
        5,
      );
      while (attacker.count(T.HEADERS) < BOMBS && !attacker.ended) await attacker.taken();
      highest = await inUse(at());
      expect(attacker.ended).toBe(false);
      expect(attacker.resets.size).toBe(0);
      attacker.close();
    });
    expect(await at().metric('hauberk_errors_total', labels)).toBe(errors + BOMBS);
    expect((highest - used) / MIB).toBeLessThan(8);
    measured.push(`${side} | ${BOMBS} HPACK bombs | in use ${mib1(used)} -> ${mib1(highest)} MiB`);
  });
});

const mib1 = (octets: number): string => (octets / MIB).toFixed(1);

describe('after all attacks', () => {
  it.each(['web', 'greeter'] as const)('the memory of %s is what it was', async (name) => {
    await steady.more(100);
    const used = await inUse(pair[name]);
    const was = before.get(name) as number;
    measured.push(`${name} | in use ${mib1(was)} -> ${mib1(used)} MiB | RSS ${await mib(pair[name])} MiB`);
    expect((used - was) / MIB).toBeLessThan(6);
  });

  it('the session between the sidecars is the one of the beginning, and no call has failed', async () => {
    const sessions = (await pair.web.audit.of('session.created')).length;
    expect(sessions).toBe(1);
    expect(steady.failed).toEqual([]);
    measured.push(`healthy calls: ${steady.ok} ok, ${steady.failed.length} failed`);
  });
});
