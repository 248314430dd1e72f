import { describe, expect, it } from 'vitest';
import type { Stream } from '../../src/http2/stream.ts';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  goaway,
  Http2Peer,
  headers,
  RESPONSE,
  rst,
  T,
  TRAILERS,
} from '../harness/http2-peer.ts';

/** A client that may reset 10 streams at once and 5 a second. */
const client = (more: { waiting?: number; streams?: number } = {}): Http2Peer => {
  const { waiting = 1000, streams } = more;
  const announce: Array<[number, number]> = streams === undefined ? [] : [[3, streams]];
  return new Http2Peer({
    role: 'client',
    announce,
    limits: { ownResets: { burst: 10, perSecond: 5, waiting } },
  });
};
const open = (peer: Http2Peer, n: number, fin = true): Stream[] =>
  Array.from({ length: n }, () => peer.open(undefined, fin));
const cancel = (streams: Stream[]): void => {
  for (const stream of streams) stream.reset(E.CANCEL);
};
const resets = (peer: Http2Peer): number[] => peer.framesOf(T.RST_STREAM).map(({ id }) => id);
const second = (peer: Http2Peer): number[] => {
  peer.now += 1000;
  peer.connection.sweep();
  return resets(peer);
};
const ids = (first: number, n: number): number[] => Array.from({ length: n }, (_, i) => first + 2 * i);

describe('a client that cancels many calls at once', () => {
  it('resets a burst, the others at a rate, in their order, each once and with its code', () => {
    const peer = client();
    const streams = open(peer, 22);
    cancel(streams.slice(0, 21));
    streams[21]?.reset(E.NO_ERROR);
    expect(resets(peer)).toEqual(ids(1, 10));
    expect(second(peer)).toEqual(ids(21, 5));
    expect(second(peer)).toEqual(ids(31, 5));
    peer.now += 1000;
    peer.connection.sweep();
    const last = peer.framesOf(T.RST_STREAM).map(({ id, payload }) => [id, payload.readUInt32BE(0)]);
    expect(last).toEqual([
      [41, E.CANCEL],
      [43, E.NO_ERROR],
    ]);
    expect(second(peer)).toEqual([]);
  });

  it('has a burst again after a while without resets', () => {
    const peer = client();
    cancel(open(peer, 10));
    expect(resets(peer)).toHaveLength(10);
    peer.now += 60_000;
    cancel(open(peer, 12));
    expect(resets(peer)).toHaveLength(10);
  });

  it('does not let a later reset overtake one that waits', () => {
    const peer = client();
    cancel(open(peer, 11));
    resets(peer);
    peer.now += 1000;
    cancel(open(peer, 1));
    expect(resets(peer)).toEqual([]);
    peer.connection.sweep();
    expect(resets(peer)).toEqual([21, 23]);
  });

  it('hears no more of the calls, whatever comes for them, and returns its credit for it', () => {
    const peer = client();
    const streams = open(peer, 11);
    cancel(streams);
    peer.owner.take();
    peer.write(headers(21, block(RESPONSE)), data(21, Buffer.alloc(16_384)), data(21, Buffer.alloc(16_384)));
    expect(peer.owner.take()).toEqual([]);
    expect(peer.framesOf(T.WINDOW_UPDATE).map(({ id }) => id)).toEqual([0]);
    expect(peer.connection.held).toBe(0);
    peer.write(headers(21, block(TRAILERS), END_HEADERS | END_STREAM));
    expect(peer.owner.take()).toEqual([]);
    expect(peer.connection.ended).toBe(false);
  });

  it.each([
    ['its answer ended', headers(21, block([...RESPONSE, ...TRAILERS]), END_HEADERS | END_STREAM)],
    ['its peer reset', rst(21, E.CANCEL)],
    ['its peer refused', goaway(19, E.NO_ERROR)],
  ])('resets no stream that %s meanwhile', (_how, octets) => {
    const peer = client();
    const streams = open(peer, 11);
    const other = streams[0] as Stream;
    cancel(streams.slice(1));
    cancel(open(peer, 1)); // 23, which waits
    expect(resets(peer)).toEqual(ids(3, 10));
    peer.write(octets);
    expect(second(peer)).toEqual(octets.readUInt8(3) === T.GOAWAY ? [] : [23]);
    expect(other.closed).toBe(false);
  });

  it('does reset a stream whose answer ended before its request did: the peer waits for the rest', () => {
    const peer = client();
    cancel(open(peer, 11, false));
    resets(peer);
    peer.write(headers(21, block([...RESPONSE, ...TRAILERS]), END_HEADERS | END_STREAM));
    expect(second(peer)).toEqual([21]);
  });

  it('opens no more streams than its peer takes, which counts those whose reset waits', () => {
    const peer = client({ streams: 12 });
    cancel(open(peer, 12));
    expect(peer.connection.canOpen).toBe(true);
    open(peer, 10);
    expect(peer.connection.canOpen).toBe(false);
    const { rooms } = peer.owner;
    second(peer);
    expect(peer.owner.rooms).toBeGreaterThan(rooms);
    open(peer, 2);
    expect(peer.connection.canOpen).toBe(false);
  });

  it('takes no new streams while too many resets wait: another connection does', () => {
    const peer = client({ waiting: 5 });
    cancel(open(peer, 15));
    expect([peer.connection.canOpen, peer.connection.exhausted]).toEqual([true, false]);
    cancel(open(peer, 1));
    expect([peer.connection.canOpen, peer.connection.exhausted]).toEqual([false, true]);
    second(peer);
    expect([peer.connection.canOpen, peer.connection.exhausted]).toEqual([true, false]);
  });

  it('as a server resets at once: nobody counts that', () => {
    const peer = new Http2Peer({ limits: { ownResets: { burst: 1, perSecond: 1, waiting: 1 } } });
    for (let i = 0; i < 50; i++) peer.request(1 + 2 * i, END_HEADERS).reset(E.CANCEL);
    expect(resets(peer)).toHaveLength(50);
  });
});
