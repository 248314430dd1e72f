import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadIdentityDefinition } from '../../src/control/definition.ts';
import { ControlServer } from '../../src/kube/controlapi/controlserver.ts';
import { OpenRequests, type RequestStream } from '../../src/kube/controlapi/openrequests.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeServerCertificate } from '../harness/kubetls.ts';

let clock: FakeClock;
let metrics: Metrics;
let server: ControlServer;
let session: ClientHttp2Session;
let asked: string[];

beforeEach(async () => {
  clock = new FakeClock();
  metrics = new Metrics({ version: '0.0.0' });
  asked = [];
  server = await ControlServer.open(
    {
      listen: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }],
      maxConnections: 16,
      maxConnectionsPerAddress: 16,
      services: [
        {
          definition: (await loadIdentityDefinition()) as never,
          handlers: {
            Certify: (
              call: { request: { csr: Buffer } },
              answer: (error: null, response: object) => void,
            ) => {
              asked.push(call.request.csr.toString());
              answer(null, {});
            },
          } as never,
        },
      ],
      clock,
      log: silentLogger,
      metrics,
      onSkipped: () => {},
    },
    await makeServerCertificate(),
  );
  session = connect(`https://${server.bound[0]}`, { rejectUnauthorized: false });
});

afterEach(() => {
  session.destroy();
  server.close();
});

const HEADERS = {
  ':method': 'POST',
  ':path': '/hauberk.control.v1.Identity/Certify',
  'content-type': 'application/grpc',
  te: 'trailers',
};

/** A request with `csr`, as gRPC frames it. */
function framed(csr: string): Buffer {
  const message = Buffer.concat([Buffer.of(0x0a, csr.length), Buffer.from(csr)]);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** A request of which as much has been sent as is written. */
function begun(headers: object = {}): { stream: ClientHttp2Stream; closed: Promise<number | undefined> } {
  const stream = session.request({ ...HEADERS, ...headers });
  stream.on('error', () => undefined);
  stream.resume();
  const closed = new Promise<number | undefined>((resolve) =>
    stream.once('close', () => resolve(stream.rstCode)),
  );
  return { stream, closed };
}

it.each([
  ['withholds its last octet', {}],
  ['has been answered for its deadline meanwhile', { 'grpc-timeout': '1m' }],
])('a request that %s is ended after 5 s, and gives its place back', async (_what, headers) => {
  const { stream, closed } = begun(headers);
  const answered = new Promise((resolve) => stream.once('response', resolve));
  stream.write(framed('late').subarray(0, -1));
  if ('grpc-timeout' in headers) await answered;
  await expect.poll(() => clock.pending).toBe(1);
  clock.advance(4_999);
  const whole = begun();
  whole.stream.end(framed('whole'));
  expect(await whole.closed).toBe(constants.NGHTTP2_NO_ERROR);
  expect(asked).toEqual(['whole']);
  expect(stream.closed).toBe(false);
  clock.advance(1);
  expect(await closed).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  expect(clock.pending).toBe(0);
  expect((await metrics.render()).body).toContain(
    'hauberk_connections_refused_total{listener="control",reason="unfinished"} 1',
  );
});

it('a request that says to be larger than any is refused before it comes', async () => {
  const { stream } = begun();
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(24 * 1024 + 1, 1);
  const status = new Promise((resolve) =>
    stream.once('response', (headers) => resolve(headers['grpc-status'])),
  );
  stream.write(prefix);
  expect(await status).toBe('8');
});

it('a request in crumbs is ended', async () => {
  const { stream, closed } = begun();
  const octets = framed('a request that is sent octet by octet');
  for (let i = 0; i < 20 && !stream.closed; i++) {
    await new Promise<void>((resolve) => stream.write(octets.subarray(i, i + 1), () => resolve()));
    await new Promise((resolve) => session.ping(resolve));
  }
  expect(await closed).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  expect(clock.pending).toBe(0);
});

it('requests that are not whole are bounded for an address, and in all', () => {
  const refused: string[] = [];
  const closed: string[] = [];
  const requests = new OpenRequests({
    clock,
    max: 4,
    maxPerAddress: 3,
    onRefused: (reason) => refused.push(reason),
  });
  const add = (address: string, name: string): void => {
    const stream = { on: () => stream, once: () => stream, close: () => void closed.push(name) };
    requests.add(stream as unknown as RequestStream, address);
  };
  for (const name of ['a1', 'a2', 'a3', 'a4']) add('a', name);
  expect([closed, requests.open]).toEqual([['a4'], 3]);
  for (const name of ['b1', 'b2']) add('b', name);
  expect([closed, requests.open, clock.pending]).toEqual([['a4', 'a1'], 4, 4]);
  expect(refused).toEqual(['too-many-unfinished', 'too-many-unfinished']);
  clock.advance(5_000);
  expect([requests.open, closed.sort()]).toEqual([0, ['a1', 'a2', 'a3', 'a4', 'b1', 'b2']]);
});
