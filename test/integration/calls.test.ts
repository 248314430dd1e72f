import * as grpc from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Chat,
  Download,
  Echo,
  Fail,
  Hasty,
  ListFeatures,
  RecordRoute,
  RouteChat,
  SayHello,
  Trickle,
  Upload,
} from '../harness/greeter-methods.ts';
import { type Pair, startPair } from '../harness/sidecars.ts';

let pair: Pair;
beforeAll(async () => {
  pair = await startPair();
});

const BERKSHIRE = { latitude: 408122808, longitude: -743999179 };
const POHATCONG = { latitude: 407838351, longitude: -746143763 };
const EVERYWHERE = {
  lo: { latitude: 400000000, longitude: -750000000 },
  hi: { latitude: 420000000, longitude: -730000000 },
};

describe('all four kinds of call', () => {
  it('a unary call crosses two sidecars', async () => {
    const answer = await pair.client.unary(SayHello, { name: 'Ada' });
    expect(answer).toMatchObject({ code: 0, message: { message: 'Hello Ada, from greeter' } });
  });

  it('a server-streaming call brings every message in order', async () => {
    const { code, messages } = await pair.client.serverStream(ListFeatures, EVERYWHERE).answer;
    expect(code).toBe(0);
    expect(messages.map(({ name }) => name)).toEqual([
      'New York',
      'Pohatcong Mountain',
      'Berkshire Valley',
      'Patriots Path',
    ]);
  });

  it('a client-streaming call is answered once its last message was sent', async () => {
    const { call, answer } = pair.client.clientStream(RecordRoute);
    call.write(BERKSHIRE);
    call.write(POHATCONG);
    call.end();
    expect(await answer).toMatchObject({
      code: 0,
      message: { pointCount: 2, featureCount: 2, distance: 18_327 },
    });
  });

  it('a bidirectional call goes both ways at the same time', async () => {
    const { call, answer } = pair.client.bidi(RouteChat);
    const note = (message: string) => ({ location: BERKSHIRE, message });
    call.write(note('first'));
    call.write(note('second'));
    await new Promise((resolve) => call.once('data', resolve)); // an answer before our half-close
    call.write(note('third'));
    call.end();
    const { code, messages } = await answer;
    expect(code).toBe(0);
    expect(messages.map(({ message }) => message)).toEqual(['first', 'first', 'second']);
  });
});

describe('the ends of streams', () => {
  it('a half-close reaches the app, which answers after it', async () => {
    const { call, answer } = pair.client.clientStream(Upload);
    call.write({ data: Buffer.from('one') });
    call.write({ data: Buffer.from('three') });
    await pair.app.saw('Upload', 'called');
    call.end();
    await pair.app.saw('Upload', 'half-closed');
    expect(await answer).toMatchObject({ code: 0, message: { messages: 2, octets: 8 } });
  });

  it('a half-closed call goes on bringing answers', async () => {
    const { call, answer } = pair.client.bidi(Chat);
    call.end({ data: Buffer.from('last word') } as never);
    const { code, messages } = await answer;
    expect([code, messages.map(({ data }) => data.toString())]).toEqual([0, ['last word']]);
  });

  it('a stream without any message ends well', async () => {
    const { call, answer } = pair.client.clientStream(Upload);
    call.end();
    expect(await answer).toMatchObject({ code: 0, message: { messages: 0, octets: 0 } });
    const { call: chat, answer: quiet } = pair.client.bidi(Chat);
    chat.end();
    expect(await quiet).toMatchObject({ code: 0, messages: [] });
  });

  it('an early answer completes the call while its caller still sends', async () => {
    const { call, answer } = pair.client.clientStream(Hasty);
    call.write({ data: Buffer.alloc(1000) });
    expect(await answer).toMatchObject({ code: 0, message: { messages: 1, octets: 1000 } });
    const after = await pair.client.unary(SayHello, { name: 'Ada' });
    expect(after.code).toBe(0);
  });

  it('a first message arrives long before the last', async () => {
    const { call, answer } = pair.client.serverStream(
      Trickle,
      { data: Buffer.from('now') },
      { paused: true },
    );
    const first = await new Promise<{ data: Buffer }>((resolve) => call.once('data', resolve));
    expect(first.data.toString()).toBe('now');
    call.cancel();
    expect((await answer).code).toBe(grpc.status.CANCELLED);
    await pair.app.saw('Trickle', 'cancelled');
  });
});

