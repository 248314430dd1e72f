/**
 * What apps and peers say reaches an operator's terminal, files and scrapers only escaped: names, values, reasons and
 * noise with escape sequences, line ends, quotes, octets that are no UTF-8 and marks that turn text around.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import {
  block,
  E,
  END_HEADERS,
  END_STREAM,
  type Fields,
  goaway,
  headers,
  RESPONSE,
} from '../harness/http2-peer.ts';
import { type Outcome, RawSession } from '../harness/rawsession.ts';
import { rawConnection } from '../harness/rawtcp.ts';
import { ScriptedServer } from '../harness/scripted-server.ts';
import { SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';
import { parseExposition } from '../telemetry/exposition.ts';

const END = END_HEADERS | END_STREAM;
const MARK = 'poison';

/** Texts as octets in latin1; each is marked, so that the tests know that it came through at all. */
const POISONS = [
  `${MARK}\x1b[31;1mred\x1b]0;title\x07\x08\x7f`,
  `${MARK}\n{"level":"error","message":"forged"}\r\n`,
  `${MARK}"quotes'\`\\back\\u001b\\x1b\${HOME}%s%n`,
  `${MARK}\x80\x9b31m\xff\xfe\xc3\x28`, // C1 controls, no UTF-8
  `${MARK}${Buffer.from('\u202eevil\u2066\u2028\ufeff\u0085').toString('latin1')}`,
  `${MARK}${'\x1b'.repeat(5000)}`,
];
/** Without what RFC 9113 section 8.2.1 forbids in values, so that they get further. */
const VALUES = POISONS.map((text) => text.replace(/[\0\r\n]/g, '').trim());
/** Without what `:path` may not have. */
const PATHS = POISONS.map((text) => `/${text.replace(/[\x00-\x20\x7f]/g, '')}/Method`);

let world: World;
let web: SidecarProcess;
let greeter: SidecarProcess;
let app: ScriptedServer;
let peer: ScriptedServer;
let asPeer: () => Promise<RawSession>;

beforeAll(async () => {
  world = await World.make();
  const files = await world.trust.issue('broken');
  const self = await loadIdentity({ ...files, trustDomain: world.trust.trustDomain }, systemClock);
  app = await ScriptedServer.app();
  peer = await ScriptedServer.peer(self.identity, self.bundle);
  const loud = { log: { level: 'debug' } };
  greeter = await world.sidecar('greeter', {
    ...loud,
    // Each text comes on a session of its own, and hundreds of handshakes a second are meant here.
    handshake: { burstPerAddress: 10_000, ratePerAddress: 10_000 },
    ingress: {
      apps: [{ service: SERVICE, address: app.address }],
      allow: [{ peer: world.spiffeId('*'), methods: ['/shop.Greeter/*', SayHello.path] }],
    },
  });
  web = await world.sidecar('web', {
    ...loud,
    egress: {
      routes: [
        { service: SERVICE, endpoints: [greeter.ingress], peer: world.spiffeId('greeter') },
        { service: 'broken-peer.shop', endpoints: [peer.address], peer: world.spiffeId('broken') },
      ],
    },
  });
  asPeer = () =>
    RawSession.asPeer(self.identity, greeter.ingress, {
      expectedPeer: world.spiffeId('greeter'),
      bundle: self.bundle,
    });
});

const CALL: Fields = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/shop.Greeter/SayHello'],
  [':authority', SERVICE],
  ['te', 'trailers'],
  ['content-type', 'application/grpc'],
];
const changed = (field: string, value: string): Fields =>
  CALL.map(([name, was]) => [name, name === field ? value : was]);

/** Every way in which a request can carry such a text. */
const REQUESTS: Fields[] = [
  ...POISONS.map((text): Fields => [...CALL, [text, 'value']]),
  ...POISONS.map((text): Fields => [...CALL, [`:${text}`, 'value']]),
  ...[':method', ':scheme', ':path', ':authority', 'te', 'content-type'].flatMap((field) =>
    [...POISONS, ...VALUES].map((text) => changed(field, text)),
  ),
  ...PATHS.map((path) => changed(':path', path)),
  ...['host', 'grpc-timeout', 'content-length', 'traceparent', 'user-agent', 'hauberk-peer', 'x-any'].flatMap(
    (field) => [...POISONS, ...VALUES].map((text): Fields => [...CALL, [field, text]]),
  ),
];

/** Answers that the sidecar made itself are text, too. */
function checkAnswer({ fields }: Outcome): void {
  if (!fields.has('hauberk-error')) return;
  for (const [name, value] of fields) expect(`${name}: ${value}`).toMatch(/^[\x20-\x7e]*$/);
}

