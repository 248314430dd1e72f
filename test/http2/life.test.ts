import { describe, expect, it } from 'vitest';
import { ConnectionError } from '../../src/http2/errors.ts';
import {
  ACK,
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  goaway,
  Http2Peer,
  headers,
  list,
  ping,
  REQUEST,
  RESPONSE,
  rst,
  T,
  TRAILERS,
  windowUpdate,
} from '../harness/http2-peer.ts';

const MAX_ID = 2 ** 31 - 1;
const goaways = (peer: Http2Peer): Array<[last: number, code: number]> =>
  peer.framesOf(T.GOAWAY).map(({ payload }) => [payload.readUInt32BE(0), payload.readUInt32BE(4)]);

describe('a graceful end (section 6.8)', () => {
  it('of a server is in two steps: what is on its way is still taken', () => {
    const peer = new Http2Peer();
    peer.request(1);
    peer.connection.drain('shutdown');
    const frames = peer.frames();
    expect(frames.map(({ type }) => type)).toEqual([T.GOAWAY, T.PING]);
    expect(frames[0]?.payload.readUInt32BE(0)).toBe(MAX_ID);
    expect(frames[0]?.payload.toString('latin1', 8)).toBe('shutdown');
    const second = peer.request(3);
    peer.write(ping(frames[1]?.payload.toString('latin1'), ACK));
    expect(goaways(peer)).toEqual([[3, E.NO_ERROR]]);
    peer.owner.streams.get(1)?.sendHeaders(list(RESPONSE), true);
    peer.turn();
    expect(peer.connection.ended).toBe(false);
    second.sendHeaders(list(RESPONSE), true);
    peer.turn();
    expect(peer.owner.heard.at(-1)).toEqual({ what: 'end', code: undefined, kind: undefined });
  });

  it('ignores what comes above the last stream, and gives its credit back', () => {
    const peer = new Http2Peer();
    peer.request(1, END_HEADERS);
    peer.connection.drain('');
    peer.connection.finishDrain();
    peer.frames();
    peer.write(
      headers(3, block(REQUEST)),
      data(3, Buffer.alloc(16_000)),
      data(3, Buffer.alloc(16_000)),
      data(3, Buffer.alloc(16_000), END_STREAM),
    );
    expect(peer.owner.heard.filter(({ what }) => what === 'request')).toHaveLength(1);
    expect(peer.frames().map(({ type, id }) => [type, id])).toEqual([[T.WINDOW_UPDATE, 0]]);
    expect(peer.connection.ended).toBe(false);
  });

  it('never names a higher last stream later, not even in a fatal GOAWAY', () => {
    const peer = new Http2Peer();
    peer.request(1, END_HEADERS);
    peer.connection.drain('');
    peer.connection.finishDrain();
    peer.write(headers(99, block(REQUEST)), data(0, 'x'));
    expect(goaways(peer)).toEqual([
      [MAX_ID, E.NO_ERROR],
      [1, E.NO_ERROR],
      [1, E.PROTOCOL_ERROR],
    ]);
  });

  it('another PING’s ACK is not the second step', () => {
    const peer = new Http2Peer();
    peer.request(1);
    peer.connection.drain('');
    peer.frames();
    peer.write(ping('hbkdrai\0', ACK));
    expect(goaways(peer)).toEqual([]);
  });

  it('without streams ends with the second step', () => {
    const peer = new Http2Peer();
    peer.connection.drain('');
    peer.turn();
    expect(peer.connection.ended).toBe(false);
    peer.connection.finishDrain();
    peer.turn();
    expect(peer.owner.ends).toBe(1);
  });

  it('of a client is one GOAWAY, and the end of its last stream', () => {
    const peer = new Http2Peer({ role: 'client' });
    const stream = peer.open(REQUEST, true);
    peer.connection.drain('done');
    peer.connection.drain('done again');
    expect(goaways(peer)).toEqual([[0, E.NO_ERROR]]);
    expect(peer.connection.canOpen).toBe(false);
    peer.write(headers(stream.id, block(RESPONSE), END_HEADERS | END_STREAM));
    peer.turn();
    expect(peer.owner.ends).toBe(1);
  });
});