describe('what the app answers', () => {
  it.each([
    [grpc.status.INVALID_ARGUMENT, 'plain text'],
    [grpc.status.NOT_FOUND, 'snow ☃, percent %, quote ", tab\t, newline\n, %20'],
    [grpc.status.UNAUTHENTICATED, ''],
    [grpc.status.DATA_LOSS, 'ü'.repeat(500)],
  ])('status %i keeps its code and its message', async (code, details) => {
    const answer = await pair.client.unary(Fail, { code, details });
    expect(answer).toMatchObject({ code, hauberkError: undefined });
    // Grpc-js fills in an absent message by itself.
    if (details !== '') expect(answer.details).toBe(details);
  });

  it('a method that the app does not have is UNIMPLEMENTED in its own words', async () => {
    const direct = pair.world.client(pair.app.address);
    const missing = { ...SayHello, path: '/hauberk.demo.v1.Greeter/SayGoodbye' };
    const wanted = await direct.unary(missing, { name: 'Ada' });
    const answer = await pair.client.unary(missing, { name: 'Ada' });
    expect(answer.code).toBe(grpc.status.UNIMPLEMENTED);
    expect(answer.details).toBe(wanted.details);
    expect(answer.hauberkError).toBeUndefined();
  });

  it('compressed messages pass as they are', async () => {
    const client = pair.newClient({
      options: { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip },
    });
    const data = Buffer.alloc(100_000, 'hauberk ');
    const { code, message } = await client.unary(Echo, { data });
    expect(code).toBe(0);
    expect(message?.data.equals(data)).toBe(true);
    const event = await pair.greeter.audit.event('call.completed', ({ method }) => method.endsWith('/Echo'));
    expect(event.requestBytes).toBeLessThan(data.length / 10);
  });
});

describe('many calls at once', () => {
  it('calls of one connection do not mix', async () => {
    const names = Array.from({ length: 500 }, (_, i) => `n${i}`);
    const answers = await Promise.all(names.map((name) => pair.client.unary(SayHello, { name })));
    expect(answers.map(({ message }) => message?.message)).toEqual(
      names.map((name) => `Hello ${name}, from greeter`),
    );
  });

  it('calls of many connections share one session', async () => {
    const clients = Array.from({ length: 10 }, () => pair.newClient());
    const answers = await Promise.all(clients.map((client) => client.unary(SayHello, { name: 'Ada' })));
    expect(new Set(answers.map(({ message }) => message?.session)).size).toBe(1);
    expect(await pair.web.audit.of('session.created')).toHaveLength(1);
  });

  it('streams of every kind run beside one another', async () => {
    const runs = Array.from({ length: 20 }, async (_, i) => {
      const { answer } = pair.client.serverStream(Download, { count: 20, size: 10_000 + i });
      const up = pair.client.clientStream(Upload);
      for (let n = 0; n < 20; n++) up.call.write({ data: Buffer.alloc(10_000 + i) });
      up.call.end();
      const [down, total] = await Promise.all([answer, up.answer]);
      expect(down.messages.map(({ data }) => data.length)).toEqual(Array(20).fill(10_000 + i));
      expect(total.message).toEqual({ messages: 20, octets: 20 * (10_000 + i) });
    });
    await Promise.all(runs);
  });
});

describe('the two ends of a session', () => {
  it('log the same session id, each the other as its peer', async () => {
    const { message } = await pair.client.unary(SayHello, { name: 'Ada' });
    const out = await pair.web.audit.event('session.created');
    const into = await pair.greeter.audit.event('session.created');
    expect(out).toMatchObject({ direction: 'outbound', peer: pair.greeter.ready.spiffeId });
    expect(into).toMatchObject({ direction: 'inbound', peer: pair.web.ready.spiffeId });
    expect(into.sessionId).toBe(out.sessionId);
    expect(message).toMatchObject({ peer: pair.web.ready.spiffeId, session: out.sessionId });
  });

  it('log each call with its session, method, status and size', async () => {
    const after = [await pair.web.audit.mark(), await pair.greeter.audit.mark()];
    await pair.client.unary(Fail, { code: 5, details: 'no such thing' });
    const { sessionId } = await pair.web.audit.event('session.created');
    const common = {
      sessionId,
      service: 'greeter.shop',
      method: '/hauberk.test.v1.Hooks/Fail',
      grpcStatus: 5,
    };
    const isFail = (event: { method: string }) => event.method.endsWith('/Fail');
    const at = [
      await pair.web.audit.event('call.completed', isFail, after[0]),
      await pair.greeter.audit.event('call.completed', isFail, after[1]),
    ];
    expect(at[0]).toMatchObject({ ...common, direction: 'egress', peer: pair.greeter.ready.spiffeId });
    expect(at[1]).toMatchObject({ ...common, direction: 'ingress', peer: pair.web.ready.spiffeId });
    expect(at[0]?.requestBytes).toBe(at[1]?.requestBytes);
    expect(at[0]?.requestBytes).toBeGreaterThan(5);
    expect(at[0]?.error).toBeUndefined();
  });
});
