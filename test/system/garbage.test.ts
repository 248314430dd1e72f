import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { type LoadedIdentity, loadIdentity } from '../../src/identity/load.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { EMPTY_SETTINGS, frames, headerBlocksOf, mutated, noise, Random } from '../harness/fuzz-input.ts';
import { Chat, Echo, Fail, HealthCheck, SayHello, Upload } from '../harness/greeter-methods.ts';
import { Mitm } from '../harness/mitm.ts';
import { rawConnection } from '../harness/rawtcp.ts';
import { acceptorAs, dialAs, impostor } from '../harness/rogue.ts';
import { type Pair, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 20_260_101);
/** Inputs in a round; there are two rounds of the same mixture, and the second must cost no more memory. */
const ROUND = 4_700;
/** Inputs for the port of gRPC health. */
const HEALTH_INPUTS = 600;
/** Node's HTTP/2, which serves it, never closes a connection on which a frame was too large; a cap ends those. */
const HEALTH_CAP = 64;
const AT_ONCE = 32;
const PATIENCE_MS = 500;
const MIB = 1024 * 1024;

const limits = {
  handshake: { ratePerAddress: 1_000_000, burstPerAddress: 1_000_000, maxHalfOpenPerAddress: 256 },
  log: { level: 'error' },
  monitoring: { calls: 'none' },
};

/** Sidecars that collect their garbage when they are told to, so that what is left of their heap is in use. */
const COLLECTS = ['--expose-gc', '--import', 'data:text/javascript,process.on("SIGUSR2",()=>gc())'];

let pair: Pair;
let self: LoadedIdentity;
/** What honest clients and servers say, to be mutated. */
let samples: Record<'http2' | 'answers' | 'health' | 'mesh' | 'http1', Buffer[]>;
let unixPath: string;
/** Answers calls to garbage.shop: an app, and a peer. */
let answer: (random: Random) => Buffer;
const random = new Random(SEED);

