import * as grpc from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import { parseTimeout } from '../../src/relay/timeout.ts';
import { Chat, Echo, Hang, SayHello, Trickle, Upload } from '../harness/greeter-methods.ts';
import { answerOf, fieldOf, framed, RawApp, RawClient } from '../harness/rawh2.ts';
import { ingressTo, type Pair, SERVICE, startPair, World } from '../harness/sidecars.ts';

const EMPTY = { data: Buffer.alloc(0) };

describe('a deadline', () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair();
  });

  it('reaches the app, not lengthened and hardly shortened', async () => {
    const { message } = await pair.client.unary(Echo, EMPTY, { deadlineMs: 30_000 });
    expect(message?.timeLeft).toBeLessThanOrEqual(30_000);
    expect(message?.timeLeft).toBeGreaterThan(15_000);
  });

  it('that a call does not have is not invented', async () => {
    const { message } = await pair.client.unary(Echo, EMPTY);
    expect(message?.timeLeft).toBe(-1);
  });

  it('that passes ends the call at both ends', async () => {
    const called = pair.app.calls('Hang');
    const { code } = await pair.client.unary(Hang, EMPTY, { deadlineMs: 1000 });
    expect(code).toBe(grpc.status.DEADLINE_EXCEEDED);
    await pair.app.saw('Hang', 'cancelled', called + 1);
  });
});

describe('a deadline of a caller that does not watch its clock', () => {
  let pair: Pair;
  let app: RawApp;
  let client: RawClient;
  beforeAll(async () => {
    const world = await World.make();
    app = await RawApp.start();
    pair = await startPair({ world, greeter: ingressTo(world, app.address) });
    client = new RawClient(pair.web.egress, SERVICE);
    // The session is up before any deadline runs.
    app.onRequest(({ stream }) => stream.respond({ ':status': 204 }, { endStream: true }));
    await answerOf(client.request({ ':path': '/' }));
  });

  it('is held by its sidecar: trailers-only, with a code and a message that says what to do', async () => {
    const coming = app.next();
    const answering = answerOf(
      client.grpc('/shop.Raw/Slow', { 'grpc-timeout': '1S' }).end(framed(Buffer.alloc(1))),
    );
    const { stream } = await coming;
    const answer = await answering;
    expect(answer.ended).toBe(true);
    expect(fieldOf(answer.headers, 'grpc-status')).toBe('4');
    expect(fieldOf(answer.headers, 'hauberk-error')).toBe('deadline-exceeded');
    expect(fieldOf(answer.headers, 'grpc-message')).toBe(
      'the call to greeter.shop was not answered within its 1000 ms',
    );
    if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
    expect(stream.rstCode).toBe(8);
    const event = await pair.web.audit.event('call.completed', ({ error }) => error === 'deadline-exceeded');
    expect(event).toMatchObject({ grpcStatus: 4, method: '/shop.Raw/Slow' });
  });

  it('is held also when the answer has begun: the trailers say it', async () => {
    app.onRequest(({ stream }) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(framed(Buffer.from('half')));
    });
    const answer = await answerOf(client.grpc('/shop.Raw/Half', { 'grpc-timeout': '1S' }).end());
    expect(answer.body.equals(framed(Buffer.from('half')))).toBe(true);
    expect(fieldOf(answer.trailers, 'grpc-status')).toBe('4');
    expect(fieldOf(answer.trailers, 'hauberk-error')).toBe('deadline-exceeded');
  });

  it.each(['1H', '5000m', '99999999n', '00000007S', '8S'])('%s is passed on as it is', async (timeout) => {
    const coming = app.next();
    const answering = answerOf(client.grpc('/shop.Raw/Quick', { 'grpc-timeout': timeout }).end());
    const { headers, stream } = await coming;
    expect(fieldOf(headers, 'grpc-timeout')).toBe(timeout);
    if (!stream.closed) stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
    await answering; // 99999999n is a tenth of a second, which may be over
  });

  it.each(['', '5', 'm', '123456789m', '5x', '-5m', '1.5S'])('%j is refused', async (timeout) => {
    const before = app.requests.length;
    const answer = await answerOf(client.grpc('/shop.Raw/Quick', { 'grpc-timeout': timeout }).end());
    expect(fieldOf(answer.headers, 'hauberk-error')).toBe('bad-timeout');
    expect(fieldOf(answer.headers, 'grpc-status')).toBe('13');
    expect(app.requests.length).toBe(before);
  });
});

