import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { Chat, type Payload } from '../harness/greeter-methods.ts';
import { Mulberry } from '../harness/seeded.ts';
import { type SidecarProcess, startPair } from '../harness/sidecars.ts';
import { Bench } from '../transport/wire.ts';

const MIB = 2 ** 20;
const TOTAL = 256 * MIB;

/** Octets that do not repeat before the end, cut from one stream: neither a gap nor a repetition goes unseen. */
class Source {
  readonly hash = createHash('sha256');
  readonly #block: Buffer;
  #left = TOTAL;
  #count = 0;

  constructor(seed: number) {
    const { random } = new Mulberry(seed);
    this.#block = Buffer.from(Uint8Array.from({ length: 65_536 }, () => random() * 256));
  }

  /** The next `size` octets at most; the content of a turn of the block differs from every other. */
  next(size: number): Buffer {
    const octets = Buffer.from(this.#block.subarray(0, Math.min(size, this.#left)));
    octets.writeUInt32BE(this.#count++, 0);
    this.#left -= octets.length;
    this.hash.update(octets);
    return octets;
  }

  get done(): boolean {
    return this.#left === 0;
  }
}

/** What arrived. */
class Sink {
  readonly hash: Hash = createHash('sha256');
  octets = 0;

  take(data: Buffer): void {
    this.hash.update(data);
    this.octets += data.length;
  }
}

/** Sends everything through a channel as fast as it takes it. */
async function pump(channel: SecureChannel, source: Source, size: number): Promise<void> {
  while (!source.done) {
    const octets = source.next(size);
    const buf = channel.acquire();
    octets.copy(buf, channel.headroom);
    const more = channel.write(buf, channel.headroom, channel.headroom + octets.length);
    if (!more) await new Promise<void>((resolve) => (channel.onDrain = resolve));
  }
}

let bench: Bench;
const records = { rekeyBytes: 3 * MIB, keyUpdateRecords: 1 };
beforeAll(async () => {
  bench = await Bench.open({ limits: { records } });
});
afterAll(() => bench.close());

it('a channel that changes its keys every 3 MiB carries 256 MiB in each direction, to the octet', async () => {
  const client = await bench.dial({ limits: { records } });
  const server = await bench.channels.next();
  const ends = [client, server].map((channel, seed) => {
    const sink = new Sink();
    const changes = { send: 0, receive: 0 };
    let why: string | undefined;
    channel.onRekey = (way) => changes[way]++;
    channel.onClose = (reason) => {
      why = reason;
    };
    channel.onData = (octets) => sink.take(octets);
    return { channel, sink, changes, source: new Source(seed), ended: () => why };
  });
  await Promise.all([
    pump(client, ends[0]?.source as Source, 50_000),
    pump(server, ends[1]?.source as Source, 9_000),
  ]);
  for (const [i, { sink, ended }] of ends.entries()) {
    await expect.poll(() => sink.octets, { timeout: 60_000 }).toBe(TOTAL);
    expect(ended()).toBeUndefined();
    expect(sink.hash.digest('hex')).toBe(ends[1 - i]?.source.hash.digest('hex'));
  }
  for (const [i, { changes }] of ends.entries()) {
    expect(changes.send).toBeGreaterThanOrEqual(Math.floor(TOTAL / (3.1 * MIB)));
    expect(changes.receive).toBe(ends[1 - i]?.changes.send);
  }
});

it('a call of 256 MiB through two sidecars that change keys all along gets its own octets back', async () => {
  const config = { records: { rekeyRecords: 1_024 } };
  const pair = await startPair({ web: config, greeter: config });
  const { call, answer } = pair.client.bidi(Chat, { paused: true });
  const source = new Source(7);
  const sink = new Sink();
  const ended = once(call, 'end');
  call.on('data', ({ data }: Payload) => sink.take(data));
  while (!source.done) {
    const more = call.write({ data: source.next(4_096) });
    if (!more) await new Promise<void>((resolve) => void call.once('drain', resolve));
  }
  call.end();
  expect((await answer).code).toBe(0);
  await ended;
  expect(sink.octets).toBe(TOTAL);
  expect(sink.hash.digest('hex')).toBe(source.hash.digest('hex'));
  for (const sidecar of [pair.web, pair.greeter] as SidecarProcess[]) {
    await sidecar.audited();
    const changes = await sidecar.audit.of('session.rekeyed');
    const sent = changes.filter(({ direction }) => direction === 'send');
    expect(sent.length).toBeGreaterThanOrEqual(4);
    expect(new Set(sent.map(({ cause }) => cause))).toEqual(new Set(['records']));
    expect(await sidecar.audit.of('session.created')).toHaveLength(1);
    expect(await sidecar.audit.of('connection.closed')).toEqual([]);
    console.info(
      `${sidecar.name}: ${sent.length} keys sent under, ${changes.length - sent.length} received under`,
    );
  }
});
