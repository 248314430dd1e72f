import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Stream } from '../../src/http2/stream.ts';
import { StreamTable } from '../../src/http2/streamtable.ts';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  Http2Peer,
  headers,
  list,
  PADDED,
  REQUEST,
  RESPONSE,
  rst,
  settings,
  T,
  TRAILERS,
  windowUpdate,
} from '../harness/http2-peer.ts';

const KIB = 1024;
const MAX_WINDOW = 2 ** 31 - 1;

/** DATA octets that have come on a stream since the last look, and whether it has ended. */
function received(peer: Http2Peer, id = 1): { octets: number; ended: boolean } {
  let octets = 0;
  let ended = false;
  for (const frame of peer.frames()) {
    if (frame.id !== id || (frame.type !== T.DATA && frame.type !== T.HEADERS)) continue;
    if (frame.type === T.DATA) octets += frame.payload.length;
    if ((frame.flags & END_STREAM) !== 0) ended = true;
  }
  return { octets, ended };
}

/** Increments of the WINDOW_UPDATEs since the last look, by stream. */
function credit(peer: Http2Peer): Record<number, number> {
  const sums: Record<number, number> = {};
  for (const { id, payload } of peer.framesOf(T.WINDOW_UPDATE)) {
    sums[id] = (sums[id] ?? 0) + payload.readUInt32BE(0);
  }
  return sums;
}

const send = (stream: Stream, octets: number, fin = false): number =>
  stream.send(Buffer.alloc(octets, 'x'), 0, octets, fin);