beforeAll(async () => {
  setLogVerbosity(logVerbosity.NONE); // the app would complain about each odd name that reaches it
  const world = await World.make();
  const mesh = await Mitm.start();
  const appTap = await Mitm.start({ raw: true });
  unixPath = join(world.dir, 'route.sock');
  answer = (r) =>
    r.chance(2)
      ? Buffer.concat([EMPTY_SETTINGS, mutated(r, samples.answers)])
      : frames(r, samples.answers.flatMap(headerBlocksOf), 'server');
  const garbageApp = await impostor((socket) => {
    if (samples !== undefined) socket.end(answer(random));
  });
  self = await loadIdentity(
    { ...(await world.identityFiles('web')), trustDomain: 'shop.example' },
    systemClock,
  );
  const garbagePeer = acceptorAs(self.identity, self.bundle, (channel) => {
    channel.onData = () => {};
    send(channel, answer(random));
    channel.close();
  });
  const { address: peerAddress } = await impostor((socket) => garbagePeer.accept(socket));

  const app = await world.app();
  appTap.target = app.address;
  pair = await startPair({
    world,
    start: { nodeArgs: COLLECTS },
    greeter: {
      ...limits,
      ingress: {
        apps: [
          { service: 'greeter.shop', address: appTap.address },
          { service: 'garbage.shop', address: garbageApp.address },
        ],
      },
    },
    web: {
      ...limits,
      egress: {
        routes: [
          {
            service: 'greeter.shop',
            endpoints: [mesh.address],
            peer: world.spiffeId('greeter'),
            listen: '127.0.0.1:0',
          },
          {
            service: 'garbage.shop',
            endpoints: [mesh.address],
            peer: world.spiffeId('greeter'),
            listen: `unix:${unixPath}`,
          },
          { service: 'garbage-peer.shop', endpoints: [peerAddress], peer: world.spiffeId('web') },
        ],
      },
    },
  });
  mesh.target = pair.greeter.ingress;
  const egress = await Mitm.start({ raw: true, target: pair.web.egress });
  const health = await Mitm.start({ raw: true, target: pair.greeter.ready.probes.grpc[0] as string });
  const caller = world.client(egress.address, { authority: 'greeter.shop' });
  expect((await caller.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  expect(
    (
      await caller.unary(
        Echo,
        { data: Buffer.alloc(300, 7) },
        { metadata: { 'x-a': 'value', 'x-b-bin': Buffer.of(1) }, deadlineMs: 60_000 },
      )
    ).code,
  ).toBe(0);
  expect((await caller.unary(Fail, { code: 5, details: 'no' })).code).toBe(5);
  const upload = caller.clientStream(Upload);
  upload.call.write({ data: Buffer.alloc(1_000) });
  upload.call.end();
  expect((await upload.answer).code).toBe(0);
  const chat = caller.bidi(Chat);
  chat.call.write({ data: Buffer.alloc(10) });
  chat.call.end();
  expect((await chat.answer).code).toBe(0);
  const checker = world.client(health.address);
  expect((await checker.unary(HealthCheck, { service: '' })).code).toBe(0);
  caller.close();
  checker.close();
  samples = {
    http2: [
      egress.seen('up'),
      Buffer.concat([
        Buffer.from('CONNECT greeter.shop:50051 HTTP/1.1\r\nHost: greeter.shop:50051\r\n\r\n'),
        egress.seen('up'),
      ]),
      Buffer.from('1603010200010001fc0303', 'hex'),
    ],
    answers: [appTap.seen('down'), appTap.seen('down').subarray(0, 600)],
    health: [health.seen('up')],
    mesh: [mesh.seen('up'), mesh.seen('up').subarray(0, 47), mesh.seen('down'), egress.seen('up')],
    http1: [
      'GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n',
      'POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
      'GET /metrics?a=b HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello',
      'HEAD /startupz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n',
    ].map((text) => Buffer.from(text)),
  };
});

/** Writes to a channel what fits its records. */
function send(channel: SecureChannel, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; at += channel.capacity) {
    const buf = channel.acquire();
    const n = bytes.copy(buf, channel.headroom, at, at + channel.capacity);
    channel.write(buf, channel.headroom, channel.headroom + n);
  }
}

/** One connection with this input, in pieces, that ends in one of the ways in which connections end. */
async function throwAt(address: string, bytes: Buffer): Promise<void> {
  const cut = random.below(bytes.length + 1);
  const abrupt = random.chance(4);
  const socket = await rawConnection(address);
  const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
  socket.resume();
  socket.write(bytes.subarray(0, cut));
  if (random.chance(2)) await turn();
  socket.write(bytes.subarray(cut));
  if (abrupt) socket.destroy();
  else socket.end();
  await Promise.race([closed, pause(PATIENCE_MS, undefined, { ref: false })]);
  socket.destroy();
}

/** A peer with a good identity that has gone mad after its handshake. */
async function goMadInSession(bytes: Buffer): Promise<void> {
  const graceful = random.chance(2);
  const channel = await dialAs(self.identity, pair.greeter.ingress, {
    expectedPeer: pair.world.spiffeId('greeter'),
    bundle: self.bundle,
  });
  const closed = new Promise<void>((resolve) => {
    channel.onClose = () => resolve();
  });
  channel.onData = () => {};
  send(channel, bytes);
  await turn();
  if (graceful) channel.close();
  else channel.destroy('refused');
  await closed;
}

const http2 = (): Buffer => {
  if (random.chance(3)) return frames(random, samples.http2.slice(0, 1).flatMap(headerBlocksOf), 'client');
  return random.chance(8) ? noise(random) : mutated(random, samples.http2);
};
const of = (kind: 'health' | 'mesh' | 'http1'): Buffer =>
  random.chance(4) ? noise(random) : mutated(random, samples[kind]);

type Throw = () => Promise<void>;

/** How many of a hundred inputs go where. */
const TARGETS: ReadonlyArray<[share: number, run: Throw]> = [
  [30, () => throwAt(pair.web.egress, http2())],
  [11, () => throwAt(pair.web.ready.routes['greeter.shop'] as string, http2())],
  [11, () => throwAt(`unix:${unixPath}`, http2())],
  [22, () => throwAt(pair.greeter.ingress, of('mesh'))],
  [4, () => throwAt(pair.web.ingress, of('mesh'))],
  [7, () => throwAt(pair.web.ready.probes.http[0] as string, of('http1'))],
  [4, () => throwAt(pair.greeter.ready.probes.http[0] as string, of('http1'))],
  [11, () => goMadInSession(http2())],
];

/** Runs all of them, so many at once. */
async function run(due: Throw[]): Promise<void> {
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let next = due.pop(); next !== undefined; next = due.pop()) await next();
    }),
  );
}

