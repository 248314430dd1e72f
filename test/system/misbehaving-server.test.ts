/**
 * A called app, and a called peer, that break RFC 9113 in the midst of calls. The rules themselves are in
 * test/http2/client-breaches.test.ts; here is what becomes of the calls.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { errorName } from '../../src/http2/errors.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { Echo, SayHello } from '../harness/greeter-methods.ts';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  goaway,
  headers,
  PADDED,
  ping,
  REQUEST,
  RESPONSE,
  settings,
  T,
  TRAILERS,
  u32,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { type ScriptedConnection, type ScriptedRequest, ScriptedServer } from '../harness/scripted-server.ts';
import { SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';

const END = END_HEADERS | END_STREAM;
const response = block(RESPONSE);
const status = (...fields: Fields): Buffer => block([...RESPONSE, ...fields]);

/** Frames with which a call on this stream is answered. */
type Breach = readonly [section: string, what: string, frames: (id: number) => Buffer[], code: number];

const OF_CONNECTION: Breach[] = [
  [
    '4.2',
    'a frame that is too large',
    (id) => [headers(id, response), data(id, Buffer.alloc(16_385))],
    E.FRAME_SIZE_ERROR,
  ],
  ['4.3', 'a block that is not HPACK', (id) => [headers(id, Buffer.from([0x80]))], E.COMPRESSION_ERROR],
  ['5.1', 'DATA on an idle stream', () => [data(2_000_001, 'x')], E.PROTOCOL_ERROR],
  ['5.1', 'DATA on a stream that was over long ago', (id) => [data(id - 2, 'x')], E.STREAM_CLOSED],
  ['5.1.1', 'a request', () => [headers(2, block(REQUEST), END)], E.PROTOCOL_ERROR],
  [
    '6.1',
    'too much padding',
    (id) => [headers(id, response), data(id, Buffer.from([9, 0]), PADDED)],
    E.PROTOCOL_ERROR,
  ],
  ['6.5', 'SETTINGS of 5 octets', () => [frame(T.SETTINGS, 0, 0, 'abcde')], E.FRAME_SIZE_ERROR],
  ['6.5.2', 'SETTINGS_INITIAL_WINDOW_SIZE of 2^31', () => [settings([4, 2 ** 31])], E.FLOW_CONTROL_ERROR],
  [
    '6.6',
    'PUSH_PROMISE',
    (id) => [frame(T.PUSH_PROMISE, END_HEADERS, id, Buffer.concat([u32(2), block(REQUEST)]))],
    E.PROTOCOL_ERROR,
  ],
  ['6.7', 'PING of 7 octets', () => [frame(T.PING, 0, 0, 'opaque!')], E.FRAME_SIZE_ERROR],
  [
    '6.8',
    'GOAWAY that raises its last stream',
    () => [goaway(2_000_001, 0), goaway(2_000_003, 0)],
    E.PROTOCOL_ERROR,
  ],
  ['6.9.1', 'a connection window above 2^31-1', () => [windowUpdate(0, 2 ** 31 - 1)], E.FLOW_CONTROL_ERROR],
  ['6.10', 'a header block interrupted', (id) => [headers(id, response, 0), ping()], E.PROTOCOL_ERROR],
];

const OF_STREAM: Breach[] = [
  ['6.9', 'WINDOW_UPDATE of 0', (id) => [windowUpdate(id, 0)], E.PROTOCOL_ERROR],
  ['6.9.1', 'a stream window above 2^31-1', (id) => [windowUpdate(id, 2 ** 31 - 1)], E.FLOW_CONTROL_ERROR],
  ['8.1', 'DATA before HEADERS', (id) => [data(id, 'x')], E.PROTOCOL_ERROR],
  [
    '8.1',
    'an interim response that ends the stream',
    (id) => [headers(id, block([[':status', '103']]), END)],
    E.PROTOCOL_ERROR,
  ],
  [
    '8.1',
    'trailers that do not end the stream',
    (id) => [headers(id, response), headers(id, block(TRAILERS))],
    E.PROTOCOL_ERROR,
  ],
  [
    '8.1.1',
    'less than content-length',
    (id) => [headers(id, status(['content-length', '9']), END)],
    E.PROTOCOL_ERROR,
  ],
  ['8.2.1', 'an upper-case name', (id) => [headers(id, status(['X-A', 'b']))], E.PROTOCOL_ERROR],
  ['8.2.1', 'a line feed in a value', (id) => [headers(id, status(['a', 'b\nc']))], E.PROTOCOL_ERROR],
  [
    '8.2.2',
    'a connection field',
    (id) => [headers(id, status(['transfer-encoding', 'chunked']))],
    E.PROTOCOL_ERROR,
  ],
  ['8.3.2', 'no :status', (id) => [headers(id, block(TRAILERS))], E.PROTOCOL_ERROR],
];

