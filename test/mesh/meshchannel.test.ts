import { EventEmitter, once } from 'node:events';
import * as grpc from '@grpc/grpc-js';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ErrorCode } from '../../src/http2/errors.ts';
import { type Answer, TestClient } from '../harness/greeter-client.ts';
import { settled } from '../relay/memorywire.ts';
import {
  channelTo,
  clientOn,
  clock,
  context,
  ECHO,
  type FarCall,
  farSide,
  serverSide,
} from './channelrig.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const { status } = grpc;

const text = (answer: Answer<Buffer>): string[] => answer.messages.map(String);
const turns = async (n: number): Promise<void> => {
  for (let i = 0; i < n; i++) await settled();
};
/** Answers with the request's own octets. */
const echo = (call: FarCall): void => {
  const onData = call.onData.bind(call);
  call.onData = (...args) => {
    onData(...args);
    if (!call.fin) return;
    call.headers().stream.send(call.body, 0, call.body.length, false);
    call.trailers({ 'grpc-status': '0' });
  };
};

describe('a call over a MeshChannel', () => {
  it('says what grpc-js says', async () => {
    const { far, client } = farSide();
    far.onCall = echo;
    const timers = clock.pending;
    const metadata = new grpc.Metadata();
    metadata.add('x-twice', 'one');
    metadata.add('x-twice', 'two');
    metadata.add('x-octets-bin', Buffer.from([0, 255]));
    const answer = await client.unary(ECHO, Buffer.from('hello'), { metadata, deadlineMs: 1e9 });
    expect([answer.code, text(answer)]).toEqual([status.OK, ['hello']]);
    const { fields } = far.calls[0]?.fields ?? { fields: [] };
    expect(fields.map(({ name, value }) => `${name}: ${value}`)).toEqual([
      ':method: POST',
      ':scheme: http',
      ':path: /test.Echo/Echo',
      ':authority: greeter',
      'te: trailers',
      'content-type: application/grpc',
      'grpc-accept-encoding: identity',
      'user-agent: test/1',
      expect.stringMatching(/^grpc-timeout: \d+/),
      'x-twice: one',
      'x-twice: two',
      'x-octets-bin: AP8=',
    ]);
    expect(clock.pending - timers).toBe(1); // its deadline's is gone, the connection's sweeper is there
  });

  it('gives metadata and trailers back, also what comes twice', async () => {
    const { far, client } = farSide();
    far.onCall = (call) => {
      call.headers({ ':status': '103' }).headers({ 'x-early': 'a' }).message('m');
      call.trailers({ 'grpc-status': '5', 'grpc-message': 'caf%C3%A9 %zz', 'x-bin': 'AP8=,AA==' });
    };
    const answer = await client.serverStream(ECHO, Buffer.alloc(0)).answer;
    expect(answer.headers?.get('x-early')).toEqual(['a']);
    expect(answer.trailers.get('x-bin')).toEqual([Buffer.from([0, 255]), Buffer.from([0])]);
    expect([answer.code, answer.details, text(answer)]).toEqual([5, 'caf%C3%A9 %zz', ['m']]);
  });

  it.each([
    [
      'trailers only',
      { 'grpc-status': '14', 'grpc-message': 'no%20peer', 'hauberk-error': 'unreachable' },
      14,
      'no peer',
    ],
    ['HTTP without gRPC', { ':status': '503', 'content-type': 'text/html' }, 14, /503/],
    ['another type with 200', { 'content-type': 'text/html' }, 2, /200|status/],
    ['nothing that is a status', {}, 2, /No status/],
  ])('has a status for %s', async (_what, fields, code, details) => {
    const { far, client } = farSide();
    far.onCall = (call) => call.only(fields as Record<string, string>);
    const answer = await client.unary(ECHO, Buffer.from('x'));
    expect(answer.code).toBe(code);
    expect(answer.details).toMatch(details);
    expect(answer.hauberkError).toBe((fields as Record<string, string>)['hauberk-error']);
  });

  it('reads all that came before an error, however slowly', async () => {
    const { far, client } = farSide();
    far.onCall = (call) => {
      call.headers();
      for (let i = 0; i < 50; i++) call.message(String(i));
      call.trailers({ 'grpc-status': '9' });
    };
    const { call, answer } = client.serverStream(ECHO, Buffer.alloc(0), { paused: true });
    await turns(3);
    const read: number[] = [];
    const ended = new Promise((resolve) => call.on('end', resolve));
    call.on('data', (message: Buffer) => {
      read.push(Number(message));
      call.pause();
      setImmediate(() => call.resume());
    });
    expect((await answer).code).toBe(9);
    await ended;
    expect(read).toEqual(Array.from({ length: 50 }, (_, i) => i));
  });

  it('holds no more than a window for a reader that does not read', async () => {
    const { far, client } = farSide({ maxReceive: -1 });
    far.onCall = (call) => {
      call.headers();
      for (let i = 0; i < 64; i++) call.message(Buffer.alloc(64 * KIB));
      call.trailers({ 'grpc-status': '0' });
    };
    const { call, answer } = client.serverStream(ECHO, Buffer.alloc(0), { paused: true });
    await turns(30);
    // The rest is what grpc-js reads ahead, at most 17 messages, and a window that has grown with them.
    const before = far.connections[0]?.queued ?? 0;
    expect(before).toBeGreaterThan(2 * MIB);
    await turns(30);
    expect(far.connections[0]?.queued).toBe(before);
    let messages = 0;
    call.on('data', () => void messages++);
    expect((await answer).code).toBe(0);
    expect(messages).toBe(64);
  });

  it('has a writer wait that nobody reads', async () => {
    const { far, client } = farSide();
    far.onCall = (call) => {
      call.onData = (_stream, _buf, start, end) => {
        held += end - start;
      };
    };
    let held = 0;
    const { call } = client.clientStream(ECHO);
    let written = 0;
    while (call.write(Buffer.alloc(16 * KIB)) && written < 100) written++;
    await turns(20);
    expect(call.writableNeedDrain).toBe(true);
    expect(held).toBeLessThanOrEqual(64 * KIB);
    call.cancel();
    await turns(3);
    expect(far.calls[0]?.reset?.[0]).toBe(ErrorCode.CANCEL);
  });

  it.each([
    ['compressed', { flag: 1 }, status.INTERNAL, /compressed/],
    ['too large', { claimed: 101 }, status.RESOURCE_EXHAUSTED, /larger than max \(101 vs 100\)/],
    ['half a message', { claimed: 9 }, status.INTERNAL, /middle of a message/],
  ])('refuses an answer that is %s', async (_what, options, code, details) => {
    const { far, client } = farSide({ maxReceive: 100 });
    far.onCall = (call) => call.headers().message('abc', options).trailers({ 'grpc-status': '0' });
    const answer = await client.serverStream(ECHO, Buffer.alloc(0)).answer;
    expect(answer.code).toBe(code);
    expect(answer.details).toMatch(details);
  });

  it('does not send a message above the limit', async () => {
    const { far, client } = farSide({ maxSend: 10 });
    const answer = await client.unary(ECHO, Buffer.alloc(11));
    expect([answer.code, far.calls.length]).toEqual([status.RESOURCE_EXHAUSTED, 0]);
    far.onCall = echo;
    expect((await client.unary(ECHO, Buffer.alloc(10))).code).toBe(status.OK);
  });

  it('ends at its deadline, and tells the other side', async () => {
    const { far, channel } = farSide();
    const client = new grpc.Client('x', grpc.credentials.createInsecure(), {
      channelOverride: channel as never,
    });
    const call = client.makeUnaryRequest(
      ECHO.path,
      ECHO.requestSerialize,
      ECHO.responseDeserialize,
      Buffer.from('x'),
      new grpc.Metadata(),
      { deadline: clock.now() + 5000 },
      () => {},
    );
    const ended = once(call, 'status');
    await turns(2);
    expect(far.calls[0]?.fields.get('grpc-timeout')).toBe('5000000u');
    clock.advance(4999);
    await turns(1);
    expect(far.calls[0]?.reset).toBeUndefined();
    clock.advance(1);
    const [{ code }] = await ended;
    await turns(1);
    expect([code, far.calls[0]?.reset?.[0]]).toEqual([status.DEADLINE_EXCEEDED, ErrorCode.CANCEL]);
  });

  it.each(['cancelled before', 'cancelled after'])('ends with the call that made it: %s', async (when) => {
    const { client } = farSide();
    const parent = Object.assign(new EventEmitter(), {
      cancelled: when === 'cancelled before',
      getDeadline: () => Number.POSITIVE_INFINITY,
    });
    const options = { options: { parent: parent as never } };
    const answer = client.unary(ECHO, Buffer.from('x'), options);
    if (when === 'cancelled after') {
      await turns(2);
      expect(parent.listenerCount('cancelled')).toBe(1);
      parent.emit('cancelled');
    }
    expect((await answer).code).toBe(status.CANCELLED);
    expect(parent.listenerCount('cancelled')).toBe(0);
  });

  it('is heard of by the server when it is cancelled', async () => {
    const server = new grpc.Server();
    const cancelled = new Promise<boolean>((resolve) => {
      server.addService(
        { Echo: ECHO },
        {
          Echo: (call: grpc.ServerUnaryCall<Buffer, Buffer>) =>
            call.on('cancelled', () => resolve(call.cancelled)),
        },
      );
    });
    onTestFinished(() => server.forceShutdown());
    const { client } = serverSide(server);
    const answer = client.unary(ECHO, Buffer.from('x'));
    await turns(10);
    answer.call.cancel();
    expect((await answer).code).toBe(status.CANCELLED);
    expect(await cancelled).toBe(true);
  });

  it('has the metadata of call credentials, or fails as they do', async () => {
    const { far, client } = farSide();
    far.onCall = echo;
    const urls: string[] = [];
    const token = grpc.credentials.createFromMetadataGenerator(({ service_url }, callback) => {
      urls.push(service_url);
      const metadata = new grpc.Metadata();
      metadata.set('authorization', 'Bearer abc');
      callback(null, metadata);
    });
    const failing = grpc.credentials.createFromMetadataGenerator((_options, callback) =>
      callback(new Error('no token')),
    );
    const good = await client.unary(ECHO, Buffer.from('x'), { options: { credentials: token } });
    expect(good.code).toBe(status.OK);
    expect(far.calls[0]?.fields.get('authorization')).toBe('Bearer abc');
    expect(urls).toEqual(['https://greeter/test.Echo']);
    const bad = await client.unary(ECHO, Buffer.from('x'), { options: { credentials: failing } });
    expect([bad.code, far.calls.length]).toEqual([status.UNAUTHENTICATED, 1]);
    expect(bad.details).toContain('no token');
  });

  it('passes interceptors', async () => {
    const { far, channel } = farSide();
    far.onCall = echo;
    const client = clientOn(channel, {
      interceptors: [
        (options, next) =>
          new grpc.InterceptingCall(next(options), {
            sendMessage: (message, forward) => forward(Buffer.from(`${message}!`)),
          }),
      ],
    });
    expect(text(await client.unary(ECHO, Buffer.from('hey')))).toEqual(['hey!']);
  });
});