describe('sending (section 6.9)', () => {
  it('waits for a stream window of 0, and goes on octet by octet', () => {
    const peer = new Http2Peer({ announce: [[4, 0]] });
    const stream = peer.request(1);
    expect(send(stream, 3, true)).toBe(0);
    expect(received(peer)).toEqual({ octets: 0, ended: false });
    peer.write(windowUpdate(1, 1));
    expect(received(peer)).toEqual({ octets: 1, ended: false });
    peer.write(windowUpdate(1, 2));
    expect(received(peer)).toEqual({ octets: 2, ended: true });
    expect(peer.owner.heard.filter(({ what }) => what === 'taken')).toEqual([
      { what: 'taken', id: 1, n: 1 },
      { what: 'taken', id: 1, n: 2 },
    ]);
  });

  it('keeps to the connection window, which streams share in turn', () => {
    const peer = new Http2Peer({ announce: [[4, MAX_WINDOW]] });
    const first = peer.request(1);
    const second = peer.request(3);
    send(first, 65_535 + 40_000);
    send(second, 40_000);
    const before = peer.framesOf(T.DATA);
    expect(before.every(({ id }) => id === 1)).toBe(true);
    expect(before.reduce((sum, { payload }) => sum + payload.length, 0)).toBe(65_535);
    peer.write(windowUpdate(0, 60_000));
    expect(peer.framesOf(T.DATA).map(({ id }) => id)).toEqual([1, 3, 1, 3]);
  });

  it('uses a window of 2^31-1', () => {
    const peer = new Http2Peer({ announce: [[4, MAX_WINDOW]] });
    peer.write(windowUpdate(0, MAX_WINDOW - 65_535));
    const stream = peer.request(1);
    expect(send(stream, 3_000_000)).toBe(3_000_000);
    expect(received(peer).octets).toBe(3_000_000);
  });

  it('stops when SETTINGS shrink a window below zero, until it is above again (6.9.2)', () => {
    const peer = new Http2Peer({ announce: [[4, 1000]] });
    const stream = peer.request(1);
    send(stream, 900);
    expect(received(peer).octets).toBe(900);
    peer.write(settings([4, 100])); // the window is now -800
    send(stream, 50);
    expect(received(peer).octets).toBe(0);
    peer.write(windowUpdate(1, 800));
    expect(received(peer).octets).toBe(0);
    peer.write(windowUpdate(1, 1));
    expect(received(peer).octets).toBe(1);
    peer.write(settings([4, 1000]));
    expect(received(peer).octets).toBe(49);
  });

  it('needs no window for an empty frame that ends the stream', () => {
    const peer = new Http2Peer({ announce: [[4, 0]] });
    send(peer.request(1), 0, true);
    expect(received(peer)).toEqual({ octets: 0, ended: true });
  });

  it('leaves out empty frames that end nothing', () => {
    const peer = new Http2Peer();
    send(peer.request(1), 0);
    expect(peer.frames()).toEqual([]);
  });

  it('keeps to the peer’s frame size, also when it grows', () => {
    const peer = new Http2Peer({ announce: [[4, MAX_WINDOW]] });
    const stream = peer.request(1);
    send(stream, 20_000);
    expect(peer.framesOf(T.DATA).map(({ payload }) => payload.length)).toEqual([16_384, 3616]);
    peer.write(settings([5, 30_000]));
    send(stream, 31_000);
    expect(peer.framesOf(T.DATA).map(({ payload }) => payload.length)).toEqual([30_000, 1000]);
  });

  it('sends trailers behind what is queued, and nothing behind trailers', () => {
    const peer = new Http2Peer({ announce: [[4, 5]] });
    const stream = peer.request(1);
    stream.sendHeaders(list(RESPONSE), false);
    send(stream, 8);
    stream.sendTrailers(list(TRAILERS));
    expect(send(stream, 100)).toBe(100);
    stream.sendTrailers(list([['grpc-status', '2']]));
    expect(peer.frames().map(({ type }) => type)).toEqual([T.HEADERS, T.DATA]);
    peer.write(windowUpdate(1, 100));
    const rest = peer.frames();
    expect(rest.map(({ type, flags }) => [type, flags])).toEqual([
      [T.DATA, 0],
      [T.HEADERS, END_HEADERS | END_STREAM],
    ]);
    expect(rest[0]?.payload.length).toBe(3);
    expect(peer.connection.streams).toBe(0);
    expect(peer.connection.queued).toBe(0);
  });

  it('holds DATA back while the sink is full, but not control frames and headers', () => {
    const peer = new Http2Peer();
    peer.sink.writable = false;
    const stream = peer.request(1);
    stream.sendHeaders(list(RESPONSE), false);
    peer.turn();
    send(stream, 10);
    expect(received(peer)).toEqual({ octets: 0, ended: false });
    peer.drain();
    expect(received(peer).octets).toBe(10);
  });

  it('lets whoever waits go first when a window opens', () => {
    const peer = new Http2Peer({ announce: [[4, MAX_WINDOW]] });
    const first = peer.request(1);
    const second = peer.request(3);
    send(first, 65_535 + 10);
    peer.frames();
    peer.write(windowUpdate(0, 15));
    send(second, 10);
    expect(peer.framesOf(T.DATA).map(({ id, payload }) => [id, payload.length])).toEqual([
      [1, 10],
      [3, 5],
    ]);
  });

  it('forgets none that wait when many others that waited are reset', () => {
    const peer = new Http2Peer();
    const streams = Array.from({ length: 200 }, (_, i) => peer.request(1 + 2 * i));
    send(streams[0] as Stream, 65_535);
    for (const stream of streams.slice(1)) send(stream, 100);
    peer.write(windowUpdate(0, 50 * 100)); // the first fifty go
    peer.frames();
    for (const stream of streams.slice(60, 190)) peer.write(rst(stream.id, E.CANCEL));
    peer.write(windowUpdate(0, 100_000));
    const ids = peer.framesOf(T.DATA).map(({ id }) => id);
    expect(ids).toEqual([...streams.slice(51, 60), ...streams.slice(190)].map(({ id }) => id));
    expect(peer.connection.queued).toBe(0);
  });

  it('goes on after 20,000 streams that were reset while no window opened', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 1e9 } });
    const first = peer.request(1);
    send(first, 65_535); // the connection window is used up
    expect(received(peer).octets).toBe(65_535);
    for (let id = 3; id < 40_003; id += 2) {
      peer.write(headers(id, block(REQUEST), END_HEADERS | END_STREAM));
      send(peer.owner.streams.get(id) as Stream, 100);
      peer.write(rst(id, 8));
      peer.owner.streams.delete(id);
      peer.owner.take();
    }
    expect(peer.connection.queued).toBe(0);
    peer.write(windowUpdate(0, 100), windowUpdate(1, 100));
    send(first, 100);
    expect(received(peer).octets).toBe(100);
  });
});

