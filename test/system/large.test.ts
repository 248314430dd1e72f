import { once } from 'node:events';
import { constants } from 'node:http2';
import { beforeAll, describe, expect, it } from 'vitest';
import { Chat, Download, Echo, SayHello, Upload } from '../harness/greeter-methods.ts';
import { answerOf, fieldOf, framed, RawApp, RawClient } from '../harness/rawh2.ts';
import { ingressTo, type Pair, SERVICE, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';

const MIB = 1024 * 1024;
const MESSAGE = 64 * MIB;
/** What a sidecar may grow by, whatever passes: windows, buffers, and garbage that is not collected yet. */
const GROWTH = 64 * MIB;

/** The most that a sidecar grew by while something ran. */
async function growthDuring<T>(
  sidecars: readonly SidecarProcess[],
  work: () => Promise<T>,
): Promise<[T, number[]]> {
  const before = await Promise.all(sidecars.map((sidecar) => sidecar.rss()));
  const peaks = [...before];
  let running = true;
  const watching = (async () => {
    while (running) {
      const now = await Promise.all(sidecars.map((sidecar) => sidecar.rss()));
      for (const [i, rss] of now.entries()) peaks[i] = Math.max(peaks[i] as number, rss);
    }
  })();
  const result = await work();
  running = false;
  await watching;
  return [result, peaks.map((peak, i) => peak - (before[i] as number))];
}

describe('messages of 64 MiB', () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair();
  });

  it('go both ways in one unary call', async () => {
    const data = Buffer.alloc(MESSAGE);
    for (let at = 0; at < data.length; at += 4096) data.writeUInt32BE(at, at);
    const answer = await pair.client.unary(Echo, { data });
    expect(answer.code).toBe(0);
    expect(answer.message?.data.equals(data)).toBe(true);
  });

  it('go in streams, each way at the same time', async () => {
    const up = pair.client.clientStream(Upload);
    up.call.write({ data: Buffer.alloc(MESSAGE) });
    up.call.end();
    const down = pair.client.serverStream(Download, { count: 1, size: MESSAGE });
    const [uploaded, downloaded] = await Promise.all([up.answer, down.answer]);
    expect(uploaded.message).toEqual({ messages: 1, octets: MESSAGE });
    expect(downloaded.messages.map(({ data }) => data.length)).toEqual([MESSAGE]);
  });

  it('may be many small ones: 20,000 messages of 100 octets', async () => {
    const { call, answer } = pair.client.bidi(Chat);
    const message = { data: Buffer.alloc(100, 1) };
    for (let i = 0; i < 20_000; i++) if (!call.write(message)) await once(call, 'drain');
    call.end();
    const { code, messages } = await answer;
    expect([code, messages.length]).toEqual([0, 20_000]);
  });
});

describe('a message of 128 MiB', () => {
  const LARGE = 128 * MIB;
  const chunk = Buffer.alloc(MIB, 7);

  it('passes each way, and no sidecar ever holds it', async () => {
    const world = await World.make();
    const app = await RawApp.start();
    const { web, greeter } = await startPair({ world, greeter: ingressTo(world, app.address) });
    const client = new RawClient(web.egress, SERVICE);
    // The app sends back what comes; neither end of the test holds the message either.
    app.onRequest(({ stream }) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.pipe(stream);
    });
    const echo = async (size: number): Promise<number> => {
      const stream = client.grpc('/shop.Raw/Echo');
      let octets = 0;
      stream.on('data', (data: Buffer) => {
        octets += data.length;
      });
      stream.write(framed(Buffer.alloc(0)).fill(0, 1));
      for (let sent = 0; sent < size; sent += MIB) if (!stream.write(chunk)) await once(stream, 'drain');
      stream.end();
      await once(stream, 'end');
      return octets;
    };
    // Buffers, pools and compiled code are there before memory is compared.
    await echo(32 * MIB);
    const [octets, growth] = await growthDuring([web, greeter], () => echo(LARGE));
    expect(octets).toBe(LARGE + 5);
    for (const grown of growth) expect(grown).toBeLessThan(GROWTH);
  });
});

describe('a reader that stalls', () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair();
    await pair.client.unary(SayHello, { name: 'Ada' });
  });

  /** Makes calls beside, on the same connections, until `sent` has stood still over twenty of them. */
  async function untilStill(sent: () => number): Promise<void> {
    for (let still = 0, last = -1; still < 20; ) {
      expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
      still = sent() === last ? still + 1 : 0;
      last = sent();
    }
  }

  // Grpc-js reads on when nobody reads from it; node:http2 truly stops.
  const order = framed(Download.requestSerialize({ count: 1024, size: 64 * 1024 }));
  const ordered = 1024 * (64 * 1024 + 9); // with the lengths that protobuf and gRPC put in front

  it('stops the app that sends, and nothing grows; then it gets everything', async () => {
    const client = new RawClient(pair.web.egress, SERVICE);
    const stream = client.grpc(Download.path).end(order);
    const [, growth] = await growthDuring([pair.web, pair.greeter], () =>
      untilStill(() => pair.app.downloaded),
    );
    expect(pair.app.downloaded).toBeLessThan(16 * MIB);
    for (const grown of growth) expect(grown).toBeLessThan(GROWTH);
    const answer = await answerOf(stream);
    expect(answer.body.length).toBe(ordered);
    expect(fieldOf(answer.trailers, 'grpc-status')).toBe('0');
  });

  it('stops nobody else, even when a hundred of them stall on one connection', async () => {
    const before = pair.app.downloaded;
    const called = pair.app.calls('Download');
    const client = new RawClient(pair.web.egress, SERVICE);
    const stalled = Array.from({ length: 100 }, () => client.grpc(Download.path).end(order));
    await pair.app.saw('Download', 'called', called + 100);
    await untilStill(() => pair.app.downloaded);
    expect(pair.app.downloaded - before).toBeLessThan(100 * 4 * MIB);
    const beside = await answerOf(client.grpc(Download.path).end(order));
    expect(beside.body.length).toBe(ordered);
    for (const stream of stalled) stream.close(constants.NGHTTP2_CANCEL);
    await pair.app.saw('Download', 'cancelled', 100);
    expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    expect(await pair.web.audit.of('session.created')).toHaveLength(1);
  });
});

describe('an app that does not read', () => {
  it('stops the caller that sends, and only that call', async () => {
    const world = await World.make();
    const app = await RawApp.start();
    const { web, greeter } = await startPair({ world, greeter: ingressTo(world, app.address) });
    const client = new RawClient(web.egress, SERVICE);
    const coming = app.next();
    const stream = client.grpc('/shop.Raw/Deaf');
    const chunk = Buffer.alloc(MIB);
    let sent = 0;
    const sending = (async () => {
      for (let i = 0; i < 64; i++)
        await new Promise<void>((resolve) => stream.write(chunk, () => resolve(void sent++)));
      stream.end();
    })();
    const { stream: deaf } = await coming;
    app.onRequest(({ stream: other }) =>
      other.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }),
    );
    for (let still = 0, last = -1; still < 20; ) {
      await answerOf(client.grpc('/shop.Raw/Quick').end(framed(Buffer.alloc(1))));
      still = sent === last ? still + 1 : 0;
      last = sent;
    }
    expect(sent).toBeLessThan(16);
    let octets = 0;
    deaf.on('data', (data: Buffer) => {
      octets += data.length;
    });
    await Promise.all([sending, once(deaf, 'end')]);
    expect(octets).toBe(64 * MIB);
    deaf.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
    await answerOf(stream);
    await expect.poll(() => greeter.metric('hauberk_calls_open')).toBe(0);
  });
});
