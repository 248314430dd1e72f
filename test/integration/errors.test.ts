import { readFile } from 'node:fs/promises';
import * as grpc from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { RELAY_ERRORS, type RelayErrorCode } from '../../src/relay/errors.ts';
import type { Answer } from '../harness/greeter-client.ts';
import { Chat, Hang, SayHello, Trickle } from '../harness/greeter-methods.ts';
import { answerOf, fieldOf, type RawAnswer, RawApp, RawClient } from '../harness/rawh2.ts';
import { ingressTo, SERVICE, startPair, World } from '../harness/sidecars.ts';

const EMPTY = { data: Buffer.alloc(0) };

/** Nothing listens there: it is none of the ports that are given out, as others of this machine are at any time. */
const DEAD_PORT = 9;

function expectError(answer: Answer<unknown>, code: RelayErrorCode): void {
  expect(answer).toMatchObject({ hauberkError: code, code: RELAY_ERRORS[code].grpc });
}

describe('the sidecar answers in its own name', () => {
  it('no-route: names the authority and the routes there are', async () => {
    const { web, newClient } = await startPair();
    const answer = await newClient({ authority: 'nowhere.shop' }).unary(SayHello, { name: 'Ada' });
    expectError(answer, 'no-route');
    expect(answer.headers).toBeUndefined(); // trailers-only
    expect(answer.details).toContain('"nowhere.shop"');
    expect(answer.details).toContain('greeter.shop');
    expect(answer.details).toContain('egress.routes');
    const event = await web.audit.event('call.completed', ({ error }) => error === 'no-route');
    expect(event).toMatchObject({ direction: 'egress', grpcStatus: 14, service: 'unknown' });
    expect(await web.metric('hauberk_errors_total', { code: 'no-route' })).toBe(1);
    const raw = await answerOf(new RawClient(web.egress, 'nowhere.shop').request({ ':path': '/' }));
    expect(fieldOf(raw.headers, ':status')).toBe('503');
    expect(fieldOf(raw.headers, 'hauberk-error')).toBe('no-route');
    expect(raw.body.toString()).toContain('"nowhere.shop"');
  });

  it('no-app: of the called sidecar, when it has no app of that name', async () => {
    const pair = await startPair({
      greeter: { ingress: { apps: [{ service: 'other.shop', address: '127.0.0.1:1' }] } },
    });
    const answer = await pair.client.unary(SayHello, { name: 'Ada' });
    expectError(answer, 'no-app');
    expect(answer.details).toContain('ingress.apps');
    expect(answer.details).not.toContain('127.0.0.1');
    expect(pair.app.calls()).toBe(0);
  });

  it('peer-unreachable: names the endpoint, and each waiting call gets it', async () => {
    const { client, web } = await startPair({ route: { endpoints: [`127.0.0.1:${DEAD_PORT}`] } });
    const answers = await Promise.all([1, 2, 3].map(() => client.unary(SayHello, { name: 'Ada' })));
    for (const answer of answers) {
      expectError(answer, 'peer-unreachable');
      expect(answer.details).toContain(`127.0.0.1:${DEAD_PORT}`);
    }
    const event = await web.audit.event('handshake.failed');
    expect(event).toMatchObject({ direction: 'outbound', reason: 'connect-failed' });
  });

  it('peer-unresolved: the endpoint’s name has no address', async () => {
    const { client } = await startPair({ route: { endpoints: ['no-such-host.invalid:15008'] } });
    const answer = await client.unary(SayHello, { name: 'Ada' });
    expectError(answer, 'peer-unresolved');
    expect(answer.details).toContain('no-such-host.invalid');
  });

  it('handshake-refused: the peer is somebody else', async () => {
    const world = await World.make();
    const { client, web, greeter, app } = await startPair({
      world,
      route: { peer: world.spiffeId('payments') },
    });
    const answer = await client.unary(SayHello, { name: 'Ada' });
    expectError(answer, 'handshake-refused');
    expect(answer.details).toContain('wrong-peer');
    expect(await web.audit.event('handshake.failed')).toMatchObject({
      direction: 'outbound',
      reason: 'wrong-peer',
      peer: greeter.ready.spiffeId,
    });
    expect(app.calls()).toBe(0);
  });

  it('app-unreachable: the app is down; its address is not told to the peer', async () => {
    const world = await World.make();
    const { client, greeter } = await startPair({
      world,
      greeter: ingressTo(world, `127.0.0.1:${DEAD_PORT}`),
    });
    const answer = await client.unary(SayHello, { name: 'Ada' });
    expectError(answer, 'app-unreachable');
    expect(answer.details).not.toContain('127.0.0.1');
    expect(answer.details).not.toContain(`:${DEAD_PORT}`);
    const { status, body } = await greeter.probe('/readyz');
    expect([status, body]).toEqual([503, 'waiting for:\n  app greeter.shop\n']);
  });

  it('denied: the calling service may not call that method', async () => {
    const world = await World.make();
    const allow = [{ peer: world.spiffeId('web'), methods: ['/hauberk.demo.v1.RouteGuide/*'] }];
    const { client, app, greeter, web } = await startPair({ world, greeter: { ingress: { allow } } });
    const answer = await client.unary(SayHello, { name: 'Ada' });
    expectError(answer, 'denied');
    expect(answer.details).toContain(web.ready.spiffeId);
    expect(answer.details).toContain('/hauberk.demo.v1.Greeter/SayHello');
    expect(app.calls()).toBe(0);
    expect(await greeter.audit.event('call.denied')).toMatchObject({
      peer: web.ready.spiffeId,
      method: '/hauberk.demo.v1.Greeter/SayHello',
      service: SERVICE,
    });
  });

  it('headers-too-large: the metadata is above the limit', async () => {
    const { client, app, newClient } = await startPair({ web: { http2: { headerList: '4KiB' } } });
    const answer = await client.unary(SayHello, { name: 'Ada' }, { metadata: { 'x-big': 'v'.repeat(5000) } });
    expectError(answer, 'headers-too-large');
    expect(app.calls()).toBe(0);
    expect((await newClient().unary(SayHello, { name: 'Ada' })).code).toBe(0);
  });
});

