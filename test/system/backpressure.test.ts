import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { type Flow, MIB, type Pace, receive, send } from '../harness/flow.ts';
import { peakOf, resetPeak, residentOf } from '../harness/memory.ts';
import { RawApp, RawClient } from '../harness/rawh2.ts';
import { ingressTo, SERVICE, World } from '../harness/sidecars.ts';
import { type Direction, slowLink } from '../harness/slowlink.ts';

/** Messages of 1 MiB each. */
const MESSAGES = 256;
const RATE = 10 * MIB;
/** What a sidecar may grow by above its idle memory, at any moment. */
const GROWTH = 64;
/** Octets that may be under way from end to end: windows and sockets of three hops. */
const UNDER_WAY = 32 * MIB;

interface Load {
  /** Messages from the client, and from the app. */
  readonly up: number;
  readonly down: number;
  readonly pace?: Pace;
  /** Where the wire is slow, towards whom; windows are wide open there. */
  readonly slow?: { readonly at: 'client' | 'session' | 'app'; readonly towards: Direction };
}

interface Measured {
  /** MiB above idle at the worst moment: the calling sidecar, the called one. */
  readonly grown: readonly number[];
  readonly seconds: number;
}

const LARGEST = 2 ** 31 - 1;

/** Runs one call through a pair of its own; everything must come through. */
async function run({ up, down, pace = {}, slow }: Load): Promise<Measured> {
  const link = async (at: string, address: string): Promise<string> =>
    slow?.at === at ? slowLink(address, slow.towards, RATE) : address;
  const world = await World.make();
  const app = await RawApp.start({ settings: slow?.at === 'app' ? { initialWindowSize: LARGEST } : {} });
  const greeter = await world.sidecar('greeter', ingressTo(world, await link('app', app.address)));
  const endpoints = [await link('session', greeter.ingress)];
  const route = { service: SERVICE, endpoints, peer: world.spiffeId('greeter') };
  const web = await world.sidecar('web', { egress: { routes: [route] } });
  const client = new RawClient(await link('client', web.egress), SERVICE, {
    settings: slow?.at === 'client' ? { initialWindowSize: LARGEST } : {},
  });
  await once(client.session, 'connect');
  if (slow?.at === 'client') client.session.setLocalWindowSize(LARGEST);
  const sidecars = [web, greeter];
  const idle = await Promise.all(sidecars.map(residentOf));
  await Promise.all(sidecars.map(resetPeak));

  const began = performance.now();
  const coming = app.next();
  const call = client.grpc('/shop.Raw/Flow');
  const { stream } = await coming;
  if (slow?.at === 'app') stream.session?.setLocalWindowSize(LARGEST);
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  const sent = { up: 0, down: 0 };
  const paced = (from: Direction): Pace => {
    const { stop, ...rest } = pace;
    if (stop === undefined) return rest;
    const resumed = (): void => expect(sent[from] - stop.after).toBeLessThan(UNDER_WAY);
    return { ...rest, stop: { ...stop, resumed } };
  };
  const byApp = async (): Promise<Flow[]> => {
    const flows = await Promise.all([
      receive(stream, paced('up')),
      send(stream, down, MIB, (octets) => {
        sent.down = octets;
      }),
    ]);
    stream.end(); // not before: an answer that is complete ends the call
    return flows;
  };
  const byClient = async (): Promise<Flow[]> => {
    const received = receive(call, paced('down'));
    const flow = await send(call, up, MIB, (octets) => {
      sent.up = octets;
    });
    call.end();
    return [await received, flow];
  };
  const [[atApp, fromApp], [atClient, fromClient]] = await Promise.all([byApp(), byClient()]);
  expect([atApp, atClient]).toEqual([fromClient, fromApp]);
  const seconds = (performance.now() - began) / 1000;
  const peaks = await Promise.all(sidecars.map(peakOf));
  return { seconds, grown: peaks.map((peak, i) => (peak - (idle[i] as number)) / MIB) };
}

const LIMIT = { timeout: 120_000 };
const expectBounded = ({ grown }: Measured): void => {
  for (const mib of grown) expect(mib).toBeLessThan(GROWTH);
};

describe.concurrent('256 MiB in messages of 1 MiB, past a reader at 10 MiB/s', LIMIT, () => {
  const shortest = (MESSAGES * MIB) / RATE; // seconds; less would mean that nobody was slow
  it.each([
    ['client stream', { up: MESSAGES, down: 0 }],
    ['server stream', { up: 0, down: MESSAGES }],
    ['bidirectional stream', { up: MESSAGES, down: MESSAGES }],
  ])('as a %s: both sidecars stay within 64 MiB of idle', async (_kind, load) => {
    const measured = await run({ ...load, pace: { rate: RATE } });
    expect(measured.seconds).toBeGreaterThan(shortest * 0.99);
    expectBounded(measured);
  });
});

describe.concurrent('64 MiB in messages of 1 MiB', LIMIT, () => {
  const stop = { after: 16 * MIB, ms: 10_000 };
  it.each([
    ['app', { up: 64, down: 0 }],
    ['calling app', { up: 0, down: 64 }],
  ])('wait for the %s that reads nothing for 10 s', async (_who, load) => {
    expectBounded(await run({ ...load, pace: { stop } }));
  });

  it.each([
    ['to the app', { up: 64, down: 0, slow: { at: 'app', towards: 'up' } }],
    ['between the sidecars, requests', { up: 64, down: 0, slow: { at: 'session', towards: 'up' } }],
    ['between the sidecars, answers', { up: 0, down: 64, slow: { at: 'session', towards: 'down' } }],
    ['to the calling app', { up: 0, down: 64, slow: { at: 'client', towards: 'down' } }],
  ] satisfies [string, Load][])('wait for a slow wire %s', async (_where, load) => {
    expectBounded(await run(load));
  });
});