describe('receiving (section 6.9)', () => {
  it('ends the stream whose DATA is beyond its window, with all credit given back', () => {
    const peer = new Http2Peer({ window: 200_000 });
    peer.owner.credits = false;
    peer.request(1, END_HEADERS);
    for (let i = 0; i < 4; i++) peer.write(data(1, Buffer.alloc(16_000)));
    peer.write(data(1, Buffer.alloc(1535)));
    expect(peer.connection.streams).toBe(1);
    expect(peer.connection.held).toBe(65_535);
    peer.write(data(1, 'x'));
    expect(peer.framesOf(T.RST_STREAM).map(({ payload }) => payload.readUInt32BE(0))).toEqual([
      E.FLOW_CONTROL_ERROR,
    ]);
    expect(peer.connection.held).toBe(0);
  });

  it('ends the connection whose DATA is beyond its window', () => {
    const peer = new Http2Peer({ settings: { initialWindowSize: MAX_WINDOW }, limits: { queueBytes: 1 } });
    peer.owner.credits = false;
    peer.request(1, END_HEADERS);
    // Far too much is held, so that no credit comes back.
    for (let left = 65_535; left > 0; left -= 16_000)
      peer.write(data(1, Buffer.alloc(Math.min(left, 16_000))));
    expect(peer.connection.ended).toBe(false);
    peer.write(data(1, 'x'));
    expect(peer.goawayCode()).toBe(E.FLOW_CONTROL_ERROR);
  });

  it('gives stream credit back when the owner has passed octets on, connection credit at once', () => {
    const peer = new Http2Peer();
    peer.owner.credits = false;
    const stream = peer.request(1, END_HEADERS);
    peer.write(data(1, Buffer.alloc(16_000)), data(1, Buffer.alloc(16_000)));
    expect(credit(peer)).toEqual({});
    peer.write(data(1, Buffer.alloc(1000)));
    expect(credit(peer)).toEqual({ 0: 33_000 });
    stream.credit(32_000);
    expect(credit(peer)).toEqual({});
    stream.credit(1000);
    // All had been passed on: the window doubles.
    expect(credit(peer)).toEqual({ 1: 33_000 + 65_535 });
  });

  it('counts padding, and gives it back', () => {
    const peer = new Http2Peer();
    peer.owner.credits = false;
    peer.request(1, END_HEADERS);
    const padded = Buffer.alloc(16_001);
    padded[0] = 255;
    for (let i = 0; i < 3; i++) peer.write(data(1, padded, PADDED));
    expect(peer.connection.held).toBe(3 * (16_001 - 256));
    expect(credit(peer)).toEqual({ 0: 48_003 });
  });

  it('gives credit back for DATA that nobody takes any more', () => {
    const peer = new Http2Peer();
    const stream = peer.request(1, END_HEADERS);
    stream.reset(E.CANCEL);
    for (let i = 0; i < 3; i++) peer.write(data(1, Buffer.alloc(16_000)));
    expect(credit(peer)).toEqual({ 0: 48_000 });
    expect(peer.connection.held).toBe(0);
  });

  it('lets a window double up to its limit while it is drained', () => {
    const peer = new Http2Peer({
      window: 1e9,
      settings: { initialWindowSize: 64 * KIB },
      limits: { maxStreamWindow: 300 * KIB },
    });
    peer.request(1, END_HEADERS);
    let window = 64 * KIB;
    let largest = window;
    for (let i = 0; i < 200; i++) {
      peer.write(data(1, Buffer.alloc(16 * KIB)));
      window += (credit(peer)[1] ?? 0) - 16 * KIB;
      largest = Math.max(largest, window);
    }
    expect(largest).toBe(300 * KIB);
  });

  it('lets windows double only while all of them together are within queueBytes', () => {
    const peer = new Http2Peer({
      window: 1e9,
      settings: { initialWindowSize: 64 * KIB },
      limits: { queueBytes: 256 * KIB },
    });
    const windows = [1, 3, 5].map((id) => {
      peer.request(id, END_HEADERS);
      return 64 * KIB;
    });
    for (let i = 0; i < 100; i++) {
      for (const at of [0, 1, 2]) {
        peer.write(data(1 + 2 * at, Buffer.alloc(16 * KIB)));
        windows[at]! += (credit(peer)[1 + 2 * at] ?? 0) - 16 * KIB;
      }
    }
    expect(windows[0]! + windows[1]! + windows[2]!).toBeLessThanOrEqual(256 * KIB);
    expect(Math.max(...windows)).toBeGreaterThan(64 * KIB);
  });

  it('lets windows double also after many streams that have ended, either way', () => {
    const peer = new Http2Peer({ window: 1e9, limits: { queueBytes: 1_000_000, resetBurst: 1e9 } });
    for (let id = 1; id < 401; id += 4) {
      peer.request(id).sendHeaders(list(RESPONSE), true);
      peer.request(id + 2, END_HEADERS);
      peer.write(rst(id + 2, E.CANCEL));
    }
    peer.request(1001, END_HEADERS);
    for (let i = 0; i < 3; i++) peer.write(data(1001, Buffer.alloc(16_000)));
    expect(credit(peer)[1001]).toBe(48_000 + 65_535);
  });

  it('does not let stalled streams stop another: 1,000 of them, and the 1,001st goes on', () => {
    const peer = new Http2Peer({ window: 4 * KIB * KIB, settings: { initialWindowSize: 64 * KIB } });
    peer.owner.credits = false;
    let connection = 4 * KIB * KIB;
    const put = (id: number): void => {
      for (let i = 0; i < 4; i++) peer.write(data(id, Buffer.alloc(16 * KIB)));
      connection += (credit(peer)[0] ?? 0) - 64 * KIB;
      peer.owner.take();
    };
    for (let i = 0; i < 1000; i++) {
      peer.request(1 + 2 * i, END_HEADERS);
      put(1 + 2 * i);
    }
    expect(peer.connection.held).toBe(64_000 * KIB);
    expect(connection).toBeGreaterThan(KIB * KIB);
    peer.owner.credits = true;
    peer.request(2001, END_HEADERS);
    for (let i = 0; i < 200; i++) put(2001);
    expect(connection).toBeGreaterThan(KIB * KIB);
  });

  it('withholds connection credit above four times queueBytes, and gives it back when that is passed on', () => {
    const peer = new Http2Peer({
      window: 100_000,
      settings: { initialWindowSize: 1_000_000 },
      limits: { queueBytes: 10_000 },
    });
    peer.owner.credits = false;
    const stream = peer.request(1, END_HEADERS);
    for (let i = 0; i < 6; i++) peer.write(data(1, Buffer.alloc(15_000)));
    expect(credit(peer)).toEqual({});
    stream.credit(51_000);
    expect(credit(peer)).toEqual({ 0: 90_000 });
  });
});