describe('a deadline that the route gives', () => {
  let app: RawApp;
  let client: RawClient;
  beforeAll(async () => {
    const world = await World.make();
    app = await RawApp.start();
    const route = { timeout: '1s' };
    const { web } = await startPair({ world, route, greeter: ingressTo(world, app.address) });
    client = new RawClient(web.egress, SERVICE);
    // The session is up before any deadline runs.
    app.onRequest(({ stream }) => stream.respond({ ':status': 204 }, { endStream: true }));
    await answerOf(client.request({ ':path': '/' }));
  });

  it('holds for calls that have none, and the app is told', async () => {
    const coming = app.next();
    const answering = answerOf(client.grpc('/shop.Raw/Slow').end(framed(Buffer.alloc(1))));
    const { headers } = await coming;
    const told = parseTimeout(fieldOf(headers, 'grpc-timeout')) as number;
    expect(told).toBeGreaterThan(0);
    expect(told).toBeLessThanOrEqual(1_000);
    const answer = await answering;
    expect(fieldOf(answer.headers, 'hauberk-error')).toBe('deadline-exceeded');
    expect(fieldOf(answer.headers, 'grpc-status')).toBe('4');
  });

  it('leaves a call’s own as it is, and what is not gRPC alone', async () => {
    app.onRequest(({ stream }) =>
      stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }),
    );
    for (const own of ['1H', '999m']) {
      await answerOf(client.grpc('/shop.Raw/Quick', { 'grpc-timeout': own }).end());
      expect(fieldOf(app.requests.at(-1)?.headers ?? [], 'grpc-timeout')).toBe(own);
    }
    // One that has not waited: as the plan of its headers has it.
    await answerOf(client.grpc('/shop.Raw/Quick').end());
    expect(parseTimeout(fieldOf(app.requests.at(-1)?.headers ?? [], 'grpc-timeout'))).toBeLessThanOrEqual(
      1_000,
    );
    await answerOf(client.request({ ':path': '/' }));
    expect(fieldOf(app.requests.at(-1)?.headers ?? [], 'grpc-timeout')).toBeUndefined();
  });
});

describe('a cancellation', () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair();
  });

  it('of a unary call is seen by the app', async () => {
    const running = pair.client.unary(Hang, EMPTY);
    await pair.app.saw('Hang', 'called');
    running.call.cancel();
    expect((await running).code).toBe(grpc.status.CANCELLED);
    await pair.app.saw('Hang', 'cancelled');
    const event = await pair.greeter.audit.event('call.completed', ({ method }) => method.endsWith('/Hang'));
    expect(event.grpcStatus).toBe(grpc.status.CANCELLED);
  });

  it('of each kind of stream is seen by the app', async () => {
    const up = pair.client.clientStream(Upload);
    up.call.write(EMPTY);
    const down = pair.client.serverStream(Trickle, EMPTY);
    const both = pair.client.bidi(Chat);
    both.call.write(EMPTY);
    await Promise.all(['Upload', 'Trickle', 'Chat'].map((method) => pair.app.saw(method, 'called')));
    for (const { call } of [up, down, both]) call.cancel();
    const answers = await Promise.all([up.answer, down.answer, both.answer]);
    expect(answers.map(({ code }) => code)).toEqual([1, 1, 1]);
    await Promise.all(['Upload', 'Trickle', 'Chat'].map((method) => pair.app.saw(method, 'cancelled')));
  });

  it('of a whole client is seen by the app, call by call', async () => {
    const client = new RawClient(pair.web.egress, SERVICE);
    const before = pair.app.sightings.filter(({ what }) => what === 'cancelled').length;
    for (let i = 0; i < 5; i++) client.grpc(Hang.path).end(framed(Buffer.alloc(0)));
    await pair.app.saw('Hang', 'called', 6);
    client.session.destroy();
    await pair.app.saw('Hang', 'cancelled', 6);
    expect(pair.app.sightings.filter(({ what }) => what === 'cancelled').length).toBe(before + 5);
  });

  it('leaves the session and the other calls alone', async () => {
    const { sessionId } = await pair.web.audit.event('session.created');
    const { message } = await pair.client.unary(SayHello, { name: 'Ada' });
    expect(message?.session).toBe(sessionId);
    expect(await pair.web.audit.of('session.closed')).toEqual([]);
    expect(await pair.web.metric('hauberk_calls_open')).toBe(0);
  });
});
