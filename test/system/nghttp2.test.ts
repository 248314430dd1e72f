import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadReportIn, Nghttpd, responsesIn, runTool } from '../harness/nghttp2.ts';
import { framed } from '../harness/rawh2.ts';
import { type SidecarProcess, World } from '../harness/sidecars.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** One nghttpd each, behind one and the same pair of sidecars. */
const SERVERS: Readonly<Record<string, readonly string[]>> = {
  plain: ['--echo-upload'],
  trailers: ['--trailer=x-sum: 42', '--trailer=x-sum: 43', '--echo-upload', '--no-content-length'],
  padded: ['--padding=255', '--echo-upload', '--trailer=x-sum: 42'],
  'without tables': ['--header-table-size=0', '--encoder-header-table-size=0', '--echo-upload'],
  'large tables': ['--header-table-size=65536', '--encoder-header-table-size=65536', '--echo-upload'],
  'small windows': ['--window-bits=10', '--connection-window-bits=16', '--echo-upload'],
  'early response': ['--early-response'],
  'gzipped errors': ['--error-gzip', '--no-rfc7540-pri'],
};

interface Request {
  readonly args?: readonly string[];
  /** A file that is sent. */
  readonly upload?: string;
  readonly paths?: readonly string[];
  /** How many requests it makes; one for each path by default. */
  readonly count?: number;
}

/** What nghttp is asked to do; compared with the same without sidecars. */
const REQUESTS: Readonly<Record<string, Request>> = {
  'a small file': {},
  'an empty file': { paths: ['/empty'] },
  'a file of 3 MiB': { paths: ['/large.bin'] },
  'a query': { paths: ['/hello.txt?a=b&c=%20'] },
  'what is not there': { paths: ['/nothing/here'] },
  HEAD: { args: ['-H:method: HEAD'] },
  'several files at once': { paths: ['/hello.txt', '/large.bin', '/empty', '/nowhere'] },
  'one file 30 times': { args: ['-m', '30'], count: 30 },
  'an upload': { upload: 'hello.txt', paths: ['/up'] },
  'an upload of nothing': { upload: 'empty', paths: ['/up'] },
  'an upload of 3 MiB': { upload: 'large.bin', paths: ['/up'] },
  'an upload without a length': { args: ['--no-content-length'], upload: 'large.bin', paths: ['/up'] },
  'a PUT': { args: ['-H:method: PUT'], upload: 'hello.txt', paths: ['/up'] },
  'trailers of the request': {
    args: ['--trailer=x-check: 1', '--trailer=x-check: 2', '--trailer=x-bin-bin: AAEC'],
    upload: 'hello.txt',
    paths: ['/up'],
  },
  'Expect: 100-continue': { args: ['--expect-continue'], upload: 'large.bin', paths: ['/up'] },
  padding: { args: ['-b', '255', '-m', '3'], upload: 'mebibyte.bin', paths: ['/up'], count: 3 },
  'priorities of RFC 7540': { args: ['-p', '1', '-p', '256'], paths: ['/hello.txt', '/large.bin'] },
  'no priorities': { args: ['--no-dep', '--no-rfc7540-pri'] },
  'a header table of nothing': { args: ['-c', '0', '--encoder-header-table-size=0', '-m', '5'], count: 5 },
  'a header table that changes': { args: ['-c', '64', '-c', '32768', '-m', '5'], count: 5 },
  'a large encoder table': { args: ['--encoder-header-table-size=65536', '-m', '5'], count: 5 },
  'CONTINUATION frames': { args: ['--continuation'] },
  'fields twice and in their order': {
    args: ['-Hx-b: 2', '-Hx-a: 1', '-Hx-b: 1', '-Hcookie: a=1', '-Hcookie: b=2'],
  },
  'small windows': { args: ['-w', '14', '-W', '16'], paths: ['/large.bin'] },
};

let files: string;
/** An egress listener of the plain server's route alone. */
let socket: string;
let web: SidecarProcess;
let greeter: SidecarProcess;
const servers = new Map<string, Nghttpd>();
const serviceOf = (server: string): string => `${server.replaceAll(' ', '-')}.shop`;

beforeAll(async () => {
  const world = await World.make();
  files = join(world.dir, 'files');
  await mkdir(files);
  await writeFile(join(files, 'hello.txt'), 'Hello\n');
  await writeFile(join(files, 'empty'), '');
  await writeFile(join(files, 'large.bin'), randomBytes(3 * MIB));
  await writeFile(join(files, 'mebibyte.bin'), randomBytes(MIB));
  await writeFile(join(files, 'hundred.bin'), randomBytes(100));
  socket = `unix:${join(world.dir, 'plain.sock')}`;
  for (const [name, args] of Object.entries(SERVERS)) servers.set(name, await Nghttpd.start(files, args));
  const services = Object.keys(SERVERS).map(serviceOf);
  greeter = await world.sidecar('greeter', {
    // The machine may be busy: this is no test of overload.
    handshake: { maxEventLoopLag: '10s' },
    ingress: {
      apps: [...servers].map(([name, { address }]) => ({ service: serviceOf(name), address })),
      allow: [{ peer: world.spiffeId('*'), methods: ['/*', '/*/*'] }],
    },
  });
  web = await world.sidecar('web', {
    egress: {
      routes: services.map((service) => ({
        service,
        endpoints: [greeter.ingress],
        peer: world.spiffeId('greeter'),
        ...(service === 'plain.shop' ? { listen: socket } : {}),
      })),
    },
  });
});