describe('a call that the other side has not seen', () => {
  const refuse = (call: FarCall): void => call.stream.reset(ErrorCode.REFUSED_STREAM);

  it('goes out again whole', async () => {
    const { far, client } = farSide();
    far.onCall = (call) => (far.calls.length === 1 ? refuse(call) : echo(call));
    const body = Buffer.alloc(100 * KIB, 'x'); // more than a window
    const answer = await client.unary(ECHO, body);
    expect([answer.code, answer.message?.equals(body), far.calls.length]).toEqual([0, true, 2]);
  });

  it('does so three times in all', async () => {
    const { far, client } = farSide();
    far.onCall = refuse;
    const answer = await client.unary(ECHO, Buffer.from('x'));
    expect([answer.code, far.calls.length]).toEqual([status.UNAVAILABLE, 3]);
  });

  it('does not once too much was sent, or there was an answer', async () => {
    const { far, client } = farSide();
    const large = client.unary(ECHO, Buffer.alloc(MIB));
    while (far.calls[0]?.fin !== true) await turns(1);
    refuse(far.calls[0]);
    expect([(await large).code, far.calls.length]).toEqual([status.UNAVAILABLE, 1]);
    far.onCall = (call) => refuse(call.headers());
    expect((await client.unary(ECHO, Buffer.from('x'))).code).toBe(status.UNAVAILABLE);
    expect(far.calls.length).toBe(2);
  });

  it('goes to a new connection when the old one says GOAWAY, while others end there', async () => {
    const { far, client } = farSide();
    const old = client.unary(ECHO, Buffer.from('old'));
    await turns(2);
    far.onCall = echo;
    far.connections[0]?.drain('enough');
    await turns(2);
    expect(text(await client.unary(ECHO, Buffer.from('new')))).toEqual(['new']);
    expect(far.connections.length).toBe(2);
    far.calls[0]?.headers().message('at last').trailers({ 'grpc-status': '0' });
    expect(text(await old)).toEqual(['at last']);
    await turns(2);
    expect(far.ended).toEqual([true, false]);
  });

  it('goes to a new connection when stream identifiers are used up', async () => {
    const { far, client } = farSide({ firstStreamId: 2 ** 31 - 3 });
    far.onCall = echo;
    for (const name of ['a', 'b', 'c']) {
      expect(text(await client.unary(ECHO, Buffer.from(name)))).toEqual([name]);
    }
    const many = await Promise.all(['d', 'e', 'f'].map((name) => client.unary(ECHO, Buffer.from(name))));
    expect(many.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(far.connections.length).toBeGreaterThan(2);
    await turns(2);
    expect(far.ended.slice(0, -1).every((ended) => ended)).toBe(true);
  });

  it('waits its turn while all streams are taken', async () => {
    const { far, client } = farSide();
    const most = context.http2.appStreams;
    const all = Array.from({ length: most + 5 }, () => client.unary(ECHO, Buffer.from('x')));
    await turns(5);
    expect(far.calls.length).toBe(most);
    far.onCall = echo;
    for (const call of far.calls.slice(0, most)) call.only({ 'grpc-status': '0' });
    for (const { code } of await Promise.all(all)) expect(code).toBe(status.OK);
    expect(far.calls.length).toBe(most + 5);
  });
});

describe('a MeshChannel', () => {
  it('that is closed lets calls under way go on, and none begin', async () => {
    const { far, channel, client } = farSide();
    const under = client.unary(ECHO, Buffer.from('x'));
    await turns(2);
    channel.close();
    expect(() => client.unary(ECHO, Buffer.from('x'))).toThrow(/closed/);
    await turns(2);
    far.calls[0]?.headers().message('late').trailers({ 'grpc-status': '0' });
    expect(text(await under)).toEqual(['late']);
    await turns(2);
    expect(far.ended).toEqual([true]);
    expect(channel.getConnectivityState()).toBe(grpc.connectivityState.SHUTDOWN);
  });

  it('has nothing to say but that it is ready', async () => {
    const { channel, far } = farSide();
    const client = new TestClient('x', { options: { channelOverride: channel as never } });
    await new Promise<void>((resolve, reject) =>
      client.grpc.waitForReady(Date.now() + 20_000, (error) => (error ? reject(error) : resolve())),
    );
    expect(channel.getTarget()).toBe('hauberk:greeter');
    expect(far.connections.length).toBe(0); // the first call opens one
  });

  it('without an egress any more says so', async () => {
    const client = clientOn(channelTo(() => undefined));
    const answer = await client.unary(ECHO, Buffer.from('x'));
    expect([answer.code, answer.details]).toEqual([status.UNAVAILABLE, expect.stringContaining('has ended')]);
  });

  it('whose connection breaks fails the calls on it, and opens another', async () => {
    const { far, client } = farSide();
    const broken = client.unary(ECHO, Buffer.from('x'));
    await turns(2);
    far.connections[0]?.shutDown();
    expect((await broken).code).toBe(status.UNAVAILABLE);
    far.onCall = echo;
    expect((await client.unary(ECHO, Buffer.from('x'))).code).toBe(status.OK);
  });

  it('holds the process for calls, not for itself', async () => {
    const { far, client } = farSide();
    const before = clock.holds;
    const calls = [1, 2].map(() => client.unary(ECHO, Buffer.from('x')));
    await turns(2);
    expect(clock.holds - before).toBe(1);
    calls[0]?.call.cancel();
    await calls[0];
    expect(clock.holds - before).toBe(1);
    far.calls[1]?.only({ 'grpc-status': '0' });
    await calls[1];
    expect(clock.holds - before).toBe(0);
  });

  it('does not hold it for an answer that has come and is not read', async () => {
    const { far, client } = farSide();
    far.onCall = (call) => call.headers().message('one').message('two').trailers({ 'grpc-status': '0' });
    const before = clock.holds;
    const { call } = client.unary(ECHO, Buffer.from('x'));
    expect(clock.holds - before).toBe(1);
    await turns(5);
    expect(clock.holds - before).toBe(0);
    call.cancel();
    await turns(2);
    expect(clock.holds - before).toBe(0);
  });
});
