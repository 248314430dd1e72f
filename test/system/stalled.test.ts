import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { CreditPeer, type Incoming } from '../harness/creditpeer.ts';
import { MIB, receive, send } from '../harness/flow.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import type { Fields } from '../harness/http2-peer.ts';
import { peakOf, resetPeak, residentOf } from '../harness/memory.ts';
import { answerOf, fieldOf, RawApp, RawClient } from '../harness/rawh2.ts';
import { ingressTo, SERVICE, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';

const STALLED = 1000; // streams
const WINDOW = 16 * 1024; // octets; what a stalled reader lets itself be given of each stream
const BODY = Buffer.alloc(192 * 1024);
for (let at = 0; at < BODY.length; at += 4) BODY.writeUInt32BE((at * 2_654_435_761) >>> 0, at);
/** What a sidecar may grow by for each connection on which 1,000 streams stall. */
const GROWTH = 80; // MiB

/** Node's own clients and servers refuse streams when a connection takes 10 MB. */
const ROOMY = { maxSessionMemory: 1000 } as object;

const request = (path: string): Fields => [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', path],
  [':authority', SERVICE],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
];

/** Watches the memory of sidecars from now on; the function tells by how many MiB each has grown at the most. */
async function watch(sidecars: readonly SidecarProcess[]): Promise<() => Promise<number[]>> {
  const before = await Promise.all(sidecars.map(residentOf));
  await Promise.all(sidecars.map(resetPeak));
  return async () => {
    const peaks = await Promise.all(sidecars.map(peakOf));
    return peaks.map((peak, i) => (peak - (before[i] as number)) / MIB);
  };
}

/** Until nothing has moved for as long as it takes to ask the sidecars twenty times. */
async function untilStill(sidecars: readonly SidecarProcess[]): Promise<void> {
  const moved = async (): Promise<number> => {
    const octets = await Promise.all(sidecars.map((sidecar) => sidecar.metric('hauberk_bytes_total')));
    return octets.reduce((sum, n) => sum + n, 0);
  };
  for (let still = 0, last = -1; still < 20; await pause(25)) {
    const now = await moved();
    still = now === last ? still + 1 : 0;
    last = now;
  }
}

async function expectWhole(streams: readonly Incoming[], body = BODY): Promise<void> {
  expect(new Set(await Promise.all(streams.map(({ over }) => over)))).toEqual(new Set([0]));
  const hash = createHash('sha256').update(body).digest('hex');
  expect(new Set(streams.map((stream) => stream.hash.digest('hex')))).toEqual(new Set([hash]));
}

/** Until so many streams have brought these peers all that they may, and nothing moves behind it. */
async function untilStalled(
  streams: number,
  peers: readonly CreditPeer[],
  sidecars: readonly SidecarProcess[],
): Promise<void> {
  const octets = (): number => peers.reduce((sum, peer) => sum + peer.octets, 0);
  while (octets() < streams * WINDOW) await pause(25);
  await untilStill(sidecars);
  expect(octets()).toBe(streams * WINDOW);
}

/** An app that sends BODY to whoever asks, and what it is sent back to who posts to /echo. */
async function sendingApp(): Promise<RawApp> {
  const app = await RawApp.start(ROOMY);
  app.onRequest(({ stream, headers }) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    if (fieldOf(headers, ':path') === '/shop.Raw/Echo') stream.pipe(stream);
    else stream.end(BODY);
  });
  return app;
}