describe('what a stream holds', () => {
  const held = (peer: Http2Peer): number => peer.connection.held;

  it('counts after its end, until it has been passed on', () => {
    const peer = new Http2Peer();
    peer.owner.credits = false;
    const stream = peer.request(1, END_HEADERS);
    peer.write(data(1, 'abc', END_STREAM));
    stream.sendHeaders(list(RESPONSE), true);
    expect(peer.connection.streams).toBe(0);
    expect(held(peer)).toBe(3);
    stream.credit(2);
    expect(held(peer)).toBe(1);
    stream.credit(99);
    expect(held(peer)).toBe(0);
    stream.credit(1);
    expect(held(peer)).toBe(0);
  });

  it.each([
    ['we reset it', (_peer: Http2Peer, stream: Stream) => stream.reset(E.CANCEL)],
    ['the peer resets it', (peer: Http2Peer) => peer.write(rst(1, E.CANCEL))],
    ['it breaks a rule', (peer: Http2Peer) => peer.write(windowUpdate(1, 0))],
    [
      'its answer is complete first',
      (_peer: Http2Peer, stream: Stream) => stream.sendHeaders(list(RESPONSE), true),
    ],
    ['the transport goes', (peer: Http2Peer) => peer.connection.transportClosed()],
  ])('is given up when %s', (_how, end) => {
    const peer = new Http2Peer();
    peer.owner.credits = false;
    const stream = peer.request(1, END_HEADERS);
    peer.write(data(1, 'abc'));
    end(peer, stream);
    expect(held(peer)).toBe(0);
    stream.credit(3);
    expect(held(peer)).toBe(0);
  });

  it('is given up by a reset also after its end', () => {
    const peer = new Http2Peer();
    peer.owner.credits = false;
    const stream = peer.request(1, END_HEADERS);
    peer.write(data(1, 'abc', END_STREAM));
    stream.sendHeaders(list(RESPONSE), true);
    peer.frames();
    stream.reset(E.CANCEL);
    expect(held(peer)).toBe(0);
    expect(peer.frames()).toEqual([]);
  });
});