describe('a peer’s GOAWAY', () => {
  it('gives streams above its last back, and lets the others finish', () => {
    const peer = new Http2Peer({ role: 'client' });
    const ids = [0, 1, 2].map(() => peer.open(REQUEST, true).id);
    peer.write(goaway(MAX_ID, E.NO_ERROR));
    expect(peer.connection.canOpen).toBe(false);
    expect(peer.connection.exhausted).toBe(true);
    expect(peer.connection.streams).toBe(3);
    peer.write(goaway(3, E.NO_ERROR, 'bye\r\n\x1b[0m'));
    expect(peer.owner.heard).toContainEqual({ what: 'goaway', last: 3, code: 0, debug: 'bye???[0m' });
    expect(peer.owner.heard.at(-1)).toEqual({
      what: 'reset',
      id: 5,
      code: E.REFUSED_STREAM,
      origin: 'refused',
    });
    expect(ids).toEqual([1, 3, 5]);
    peer.write(headers(1, block(RESPONSE), END_HEADERS | END_STREAM));
    peer.turn();
    expect(peer.connection.ended).toBe(false);
    peer.write(headers(3, block(RESPONSE), END_HEADERS | END_STREAM));
    peer.turn();
    expect(peer.owner.ends).toBe(1);
  });

  it('ends a connection without streams at the next flush', () => {
    const peer = new Http2Peer({ role: 'client' });
    peer.write(goaway(0, E.NO_ERROR));
    expect(peer.owner.ends).toBe(0);
    peer.turn();
    expect(peer.owner.ends).toBe(1);
  });

  it('of a client does not end what it has begun', () => {
    const peer = new Http2Peer();
    peer.request(1);
    peer.write(goaway(0, E.NO_ERROR));
    peer.turn();
    expect(peer.connection.streams).toBe(1);
  });
});

describe('the end', () => {
  it('at once tells every stream, then the owner, once, and writes GOAWAY last', () => {
    const peer = new Http2Peer();
    peer.request(1);
    peer.request(3, END_HEADERS);
    peer.owner.take();
    peer.connection.shutDown();
    peer.connection.shutDown();
    peer.connection.transportClosed();
    expect(peer.owner.heard).toEqual([
      { what: 'reset', id: 1, code: E.CANCEL, origin: 'connection' },
      { what: 'reset', id: 3, code: E.CANCEL, origin: 'connection' },
      { what: 'end', code: undefined, kind: undefined },
    ]);
    expect(goaways(peer)).toEqual([[3, E.NO_ERROR]]);
  });

  it('of the transport writes nothing', () => {
    const peer = new Http2Peer();
    peer.request(1).sendHeaders(list(RESPONSE), false);
    peer.connection.transportClosed();
    expect(peer.frames()).toEqual([]);
    expect(peer.owner.ends).toBe(1);
  });

  it('in the middle of a write of the sink is borne', () => {
    const peer = new Http2Peer({ announce: [[4, MAX_ID]], capacity: 4096 });
    peer.write(windowUpdate(0, 1e6));
    const stream = peer.request(1);
    const write = peer.sink.write.bind(peer.sink);
    let writes = 0;
    peer.sink.write = (buffer, start, end) => {
      if (++writes === 3) peer.connection.transportClosed();
      return write(buffer, start, end);
    };
    stream.send(Buffer.alloc(100_000), 0, 100_000, true);
    expect(writes).toBe(3);
    expect(peer.owner.ends).toBe(1);
    expect(peer.connection.queued).toBe(0);
  });

  it('in the middle of a write of what was queued is borne, and all of it is told as taken', () => {
    const peer = new Http2Peer({ announce: [[4, 10]], capacity: 4096 });
    peer.write(windowUpdate(0, 1e6));
    const stream = peer.request(1);
    let done = stream.send(Buffer.alloc(300_000), 0, 300_000, true);
    peer.turn();
    peer.owner.react = (event) => {
      if (event.what === 'taken') done += event.n;
    };
    const write = peer.sink.write.bind(peer.sink);
    let writes = 0;
    peer.sink.write = (buffer, start, end) => {
      if (++writes === 30) peer.connection.transportClosed();
      return write(buffer, start, end);
    };
    peer.write(windowUpdate(1, 1e6));
    peer.turn();
    expect(writes).toBe(30);
    expect(done).toBe(300_000);
    expect(peer.owner.ends).toBe(1);
  });

  it('by a handler that throws is the connection’s alone: INTERNAL_ERROR, with the cause for its owner', () => {
    const peer = new Http2Peer();
    const bug = new Error('a bug');
    peer.owner.react = (event) => {
      if (event.what === 'request') throw bug;
    };
    peer.write(headers(1, block(REQUEST)));
    expect(peer.goawayCode()).toBe(E.INTERNAL_ERROR);
    expect(peer.owner.error).toBeInstanceOf(ConnectionError);
    expect(peer.owner.error).toMatchObject({ side: 'local', cause: bug });
  });
});