describe('1,000 streams that stall on one connection', () => {
  it('of a client that reads none: the 1,001st is answered, memory is bounded, and all complete later', async () => {
    const world = await World.make();
    const app = await sendingApp();
    const { web, greeter } = await startPair({ world, greeter: ingressTo(world, app.address) });
    const grown = await watch([web, greeter]);
    const client = await CreditPeer.connect(web.egress, { window: WINDOW });
    const stalled = Array.from({ length: STALLED }, () => client.request(request('/shop.Raw/Get')));
    await untilStalled(STALLED, [client], [web, greeter]);
    const next = client.request(request('/shop.Raw/Get'));
    client.read(next);
    await expectWhole([next]);
    for (const mib of await grown()) expect(mib).toBeLessThan(GROWTH);
    for (const stream of stalled) client.read(stream);
    await expectWhole(stalled);
    expect(await web.audit.of('session.created')).toHaveLength(1);
  });

  it('towards an app that reads none: as well', async () => {
    const world = await World.make();
    let reads = false;
    const app = await CreditPeer.listen({ window: WINDOW, reads: () => reads });
    const { web, greeter } = await startPair({ world, greeter: ingressTo(world, app.address) });
    const grown = await watch([web, greeter]);
    const client = new RawClient(web.egress, SERVICE, ROOMY);
    const stalled = Array.from({ length: STALLED }, () => answerOf(client.grpc('/shop.Raw/Put').end(BODY)));
    await untilStalled(STALLED, app.peers, [web, greeter]);
    reads = true;
    const next = await answerOf(client.grpc('/shop.Raw/Put').end(BODY));
    expect([fieldOf(next.headers, ':status'), next.rstCode]).toEqual(['200', 0]);
    for (const mib of await grown()) expect(mib).toBeLessThan(GROWTH);
    for (const peer of app.peers) for (const stream of peer.streams) peer.read(stream);
    expect(new Set((await Promise.all(stalled)).map(({ rstCode }) => rstCode))).toEqual(new Set([0]));
    await expectWhole(app.peers.flatMap(({ streams }) => streams));
  });
});

it('4,000 streams that stall in one session, of four clients, stop no other there', async () => {
  const CLIENTS = 4;
  const body = BODY.subarray(0, 64 * 1024);
  const world = await World.make();
  const app = await CreditPeer.listen({ window: WINDOW });
  const honest = await world.app();
  const both = {
    ingress: {
      apps: [
        { service: SERVICE, address: app.address },
        { service: 'honest.shop', address: honest.address },
      ],
      allow: [{ peer: world.spiffeId('*'), methods: ['/*', '/*/*'] }],
    },
  };
  const greeter = await world.sidecar('greeter', both);
  const to = { endpoints: [greeter.ingress], peer: world.spiffeId('greeter') };
  const routes = [SERVICE, 'honest.shop'].map((service) => ({ service, ...to }));
  const web = await world.sidecar('web', { egress: { routes } });
  const grown = await watch([web, greeter]);
  const clients = Array.from({ length: CLIENTS }, () => new RawClient(web.egress, SERVICE, ROOMY));
  const stalled = [];
  for (const client of clients) {
    for (let i = 0; i < STALLED; i++) stalled.push(answerOf(client.grpc('/shop.Raw/Put').end(body)));
    while ((await greeter.metric('hauberk_calls_open')) < stalled.length) await pause(25);
  }
  await untilStalled(stalled.length, app.peers, [web, greeter]);
  expect(await web.audit.of('session.created')).toHaveLength(1);
  const beside = world.client(web.egress, { authority: 'honest.shop' });
  expect((await beside.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  for (const mib of await grown()) expect(mib).toBeLessThan(CLIENTS * GROWTH);
  for (const peer of app.peers) for (const stream of peer.streams) peer.read(stream);
  expect(new Set((await Promise.all(stalled)).map(({ rstCode }) => rstCode))).toEqual(new Set([0]));
  await expectWhole(
    app.peers.flatMap(({ streams }) => streams),
    body,
  );
});

it('64 MiB pass each way while 500 streams of the same connection stall', async () => {
  const world = await World.make();
  const app = await sendingApp();
  const { web, greeter } = await startPair({ world, greeter: ingressTo(world, app.address) });
  const grown = await watch([web, greeter]);
  const stalling = await CreditPeer.connect(web.egress, { window: WINDOW });
  const stalled = Array.from({ length: 500 }, () => stalling.request(request('/shop.Raw/Get')));
  await untilStalled(500, [stalling], [web, greeter]);
  const call = new RawClient(web.egress, SERVICE).grpc('/shop.Raw/Echo');
  const [sent, received] = await Promise.all([
    send(call, 64, MIB).then((flow) => {
      call.end();
      return flow;
    }),
    receive(call),
  ]);
  expect(received).toEqual(sent);
  for (const mib of await grown()) expect(mib).toBeLessThan(2 * GROWTH);
  for (const stream of stalled) stalling.read(stream);
  await expectWhole(stalled);
});