describe('what a stream has queued', () => {
  it.each([
    ['we reset it', (_peer: Http2Peer, stream: Stream) => stream.reset(E.CANCEL)],
    ['the peer resets it', (peer: Http2Peer) => peer.write(rst(1, E.CANCEL))],
    ['the transport goes', (peer: Http2Peer) => peer.connection.transportClosed()],
    ['the connection ends', (peer: Http2Peer) => peer.write(data(0, 'x'))],
  ])('is told as taken, once, when %s', (_how, end) => {
    const peer = new Http2Peer({ announce: [[4, 4]] });
    const stream = peer.request(1, END_HEADERS);
    expect(send(stream, 10)).toBe(4);
    end(peer, stream);
    peer.turn();
    expect(peer.owner.heard.filter(({ what }) => what === 'taken')).toEqual([{ what: 'taken', id: 1, n: 6 }]);
    expect(peer.connection.queued).toBe(0);
    expect(send(stream, 10)).toBe(10);
  });
});

describe('a stream that stalls while its connection is full', () => {
  it('is reset after stallMs, by what the peer does not take', () => {
    const peer = new Http2Peer({ announce: [[4, 0]], limits: { queueBytes: 1000, stallMs: 60_000 } });
    const stalled = peer.request(1);
    send(stalled, 900);
    peer.now += 50_000;
    const moving = peer.request(3);
    send(moving, 900);
    peer.now += 9_000;
    peer.write(windowUpdate(3, 1));
    peer.turn();
    peer.connection.sweep();
    expect(peer.connection.streams).toBe(2);
    peer.now += 1_000;
    peer.connection.sweep();
    expect(peer.framesOf(T.RST_STREAM).map(({ id }) => id)).toEqual([1]);
    expect(peer.owner.heard).toContainEqual({ what: 'reset', id: 1, code: E.CANCEL, origin: 'stalled' });
    expect(stalled.closed).toBe(true);
    expect(moving.closed).toBe(false);
  });

  it('is left alone while the connection is not full', () => {
    const peer = new Http2Peer({ announce: [[4, 0]], limits: { queueBytes: 1000 } });
    send(peer.request(1), 1000);
    peer.now += 3_600_000;
    peer.connection.sweep();
    expect(peer.connection.streams).toBe(1);
  });

  it('is looked for only while there is pressure: else a sweep walks no stream', () => {
    const walks = vi.spyOn(StreamTable.prototype, 'list');
    onTestFinished(() => walks.mockRestore());
    const peer = new Http2Peer({ announce: [[4, 0]], limits: { queueBytes: 1000, stallMs: 60_000 } });
    peer.owner.credits = false;
    const slow = peer.request(1, END_HEADERS);
    send(slow, 1000);
    peer.write(data(1, Buffer.alloc(1000)));
    walks.mockClear();
    peer.connection.sweep();
    expect(walks).not.toHaveBeenCalled();
    send(slow, 1);
    peer.connection.sweep();
    expect(walks).toHaveBeenCalledTimes(1);
    peer.write(data(1, 'x'));
    peer.connection.sweep();
    expect(walks).toHaveBeenCalledTimes(3);
  });

  it('is reset after stallMs, by what its owner does not pass on', () => {
    const peer = new Http2Peer({ limits: { queueBytes: 1000, stallMs: 60_000 } });
    peer.owner.credits = false;
    peer.request(1, END_HEADERS);
    const moving = peer.request(3, END_HEADERS);
    peer.write(data(1, Buffer.alloc(600)), data(3, Buffer.alloc(600)));
    for (let second = 0; second < 60; second++) {
      peer.connection.sweep();
      moving.credit(1);
      peer.write(data(3, 'x'));
      peer.now += 1000;
      expect(peer.connection.streams).toBe(2);
    }
    peer.connection.sweep();
    expect(peer.framesOf(T.RST_STREAM).map(({ id }) => id)).toEqual([1]);
    expect(peer.connection.held).toBe(600);
  });

  it('is told of it also when it has ended, so that its owner can give up', () => {
    const peer = new Http2Peer({ limits: { queueBytes: 100, stallMs: 60_000 } });
    peer.owner.credits = false;
    const stream = peer.request(1, END_HEADERS);
    peer.write(data(1, Buffer.alloc(600), END_STREAM));
    stream.sendHeaders(list(RESPONSE), true);
    peer.frames();
    peer.connection.sweep();
    peer.now += 60_000;
    peer.connection.sweep();
    expect(peer.owner.heard).toContainEqual({ what: 'reset', id: 1, code: E.CANCEL, origin: 'stalled' });
    expect(peer.connection.held).toBe(0);
    expect(peer.frames()).toEqual([]);
  });
});