/** A round of inputs, mixed, so that at any time something goes to every listener. */
function round(): Promise<void> {
  const due = TARGETS.flatMap(([share, input]) => Array<Throw>((share * ROUND) / 100).fill(input));
  for (let i = due.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [due[i], due[j]] = [due[j] as Throw, due[i] as Throw];
  }
  return run(due);
}

/** Sockets that a process has open. */
async function sockets({ pid }: SidecarProcess): Promise<number> {
  const folder = `/proc/${pid}/fd`;
  const links = await Promise.all(
    (await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => '')),
  );
  return links.filter((link) => link.startsWith('socket:')).length;
}

/** Memory that a sidecar has in use, heap and buffers, once its garbage is collected. */
async function inUse(sidecar: SidecarProcess): Promise<number> {
  sidecar.signal('SIGUSR2');
  // The signal is taken before a connection that comes later is.
  await sidecar.probe('/livez');
  const [heap, buffers] = await Promise.all([
    sidecar.metric('nodejs_heap_size_used_bytes'),
    sidecar.metric('nodejs_external_memory_bytes'),
  ]);
  return heap + buffers;
}

/** Waits until a process has no more sockets open than `level`; how many it has then. */
async function settled(sidecar: SidecarProcess, level: number): Promise<number> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const now = await sockets(sidecar);
    if (now <= level || performance.now() > deadline) return now;
    await pause(20);
  }
}

describe(`garbage on every listener (seed ${SEED})`, () => {
  const both = (): SidecarProcess[] => [pair.web, pair.greeter];

  it('crashes nothing, and leaks neither sockets nor memory', { timeout: 240_000 }, async () => {
    expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    for (const sidecar of both()) await sidecar.rss(); // opens what fetch keeps open
    await pause(0);
    const open = await Promise.all(both().map((sidecar) => sockets(sidecar)));
    await round();
    const first = await Promise.all(both().map(inUse));
    await round();
    const second = await Promise.all(both().map(inUse));
    for (const [n, sidecar] of both().entries()) {
      expect(sidecar.log, `${sidecar.name}'s log`).toBe('');
      expect(await sidecar.probe('/readyz')).toMatchObject({ status: 200 });
      const before = open[n] as number;
      expect(await settled(sidecar, before), `sockets of ${sidecar.name}`).toBeLessThanOrEqual(before);
      const grown = ((second[n] as number) - (first[n] as number)) / MIB;
      expect(grown, `MiB by which the heap of ${sidecar.name} grew in the second round`).toBeLessThan(4);
    }
    expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    expect((await pair.newClient().unary(SayHello, { name: 'Ada' })).code).toBe(0);
    const metrics = await Promise.all(
      both().map((sidecar) => sidecar.metric('hauberk_handshakes_half_open')),
    );
    expect(metrics).toEqual([0, 0]);
  });

  it('leaves on the port of gRPC health no more than its cap', async () => {
    const sidecar = pair.greeter;
    const address = sidecar.ready.probes.grpc[0] as string;
    const before = await sockets(sidecar);
    await run(
      Array.from(
        { length: HEALTH_INPUTS },
        () => () => throwAt(address, random.chance(2) ? http2() : of('health')),
      ),
    );
    expect(await settled(sidecar, before + HEALTH_CAP)).toBeLessThanOrEqual(before + HEALTH_CAP);
    expect(await pair.world.client(address).unary(HealthCheck, { service: '' })).toMatchObject({
      code: 0,
      message: { status: 'SERVING' },
    });
    expect(sidecar.log).toBe('');
  });

  it.each(['garbage.shop', 'garbage-peer.shop'])(
    'as answers of %s it harms only those calls',
    async (authority) => {
      const client = pair.newClient({ authority });
      const codes = new Set<number>();
      for (let i = 0; i < 200; i++) {
        const { code } = await client.unary(SayHello, { name: 'Ada' }, { deadlineMs: 500 });
        codes.add(code);
      }
      client.close();
      expect(codes).toContain(14);
      for (const sidecar of both()) expect(sidecar.log).toBe('');
      expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    },
  );
});
