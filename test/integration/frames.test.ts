import { once } from 'node:events';
import { constants } from 'node:http2';
import { beforeAll, describe, expect, it } from 'vitest';
import { answerOf, fieldOf, framed, RawApp, RawClient } from '../harness/rawh2.ts';
import { ingressTo, type Pair, SERVICE, startPair, World } from '../harness/sidecars.ts';

const METHOD = '/shop.Raw/Call';

let pair: Pair;
let app: RawApp;
let client: RawClient;
beforeAll(async () => {
  const world = await World.make();
  app = await RawApp.start();
  pair = await startPair({ world, greeter: ingressTo(world, app.address) });
  client = new RawClient(pair.web.egress, SERVICE);
});

const GRPC_HEADERS = { ':status': 200, 'content-type': 'application/grpc' };

describe('a gRPC answer', () => {
  it('that is trailers-only stays trailers-only', async () => {
    app.onRequest(({ stream }) =>
      stream.respond(
        { ...GRPC_HEADERS, 'grpc-status': '5', 'grpc-message': 'no %E2%98%83' },
        { endStream: true },
      ),
    );
    const answer = await answerOf(client.grpc(METHOD).end(framed(Buffer.from('x'))));
    expect(answer).toMatchObject({ ended: true, trailers: [], rstCode: 0 });
    expect(answer.headers).toEqual([
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['grpc-status', '5'],
      ['grpc-message', 'no %E2%98%83'],
      ['date', expect.any(String)],
    ]);
  });

  it('with trailers keeps them trailers, duplicates and order included', async () => {
    app.onRequest(({ stream }) => {
      stream.respond({ ...GRPC_HEADERS, 'x-b': ['1', '2'], 'x-a': '3' }, { waitForTrailers: true });
      stream.once('wantTrailers', () =>
        stream.sendTrailers({ 'grpc-status': '0', 'x-t-bin': ['AAE', 'AAI'], 'x-s': 'z', 'x-r': 'y' }),
      );
      stream.end(framed(Buffer.from('answer')));
    });
    const answer = await answerOf(client.grpc(METHOD).end(framed(Buffer.from('x'))));
    expect(answer.ended).toBe(false);
    expect(answer.headers.slice(0, 5)).toEqual([
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['x-b', '1'],
      ['x-b', '2'],
      ['x-a', '3'],
    ]);
    expect(answer.body.equals(framed(Buffer.from('answer')))).toBe(true);
    expect(answer.trailers).toEqual([
      ['grpc-status', '0'],
      ['x-t-bin', 'AAE'],
      ['x-t-bin', 'AAI'],
      ['x-s', 'z'],
      ['x-r', 'y'],
    ]);
  });

  it('keeps the compressed flag, and octets that are no valid message at all', async () => {
    const odd = Buffer.concat([framed(Buffer.from('squeezed'), true), Buffer.from([0, 0, 0])]);
    app.onRequest(({ stream }) => {
      stream.respond({ ...GRPC_HEADERS, 'grpc-encoding': 'x-odd' }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(odd);
    });
    const answer = await answerOf(client.grpc(METHOD).end());
    expect(answer.body.equals(odd)).toBe(true);
    expect(fieldOf(answer.headers, 'grpc-encoding')).toBe('x-odd');
  });
});

describe('a request', () => {
  it('keeps its fields, their order and duplicates; the service’s name and who calls are added', async () => {
    const coming = app.next();
    const stream = client.grpc(METHOD, {
      'x-z': ['1', '2', '1'],
      'x-a-bin': ['AAE', 'AAI'],
      'x-m': 'v; "w"',
    });
    const { headers, stream: at } = await coming;
    at.respond({ ...GRPC_HEADERS, 'grpc-status': '0' }, { endStream: true });
    stream.end();
    await answerOf(stream);
    const { sessionId } = await pair.web.audit.event('session.created');
    expect(headers).toEqual([
      [':authority', SERVICE],
      [':method', 'POST'],
      [':path', METHOD],
      [':scheme', 'http'],
      ['content-type', 'application/grpc'],
      ['te', 'trailers'],
      ['x-z', '1'],
      ['x-z', '2'],
      ['x-z', '1'],
      ['x-a-bin', 'AAE'],
      ['x-a-bin', 'AAI'],
      ['x-m', 'v; "w"'],
      ['hauberk-peer', pair.web.ready.spiffeId],
      ['hauberk-session', sessionId],
    ]);
  });

  it('cannot say who calls in its trailers, nor with a _', async () => {
    const coming = app.next();
    const stream = client.grpc(METHOD, { hauberk_peer: 'admin' }, { waitForTrailers: true } as object);
    stream.once('wantTrailers', () => stream.sendTrailers({ 'hauberk-peer': 'admin', 'x-last': 'kept' }));
    const { headers, stream: at } = await coming;
    const trailers = new Promise<object>((resolve) => void at.once('trailers', resolve));
    at.resume();
    stream.end('body');
    expect(Object.entries(await trailers)).toEqual([['x-last', 'kept']]);
    expect(headers.filter(([name]) => name.startsWith('hauberk')).map(([name]) => name)).toEqual([
      'hauberk-peer',
      'hauberk-session',
    ]);
    at.respond({ ...GRPC_HEADERS, 'grpc-status': '0' }, { endStream: true });
    await answerOf(stream);
  });

  it('that ends with its headers ends with them at the app', async () => {
    const coming = app.next();
    const stream = client.grpc(METHOD, {}, { endStream: true });
    const { ended, stream: at } = await coming;
    expect(ended).toBe(true);
    at.respond({ ...GRPC_HEADERS, 'grpc-status': '0' }, { endStream: true });
    await answerOf(stream);
  });

  it('that ends with an empty DATA frame later is half-closed then, not before', async () => {
    const coming = app.next();
    const stream = client.grpc(METHOD);
    const { ended, stream: at } = await coming;
    expect(ended).toBe(false);
    at.resume();
    expect(at.readableEnded).toBe(false);
    stream.end(); // an empty DATA frame with END_STREAM
    await once(at, 'end');
    at.respond({ ...GRPC_HEADERS, 'grpc-status': '0' }, { endStream: true });
    expect((await answerOf(stream)).rstCode).toBe(constants.NGHTTP2_NO_ERROR);
  });

  it('whose caller trails it keeps its trailers', async () => {
    const coming = app.next();
    const stream = client.grpc(METHOD, {}, { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers({ 'x-checksum': 'abc' }));
    stream.end(framed(Buffer.from('x')));
    const { stream: at } = await coming;
    at.resume();
    const [trailers] = (await once(at, 'trailers')) as [Record<string, string>];
    expect(trailers['x-checksum']).toBe('abc');
    at.respond({ ...GRPC_HEADERS, 'grpc-status': '0' }, { endStream: true });
    await answerOf(stream);
  });

  it('that its caller resets is reset at the app', async () => {
    const coming = app.next();
    const stream = client.grpc(METHOD);
    const { stream: at } = await coming;
    stream.close(constants.NGHTTP2_CANCEL);
    await once(at, 'close');
    expect(at.rstCode).toBe(constants.NGHTTP2_CANCEL);
  });
});

describe('a reset by the app', () => {
  it.each([
    ['CANCEL', constants.NGHTTP2_CANCEL],
    ['REFUSED_STREAM', constants.NGHTTP2_REFUSED_STREAM],
    ['INTERNAL_ERROR', constants.NGHTTP2_INTERNAL_ERROR],
    ['ENHANCE_YOUR_CALM', constants.NGHTTP2_ENHANCE_YOUR_CALM],
  ])('with %s keeps its code', async (_name, code) => {
    app.onRequest(({ stream }) => stream.close(code));
    const { rstCode, headers } = await answerOf(client.grpc(METHOD));
    expect(rstCode).toBe(code);
    expect(headers).toEqual([]);
  });

  it('after a complete answer discards nothing of it', async () => {
    const answered = framed(Buffer.alloc(200_000, 1));
    app.onRequest(({ stream }) => {
      stream.respond(GRPC_HEADERS, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(answered);
    });
    // The caller never ends its side: the app's server resets the stream with NO_ERROR once it has answered.
    const answer = await answerOf(client.grpc(METHOD));
    expect(answer.body.equals(answered)).toBe(true);
    expect(fieldOf(answer.trailers, 'grpc-status')).toBe('0');
    expect(answer.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
  });
});

describe('HTTP/2 that is not gRPC', () => {
  it('a GET passes unchanged', async () => {
    app.onRequest(({ stream }) => {
      stream.respond({
        ':status': 203,
        'content-type': 'text/plain',
        etag: '"x"',
        'set-cookie': ['a=1', 'b=2'],
      });
      stream.end('hello');
    });
    const answer = await answerOf(client.request({ ':method': 'GET', ':path': '/page?a=b&c=%20' }));
    expect(fieldOf(answer.headers, ':status')).toBe('203');
    expect(answer.headers.filter(([name]) => name === 'set-cookie').map(([, value]) => value)).toEqual([
      'a=1',
      'b=2',
    ]);
    expect(answer.body.toString()).toBe('hello');
    expect(fieldOf(app.requests.at(-1)?.headers ?? [], ':path')).toBe('/page?a=b&c=%20');
  });

  it('a POST brings its body to the app and the app’s back', async () => {
    const body = Buffer.alloc(300_000, 'body ');
    app.onRequest(({ stream }) => {
      stream.respond({ ':status': 201 });
      stream.pipe(stream);
    });
    const stream = client.request({ ':method': 'POST', ':path': '/', 'content-length': body.length });
    const answer = await answerOf(stream.end(body));
    expect(fieldOf(answer.headers, ':status')).toBe('201');
    expect(answer.body.equals(body)).toBe(true);
  });

  it.each([204, 304, 404, 500, 503])('status %i is the app’s own', async (status) => {
    app.onRequest(({ stream }) => stream.respond({ ':status': status }, { endStream: true }));
    const answer = await answerOf(client.request({ ':method': 'GET', ':path': '/' }));
    expect(fieldOf(answer.headers, ':status')).toBe(String(status));
    expect(answer.ended).toBe(true);
  });

  it('HEAD and its content-length pass', async () => {
    app.onRequest(({ stream }) =>
      stream.respond({ ':status': 200, 'content-length': 12345 }, { endStream: true }),
    );
    const answer = await answerOf(client.request({ ':method': 'HEAD', ':path': '/' }));
    expect(fieldOf(answer.headers, 'content-length')).toBe('12345');
    expect(answer.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
  });

  it('informational answers come before the final one', async () => {
    app.onRequest(({ stream }) => {
      stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
      stream.respond({ ':status': 200 }, { endStream: true });
    });
    const stream = client.request({ ':method': 'GET', ':path': '/' });
    const early = once(stream, 'headers') as Promise<[Record<string, unknown>]>;
    const answer = await answerOf(stream);
    expect((await early)[0]).toMatchObject({ ':status': 103, link: '</style.css>; rel=preload' });
    expect(fieldOf(answer.headers, ':status')).toBe('200');
  });
});