it('a caller that is still sending when it is refused is told so, and its connection lives', async () => {
  const { web } = await startPair();
  const client = new RawClient(web.egress, 'nowhere.shop');
  const stream = client.grpc('/shop.Raw/Upload');
  stream.write(Buffer.alloc(65_536)); // a whole window, and no end
  const answer = await answerOf(stream);
  expect(answer.ended).toBe(true);
  expect(fieldOf(answer.headers, 'hauberk-error')).toBe('no-route');
  expect(answer.rstCode).toBe(0);
  const next = await answerOf(client.grpc('/shop.Raw/Call', { ':authority': SERVICE }).end());
  expect(fieldOf(next.headers, 'grpc-status')).toBe('12');
  expect(client.session.destroyed).toBe(false);
});

describe('what breaks mid-call', () => {
  it('app-lost: the app dies with calls under way', async () => {
    const { client, app, greeter } = await startPair();
    const unary = client.unary(Hang, EMPTY);
    const stream = client.serverStream(Trickle, EMPTY);
    await new Promise((resolve) => stream.call.once('data', resolve));
    await app.saw('Hang', 'called');
    app.kill();
    for (const answer of await Promise.all([unary, stream.answer])) expectError(answer, 'app-lost');
    const failed = await greeter.audit.events('call.completed', 2, ({ error }) => error === 'app-lost');
    expect(failed.map(({ grpcStatus }) => grpcStatus)).toEqual([14, 14]);
    const { code } = await client.unary(SayHello, { name: 'Ada' });
    expect(code).toBe(grpc.status.UNAVAILABLE);
  });

  it('session-lost: the called sidecar dies with calls under way', async () => {
    const { client, app, greeter, web } = await startPair();
    const unary = client.unary(Hang, EMPTY);
    const { call, answer } = client.bidi(Chat);
    call.write(EMPTY);
    await new Promise((resolve) => call.once('data', resolve));
    await app.saw('Hang', 'called');
    await greeter.kill();
    for (const each of await Promise.all([unary, answer])) {
      expectError(each, 'session-lost');
      expect(each.details).toContain('greeter.shop');
    }
    await app.saw('Hang', 'cancelled');
    const closed = await web.audit.event('connection.closed', ({ side }) => side === 'peer');
    expect(['truncated', 'socket-error']).toContain(closed.reason);
  });

  it('caller-lost: the calling sidecar dies, and the app’s calls are cancelled', async () => {
    const { client, app, greeter, web } = await startPair();
    const running = client.unary(Hang, EMPTY);
    await app.saw('Hang', 'called');
    await web.kill();
    await app.saw('Hang', 'cancelled');
    expect((await running).code).toBe(grpc.status.UNAVAILABLE);
    const event = await greeter.audit.event('call.completed', ({ method }) => method.endsWith('/Hang'));
    expect(event).toMatchObject({ grpcStatus: grpc.status.CANCELLED, error: 'caller-lost' });
  });

  it('a called sidecar that comes back is called again', async () => {
    // At an address where nobody else looks for a port meanwhile.
    const { client, world, app, greeter } = await startPair({
      greeter: { ingress: { listen: '127.0.0.7:0' } },
    });
    expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    await greeter.stop();
    const away = await client.unary(SayHello, { name: 'Ada' });
    expect(away.code).toBe(grpc.status.UNAVAILABLE);
    await world.sidecar('greeter', {
      ...ingressTo(world, app.address),
      ingress: { ...(ingressTo(world, app.address).ingress as object), listen: greeter.ingress },
    });
    // Failed dials are backed off, so that it may take some calls; none of them hangs.
    const wasBack = await untilOk(async () => (await client.unary(SayHello, { name: 'Ada' })).code);
    expect(wasBack).toBe(true);
  });

  it('an app that breaks HTTP/2 costs its call alone, and says so', async () => {
    const world = await World.make();
    const app = await RawApp.start();
    const { web, greeter } = await startPair({ world, greeter: ingressTo(world, app.address) });
    const client = new RawClient(web.egress, SERVICE);
    app.onRequest(({ stream }) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'content-length': 3 });
      stream.end('more than three');
    });
    await answerOf(client.grpc('/shop.Raw/Liar').end());
    const event = await greeter.audit.event('call.completed');
    expect(event).toMatchObject({ method: '/shop.Raw/Liar', grpcStatus: 13, error: 'app-protocol-error' });
    app.onRequest(({ stream }) =>
      stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }),
    );
    const good = await answerOf(client.grpc('/shop.Raw/Good').end());
    expect(fieldOf(good.headers, 'grpc-status')).toBe('0');
    expect(await greeter.metric('hauberk_errors_total', { code: 'app-protocol-error' })).toBe(1);
  });
});