const serverOf = (name: string): Nghttpd => servers.get(name) as Nghttpd;

/** Everything that a request brings, and everything that the app sees of it. */
async function observe(address: string, server: string, request: Request) {
  const { args = [], upload, paths = ['/hello.txt'], count = paths.length } = request;
  const all = [
    `-H:authority: ${serviceOf(server)}`,
    ...args,
    ...(upload === undefined ? [] : ['-d', join(files, upload)]),
  ];
  const uris = paths.map((path) => `http://${address}${path}`);
  const silent = await runTool('nghttp', [...all, ...uris]);
  expect([silent.code, silent.stderr]).toEqual([0, '']);
  await serverOf(server).next(count);
  const verbose = await runTool('nghttp', ['-v', '-n', ...all, ...uris]);
  const requests = await serverOf(server).next(count);
  const own = (line: string): boolean => line.startsWith('hauberk-');
  return {
    // Of several bodies at once, the order of the pieces is chance.
    body: count === 1 ? silent.stdout.toString('base64') : silent.stdout.length,
    responses: responsesIn(verbose.stdout.toString('latin1')).map((fields) =>
      fields.filter((line) => !line.startsWith('date: ')),
    ),
    requests: requests.map((fields) => fields.filter((line) => !own(line)).join('\n')).sort(),
    ownFields: requests.map((fields) => fields.filter(own)),
  };
}

const plain = (address: string, name = 'plain'): string[] => [
  `-H:authority: ${serviceOf(name)}`,
  `http://${address}`,
];

describe.each(Object.keys(SERVERS))('nghttp and an nghttpd: %s', (server) => {
  it.each(Object.keys(REQUESTS))('%s: the same with sidecars as without', async (name) => {
    const request = REQUESTS[name] as Request;
    const direct = await observe(serverOf(server).address, server, request);
    const relayed = await observe(web.egress, server, request);
    expect({ ...relayed, ownFields: [] }).toEqual({ ...direct, ownFields: [] });
    for (const [peer, session, ...more] of relayed.ownFields as string[][]) {
      expect([peer, more]).toEqual([`hauberk-peer: ${web.ready.spiffeId}`, []]);
      const isIts = ({ sessionId }: { sessionId: string }) => session === `hauberk-session: ${sessionId}`;
      await greeter.audit.event('session.created', isIts);
    }
  });
});

describe('nghttp', () => {
  it('shows the frames of egress, which is no less of an HTTP/2 server', async () => {
    const { stdout } = await runTool('nghttp', ['-v', '-n', ...plain(web.egress)]);
    const output = stdout.toString('latin1');
    expect(output).toMatch(/recv SETTINGS frame <length=[1-9]\d*, flags=0x00, stream_id=0>/);
    expect(output).toContain('recv SETTINGS frame <length=0, flags=0x01, stream_id=0>'); // our ACK
    expect(output).not.toMatch(/recv (GOAWAY|RST_STREAM)/);
  });

  it('is served by an app that takes one stream at a time: the calls wait for one another', async () => {
    const server = await Nghttpd.start(files, ['--max-concurrent-streams=1']);
    const world = await World.make();
    const app = { service: 'narrow.shop', address: server.address };
    const allow = [{ peer: world.spiffeId('*'), methods: ['/*', '/*/*'] }];
    const called = await world.sidecar('greeter', { ingress: { apps: [app], allow } });
    const route = {
      service: 'narrow.shop',
      endpoints: [called.ingress],
      peer: world.spiffeId('greeter'),
    };
    const caller = await world.sidecar('web', { egress: { routes: [route] } });
    const uri = `http://${caller.egress}/hello.txt`;
    const { code, stdout, stderr } = await runTool('nghttp', ['-m', '50', '-H:authority: narrow.shop', uri]);
    expect([code, stderr, stdout.toString()]).toEqual([0, '', 'Hello\n'.repeat(50)]);
  });

  it('gets an answer without a body to a route that there is not', async () => {
    const { stdout } = await runTool('nghttp', ['-v', ...plain(web.egress, 'nobody')]);
    expect(stdout.toString()).toMatch(/:status: 50\d/);
    expect(stdout.toString()).toContain('hauberk-error: no-route');
  });

  it('is told in a record of the audit why Upgrade does not work', async () => {
    await runTool('nghttp', ['-u', '-n', ...plain(web.egress)]);
    expect(await web.audit.event('connection.refused')).toMatchObject({ listener: web.egress });
  });
});

interface Load {
  readonly requests: number;
  readonly args: readonly string[];
  readonly path?: string;
  readonly upload?: string;
  /** Of a body, each way's are the same. */
  readonly size: number;
  readonly server?: string;
}

