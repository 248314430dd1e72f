import { constants } from 'node:http2';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { parseTimeout } from '../../src/relay/timeout.ts';
import {
  answerOf,
  fieldOf,
  framed,
  type RawAnswer,
  RawApp,
  RawClient,
  type RawRequest,
} from '../harness/rawh2.ts';
import { ingressTo, merge, SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';

const ONE = 'one.shop';
const METHOD = '/shop.Raw/Call';
const REFUSED = constants.NGHTTP2_REFUSED_STREAM;

const refuse = ({ stream }: RawRequest): void => stream.close(REFUSED);

/** Answers with the request's own octets. */
const echo = ({ stream }: RawRequest): void => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' });
  stream.pipe(stream);
};

/** Two apps of one service, each behind a sidecar of its own, and a caller's sidecar that has routes to both. */
let apps: [RawApp, RawApp];
let called: [SidecarProcess, SidecarProcess];
let web: SidecarProcess;
/** A caller that reaches the first only, and one that reaches both. */
let toOne: RawClient;
let toBoth: RawClient;

beforeAll(async () => {
  const world = await World.make();
  apps = [await RawApp.start({ settings: { maxConcurrentStreams: 1 } }), await RawApp.start()];
  const { address } = apps[0];
  called = await Promise.all([
    world.sidecar(
      'greeter',
      merge(ingressTo(world, address), {
        ingress: { apps: [SERVICE, ONE].map((service) => ({ service, address })) },
      }),
    ),
    world.sidecar('greeter', ingressTo(world, apps[1].address)),
  ]);
  const peer = world.spiffeId('greeter');
  const [one, two] = called.map(({ ingress }) => ingress) as [string, string];
  web = await world.sidecar('web', {
    egress: {
      routes: [
        { service: SERVICE, endpoints: [one, two], peer },
        { service: ONE, endpoints: [one], peer },
      ],
    },
  });
  toBoth = new RawClient(web.egress, SERVICE);
  toOne = new RawClient(web.egress, ONE);
});

const ask = (client: RawClient): Promise<RawAnswer> =>
  answerOf(client.grpc(METHOD).end(framed(Buffer.from('ask'))));
const retried = (sidecar: SidecarProcess, direction: 'egress' | 'ingress'): Promise<number> =>
  sidecar.metric('hauberk_calls_retried_total', { direction });

describe('a call that its app refuses unprocessed', () => {
  it('is sent to the app again by its sidecar, whole, and the caller notices nothing', async () => {
    apps[0].onRequest((request) => {
      apps[0].onRequest(echo);
      refuse(request);
    });
    const answer = await ask(toOne);
    expect(fieldOf(answer.headers, 'grpc-status')).toBe('0');
    expect(answer.body.equals(framed(Buffer.from('ask')))).toBe(true);
    expect(await retried(called[0], 'ingress')).toBe(1);
  });

  it('three times is refused at its caller, who may repeat it', async () => {
    apps[0].onRequest(refuse);
    const before = apps[0].requests.length;
    expect(await ask(toOne)).toMatchObject({ rstCode: REFUSED, headers: [] });
    expect(apps[0].requests.length - before).toBe(3);
    expect(await retried(web, 'egress')).toBe(0);
  });

  it('for ever is sent to the next endpoint by its caller’s sidecar', async () => {
    apps[0].onRequest(refuse);
    apps[1].onRequest(echo);
    const before = apps[0].requests.length;
    for (let i = 0; i < 24; i++) {
      expect(fieldOf((await ask(toBoth)).headers, 'grpc-status')).toBe('0');
    }
    // Which endpoint is first is drawn at random: that not one call of 24 began at the first is out of the question.
    const atFirst = await retried(web, 'egress');
    expect(atFirst).toBeGreaterThan(0);
    expect(apps[0].requests.length - before).toBe(3 * atFirst);
  });
});

it('a call that waits for a stream of its app passes on a deadline that is shorter by that', async () => {
  const held: RawRequest[] = [];
  apps[0].onRequest((request) => held.push(request));
  const open = (): Promise<number> => called[0].metric('hauberk_calls_open', { direction: 'ingress' });
  // One stream a connection, eight connections.
  const calls = Array.from({ length: 8 }, () => answerOf(toOne.grpc(METHOD).end()));
  await vi.waitFor(() => expect(held).toHaveLength(8), 10_000);
  calls.push(answerOf(toOne.grpc(METHOD, { 'grpc-timeout': '1M' }).end()));
  await vi.waitFor(async () => expect(await open()).toBe(9), 10_000);
  const coming = apps[0].next();
  for (const request of held) echo(request);
  const last = await coming;
  const timeout = parseTimeout(fieldOf(last.headers, 'grpc-timeout') ?? '');
  expect(timeout).toBeLessThan(60_000);
  expect(timeout).toBeGreaterThan(0);
  echo(last);
  for (const answer of await Promise.all(calls)) expect(fieldOf(answer.headers, 'grpc-status')).toBe('0');
});