/** What a handler may do to its connection while it is called. */
const DEEDS: Array<[string, (peer: Http2Peer) => void]> = [
  ['resets the stream', (peer) => peer.owner.streams.get(1)?.reset(E.CANCEL)],
  ['ends its side', (peer) => peer.owner.streams.get(1)?.sendTrailers(list(TRAILERS))],
  ['drains the connection', (peer) => peer.connection.drain('')],
  ['shuts the connection down', (peer) => peer.connection.shutDown()],
  ['fails the connection', (peer) => peer.connection.fail(new ConnectionError(E.INTERNAL_ERROR, 'x'))],
  ['loses the transport', (peer) => peer.connection.transportClosed()],
  ['credits too much', (peer) => peer.owner.streams.get(1)?.credit(1e9)],
  [
    'flushes',
    (peer) => {
      peer.scheduled = 0;
      peer.connection.flush();
    },
  ],
];

const MOMENTS: Array<[string, Buffer]> = [
  ['request', headers(1, block(REQUEST))],
  ['data', data(1, 'x')],
  ['data', data(1, 'x', END_STREAM)],
  ['trailers', headers(1, block(TRAILERS), END_HEADERS | END_STREAM)],
  ['reset', rst(1, E.CANCEL)],
  ['stream-error', windowUpdate(1, 0)],
  ['taken', windowUpdate(1, 3)],
  ['goaway', goaway(0, 0)],
];

describe('a handler', () => {
  const rows = MOMENTS.flatMap(([what, octets]) => DEEDS.map(([deed, run]) => ({ what, octets, deed, run })));

  it.each(rows)('that $deed on $what leaves nothing half done', ({ what, octets, run }) => {
    const peer = new Http2Peer({ announce: [[4, 5]] });
    if (what !== 'request') {
      const stream = peer.request(1, END_HEADERS);
      peer.request(3, END_HEADERS);
      if (what === 'taken') stream.send(Buffer.alloc(8), 0, 8, true);
      peer.turn();
    }
    let done = false;
    peer.owner.react = (event) => {
      if (done || event.what !== what) return;
      done = true;
      run(peer);
    };
    peer.write(Buffer.concat([octets, ping(), headers(9, block(REQUEST), END_HEADERS | END_STREAM)]));
    if (peer.connection.ended) expect(peer.owner.heard.at(-1)?.what).toBe('end');
    peer.turn();
    expect(done).toBe(true);
    expect(peer.owner.error?.cause).toBeUndefined();
    // However it stands, it can be ended, and then everything has been told and is accounted for.
    peer.connection.shutDown();
    expect(peer.owner.ends).toBe(1);
    expect(peer.connection.streams).toBe(0);
    expect(peer.connection.queued).toBe(0);
    expect(peer.owner.heard.at(-1)?.what).toBe('end');
    expect(
      peer.owner.heard.filter((event) => event.what === 'reset' && event.id === 1).length,
    ).toBeLessThanOrEqual(1);
    expect(peer.frames().filter(({ type }) => type === T.GOAWAY).length).toBeLessThanOrEqual(2);
  });
});