const LOADS: Readonly<Record<string, Load>> = {
  '4 connections, 32 at a time': {
    requests: 4_000,
    args: ['-c4', '-m32'],
    path: '/hundred.bin',
    size: 100,
  },
  'one at a time': { requests: 500, args: ['-c1', '-m1'], path: '/hundred.bin', size: 100 },
  '100 connections in 2 threads': {
    requests: 2_000,
    args: ['-c100', '-t2', '-m8'],
    path: '/hundred.bin',
    size: 100,
  },
  'as many at a time as a connection allows': {
    requests: 3_000,
    args: ['-c1', '-m1024'],
    path: '/hundred.bin',
    size: 100,
  },
  'POST of 100 octets, echoed': {
    requests: 2_000,
    args: ['-c4', '-m32'],
    upload: 'hundred.bin',
    size: 100,
  },
  'POST of 100 octets, echoed with trailers': {
    requests: 1_000,
    args: ['-c4', '-m32'],
    upload: 'hundred.bin',
    size: 100,
    server: 'trailers',
  },
  'answers of 1 MiB': { requests: 64, args: ['-c4', '-m4'], path: '/mebibyte.bin', size: MIB },
  '1 MiB both ways': { requests: 64, args: ['-c4', '-m4'], upload: 'mebibyte.bin', size: MIB },
  '1 MiB both ways through small windows': {
    requests: 16,
    args: ['-c2', '-m4', '-w14', '-W16'],
    upload: 'mebibyte.bin',
    size: MIB,
    server: 'small windows',
  },
  'frames of 1 MiB allowed': {
    requests: 32,
    args: ['-c2', '-m4', '-f1M'],
    upload: 'mebibyte.bin',
    size: MIB,
  },
  'no header tables': {
    requests: 1_000,
    args: ['-c4', '-m16', '--header-table-size=0', '--encoder-header-table-size=0'],
    path: '/hundred.bin',
    size: 100,
    server: 'without tables',
  },
};

/** Runs h2load; every request must succeed, with a whole body. */
async function load(
  { requests, args, path = '/up', upload, size, server = 'plain' }: Load,
  where: string[],
): Promise<void> {
  const all = [`-n${requests}`, ...args, `-H:authority: ${serviceOf(server)}`];
  if (upload !== undefined) all.push(`-d${join(files, upload)}`);
  const { code, stdout } = await runTool('h2load', [...all, ...where.map((uri) => uri + path)]);
  expect(code).toBe(0);
  expect(loadReportIn(stdout.toString())).toEqual({
    succeeded: requests,
    failed: 0,
    status2xx: requests,
    bodyBytes: requests * size,
  });
}

/** A figure of both sidecars. */
const both = async (read: (sidecar: SidecarProcess) => Promise<number>): Promise<number[]> =>
  Promise.all([read(web), read(greeter)]);

describe('h2load', () => {
  it.each(Object.entries(LOADS))('%s: every request succeeds, none is left over', async (_name, wanted) => {
    const service = { service: serviceOf(wanted.server ?? 'plain') };
    const ended = (sidecar: SidecarProcess) => sidecar.metric('hauberk_calls_total', service);
    const before = await both(ended);
    await load(wanted, [`http://${web.egress}`]);
    await expect.poll(() => both(ended)).toEqual(before.map((calls) => calls + wanted.requests));
    await expect.poll(() => both((sidecar) => sidecar.metric('hauberk_calls_open'))).toEqual([0, 0]);
  });

  it("works through a route's own Unix socket, whatever :authority says", async () => {
    const one = { requests: 200, args: ['-c2', '-m8', `-B${socket}`], path: '/hundred.bin', size: 100 };
    await load({ ...one, server: 'nobody' }, ['http://localhost']);
  });

  it('makes gRPC calls', async () => {
    const request = join(files, 'call');
    await writeFile(request, framed(Buffer.from('request')));
    const grpc = ['-Hcontent-type: application/grpc', '-Hte: trailers', '-c4', '-m32'];
    const headers = [...grpc, `-d${request}`, `-H:authority: ${serviceOf('trailers')}`];
    const uri = `http://${web.egress}/shop.Greeter/SayHello`;
    const { stdout } = await runTool('h2load', ['-n1000', ...headers, uri]);
    expect(loadReportIn(stdout.toString())).toMatchObject({ succeeded: 1_000, failed: 0, status2xx: 1_000 });
    const method = { method: '/shop.Greeter/SayHello' };
    const ended = (sidecar: SidecarProcess) => sidecar.metric('hauberk_calls_total', method);
    await expect.poll(() => both(ended)).toEqual([1_000, 1_000]);
  });

  it('needed no more than one session with the peer for each service', async () => {
    const [atWeb, atGreeter] = await both((sidecar) => sidecar.metric('hauberk_sessions_created_total'));
    expect(atWeb).toBeLessThanOrEqual(Object.keys(SERVERS).length);
    expect(atGreeter).toBe(atWeb);
    expect(await both((sidecar) => sidecar.metric('hauberk_floods_total'))).toEqual([0, 0]);
  });
});