/** Calls until one succeeds; gives up after a hundred. */
async function untilOk(call: () => Promise<number>): Promise<boolean> {
  for (let i = 0; i < 100; i++) {
    if ((await call()) === 0) return true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return false;
}

describe('queue-full', () => {
  it('calls beyond the queue are refused at once, those in it are answered', async () => {
    const world = await World.make();
    const app = await RawApp.start({ settings: { maxConcurrentStreams: 1 } });
    const { web, greeter } = await startPair({
      world,
      greeter: { ...ingressTo(world, app.address), http2: { queuedCalls: 2 } },
    });
    const client = new RawClient(web.egress, SERVICE);
    const waiting: Array<() => void> = [];
    const refusals = (): Promise<number> => greeter.metric('hauberk_errors_total', { code: 'queue-full' });
    const call = () => answerOf(client.grpc('/shop.Raw/Slow').end());
    // As many connections as there may be to an app, each with its one stream taken ...
    const held: Promise<RawAnswer>[] = [];
    for (let i = 0; i < 8; i++) {
      const coming = app.next();
      held.push(call());
      const { stream } = await coming;
      waiting.push(() => stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }));
    }
    // ... and of four more calls two find room in the queue.
    const more = [call(), call(), call(), call()];
    const refused = await greeter.audit.events('call.completed', 2, ({ error }) => error === 'queue-full');
    expect(refused[0]).toMatchObject({ grpcStatus: 14, direction: 'ingress' });
    expect(await refusals()).toBe(2);
    app.onRequest(({ stream }) =>
      stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }),
    );
    for (const answer of waiting) answer();
    const codes = (await Promise.all([...held, ...more])).map(({ headers }) =>
      fieldOf(headers, 'hauberk-error'),
    );
    expect(codes).toEqual([...Array(10).fill(undefined), 'queue-full', 'queue-full']);
  });
});

describe('an unexpected end of the process', () => {
  it('leaves an audit whose last line is whole', async () => {
    const { client, greeter } = await startPair();
    await client.unary(SayHello, { name: 'Ada' });
    await greeter.audit.event('call.completed');
    await greeter.kill();
    const text = await readFile(greeter.audit.path, 'utf8');
    expect(text.endsWith('\n')).toBe(true);
    for (const line of text.trimEnd().split('\n')) expect(() => JSON.parse(line)).not.toThrow();
  });
});