interface Side {
  readonly service: string;
  /** What calls are told that were on a connection that ended. */
  readonly lost: string;
  readonly server: ScriptedServer;
  /** The sidecar at the other end of the connection. */
  readonly sidecar: SidecarProcess;
  readonly client: TestClient;
}

type Name = 'app' | 'peer';

const sides = {} as Record<Name, Side>;
/** Calls another app, by the same sidecars. */
let good: TestClient;

beforeAll(async () => {
  const world = await World.make();
  const files = await world.trust.issue('broken');
  const self = await loadIdentity({ ...files, trustDomain: world.trust.trustDomain }, systemClock);
  const app = await ScriptedServer.app();
  const peer = await ScriptedServer.peer(self.identity, self.bundle);
  const greeter = await world.sidecar('greeter', {
    ingress: {
      apps: [
        { service: SERVICE, address: (await world.app()).address },
        { service: 'broken-app.shop', address: app.address },
      ],
      allow: [{ peer: world.spiffeId('*'), methods: ['/*', '/*/*'] }],
    },
  });
  const honest = { endpoints: [greeter.ingress], peer: world.spiffeId('greeter') };
  const web = await world.sidecar('web', {
    egress: {
      routes: [
        { service: SERVICE, ...honest },
        { service: 'broken-app.shop', ...honest },
        { service: 'broken-peer.shop', endpoints: [peer.address], peer: world.spiffeId('broken') },
      ],
    },
  });
  const client = (authority: string) => world.client(web.egress, { authority });
  good = client(SERVICE);
  const [ofApp, ofPeer] = ['broken-app.shop', 'broken-peer.shop'] as const;
  sides.app = { service: ofApp, lost: 'app-lost', server: app, sidecar: greeter, client: client(ofApp) };
  sides.peer = { service: ofPeer, lost: 'session-lost', server: peer, sidecar: web, client: client(ofPeer) };
});

/** Two calls on one connection: the first is answered with the breach once both are there. */
async function breach({ server, client }: Side, frames: Breach[2]) {
  const held: ScriptedRequest[] = [];
  const both = new Promise<void>((resolve) => {
    server.onRequest = (request) => {
      if (held.push(request) === 2) resolve();
    };
  });
  const first = client.unary(SayHello, { name: 'Ada' });
  const second = client.unary(Echo, { data: Buffer.alloc(10) });
  await both;
  const [a, b] = held.sort(
    (x, y) => Number(y.path.endsWith('SayHello')) - Number(x.path.endsWith('SayHello')),
  );
  const { id, connection } = a as ScriptedRequest;
  expect(b?.connection).toBe(connection);
  connection.told.resets.clear();
  const bystander = good.unary(SayHello, { name: 'Bob' });
  connection.write(...frames(id));
  return { id, connection, first, second, bystander, finish: () => connection.succeed(b?.id ?? 0) };
}

async function until(what: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 30_000; !what(); await pause(5)) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
  }
}

const connectionOf = async ({ server, client }: Side) => {
  let used: ScriptedConnection | undefined;
  server.onRequest = ({ id, connection }) => {
    used = connection;
    connection.succeed(id);
  };
  expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  return used;
};

describe.each<Name>(['app', 'peer'])('a called %s that breaks a rule of the connection', (name) => {
  it.each(OF_CONNECTION)('%s: %s', async (_section, _what, frames, code) => {
    const side = sides[name];
    await connectionOf(side);
    const seen = (await side.sidecar.audit.all()).length;
    const { connection, first, second, bystander } = await breach(side, frames);
    for (const { code: status, hauberkError, details } of await Promise.all([first, second])) {
      expect([status, hauberkError]).toEqual([14, side.lost]);
      expect(details).toContain(`${errorName(code)}: `);
    }
    expect((await bystander).code).toBe(0);
    await until(() => connection.told.closed);
    expect(connection.told).toEqual({ goaway: code, resets: new Map(), closed: true });
    const closed = await side.sidecar.audit.event('connection.closed', () => true, seen);
    expect(closed).toMatchObject({ reason: 'protocol-error' });
    expect(closed.detail).toContain(`${errorName(code)}: `);
    expect(await connectionOf(side)).not.toBe(connection);
  });
});

describe.each<Name>(['app', 'peer'])('a called %s that breaks a rule of a stream', (name) => {
  it.each(OF_STREAM)('%s: %s', async (_section, _what, frames, code) => {
    const side = sides[name];
    const { id, connection, first, second, bystander, finish } = await breach(side, frames);
    const { code: status, hauberkError, details } = await first;
    expect([status, hauberkError]).toEqual([13, 'app-protocol-error']);
    expect(details).toContain(side.service);
    finish();
    expect([(await second).code, (await bystander).code]).toEqual([0, 0]);
    await until(() => connection.told.resets.size > 0);
    expect(connection.told).toEqual({ goaway: undefined, resets: new Map([[id, code]]), closed: false });
    expect(await connectionOf(side)).toBe(connection);
  });
});