describe('texts that an app or a peer sends', () => {
  it.each(['egress', 'ingress'])('to %s in requests do it no harm', async (side) => {
    for (const fields of REQUESTS) {
      const session = await (side === 'egress' ? RawSession.toEgress(web.egress) : asPeer());
      checkAnswer(await session.request(fields, ''));
      session.close();
    }
  });

  it.each(['egress', 'ingress'])('to %s as the reason of GOAWAY do it no harm', async (side) => {
    for (const text of POISONS) {
      const session = await (side === 'egress' ? RawSession.toEgress(web.egress) : asPeer());
      // A client may say so and stay; what follows no connection outlives.
      session.write(goaway(0, E.ENHANCE_YOUR_CALM, text), goaway(2, E.NO_ERROR, text));
      while (!session.ended) await session.taken();
    }
  });

  it.each(['app', 'peer'])('as answers of a called %s do no harm', async (side) => {
    const server = side === 'app' ? app : peer;
    const authority = side === 'app' ? SERVICE : 'broken-peer.shop';
    const answers: Buffer[][] = [
      ...POISONS.map((text) => [goaway(2 ** 31 - 1, E.NO_ERROR, text), Buffer.alloc(9, 0xff)]),
      ...POISONS.flatMap((text) => [
        [headers(1, block([...RESPONSE, [text, 'value']]), END)],
        [headers(1, block([[':status', text]]), END)],
        [headers(1, block([...RESPONSE, ['grpc-status', text]]), END)],
      ]),
      ...VALUES.flatMap((text) =>
        ['grpc-status', 'grpc-message', 'content-type', 'x-any'].map((field) => [
          headers(
            1,
            block([
              [':status', '200'],
              [field, text],
            ]),
            END,
          ),
        ]),
      ),
    ];
    for (const frames of answers) {
      server.onRequest = ({ id, connection }) => {
        connection.write(...frames.map((octets) => withId(octets, id)));
      };
      const session = await RawSession.toEgress(web.egress);
      checkAnswer(await session.request(changed(':authority', authority), ''));
      session.close();
    }
    server.onRequest = ({ id, connection }) => connection.succeed(id);
    expect((await world.client(web.egress, { authority }).unary(SayHello, { name: 'Ada' })).code).toBe(0);
  });

  it('as noise on every port do no harm', async () => {
    const ports = [web.egress, greeter.ingress, ...web.ready.probes.http, ...web.ready.probes.grpc];
    const openings = ['', 'CONNECT ', 'GET /', 'PRI * HTTP/2.0\r\n', 'HBK1'];
    for (const port of ports) {
      for (const text of POISONS.flatMap((poison) => openings.map((opening) => opening + poison))) {
        const socket = await rawConnection(port);
        const closed = new Promise((resolve) => socket.once('close', resolve));
        socket.resume();
        socket.end(Buffer.from(`${text} HTTP/1.1\r\nhost: ${POISONS[0]}\r\n\r\n`, 'latin1'));
        await Promise.race([closed, pause(50)]);
        socket.destroy();
      }
    }
  });
});

/** A frame of stream 1 as one of another stream. */
function withId(octets: Buffer, id: number): Buffer {
  if (octets.readUInt32BE(5) === 1) octets.writeUInt32BE(id, 5);
  return octets;
}

/** What may stand in a line: printable text, and none of it made to be acted upon. */
const LINE = /^[^\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffd]*$/;

describe('an operator', () => {
  it.each(['web', 'greeter'])('reads JSON lines of printable text in the log of %s', (name) => {
    const { log, stdout } = name === 'web' ? web : greeter;
    expect(stdout).toHaveLength(1);
    checkLines(log);
  });

  it.each(['web', 'greeter'])('reads JSON lines of printable text in the audit of %s', async (name) => {
    const { audit } = name === 'web' ? web : greeter;
    // Behind what came last in the tests before.
    const text = await readFile(audit.path);
    expect(Buffer.from(text.toString('utf8'))).toEqual(text);
    checkLines(text.toString('utf8'));
  });

  it.each(['web', 'greeter'])('scrapes metrics of %s that are well-formed', async (name) => {
    const { body } = await (name === 'web' ? web : greeter).probe('/metrics');
    expect(parseExposition(body).size).toBeGreaterThan(10);
    for (const line of body.split('\n')) expect(line).toMatch(LINE);
  });
});

function checkLines(text: string): void {
  // The last one may still be under way.
  const lines = text.split('\n').slice(0, -1);
  expect(lines.filter((line) => line.includes(MARK)).length).toBeGreaterThan(10);
  for (const line of lines) {
    expect(line).toMatch(LINE);
    expect(Object.keys(JSON.parse(line) as object)).toContain('time');
    expect(line.length).toBeLessThan(20_000);
  }
  expect(text).not.toContain('"message":"forged"');
}
