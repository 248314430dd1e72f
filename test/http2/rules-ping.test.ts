import { describe, expect, it } from 'vitest';
import {
  ACK,
  block,
  data,
  E,
  END_HEADERS,
  Http2Peer,
  headers,
  ping,
  REQUEST,
  RESPONSE,
  T,
} from '../harness/http2-peer.ts';

// Issue 3: "keepalive PINGs answered first and too_many_pings enforced".

const kinds = (peer: Http2Peer): string[] =>
  peer.frames().map(({ type, flags }) => (type === T.PING && flags === ACK ? 'PONG' : String(type)));

describe('a keepalive PING', () => {
  it('is answered before DATA that is queued', () => {
    const peer = new Http2Peer();
    const stream = peer.request(1);
    peer.sink.writable = false;
    stream.send(Buffer.alloc(10), 0, 10, false);
    peer.frames();
    stream.send(Buffer.alloc(1000), 0, 1000, false); // waits for the sink
    expect(kinds(peer)).toEqual([]);
    peer.write(ping('keepaliv'));
    expect(kinds(peer)).toEqual(['PONG']);
    peer.drain();
    expect(kinds(peer)).toEqual([String(T.DATA)]);
  });

  it('is answered while no window is open', () => {
    const peer = new Http2Peer({ announce: [[4, 0]] });
    const stream = peer.request(1);
    stream.send(Buffer.alloc(1000), 0, 1000, true);
    peer.write(ping('keepaliv'));
    expect(kinds(peer)).toEqual(['PONG']);
  });

  it('of the called side is answered like one of the caller', () => {
    const peer = new Http2Peer({ role: 'client' });
    const stream = peer.open();
    stream.send(Buffer.alloc(70_000), 0, 70_000, true);
    peer.frames();
    peer.write(ping('keepaliv'));
    expect(peer.frames().map(({ payload }) => payload.toString('latin1'))).toEqual(['keepaliv']);
  });
});

describe('too many PINGs', () => {
  const flood = (peer: Http2Peer, count: number): void => {
    for (let i = 0; i < count; i++) peer.write(ping());
  };

  it('end the connection as gRPC clients understand it: ENHANCE_YOUR_CALM, "too_many_pings"', () => {
    const peer = new Http2Peer({ limits: { floodFrames: 20 } });
    flood(peer, 20);
    expect(peer.connection.ended).toBe(false);
    flood(peer, 1);
    const goaway = peer.framesOf(T.GOAWAY);
    expect(goaway).toHaveLength(1);
    expect(goaway[0]?.payload.readUInt32BE(4)).toBe(E.ENHANCE_YOUR_CALM);
    expect(goaway[0]?.payload.toString('latin1', 8)).toBe('too_many_pings');
    expect(peer.owner.error?.kind).toBe('ping');
  });

  it('are none while calls are at work: each HEADERS and DATA forgives them', () => {
    const peer = new Http2Peer({ limits: { floodFrames: 20 } });
    peer.request(1, END_HEADERS);
    for (let i = 0; i < 20; i++) {
      flood(peer, 20);
      peer.write(data(1, 'x'));
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('end a connection to the called side alike, with nothing else said', () => {
    const peer = new Http2Peer({ role: 'client', limits: { floodFrames: 20 } });
    const stream = peer.open();
    peer.write(headers(stream.id, block(RESPONSE)));
    flood(peer, 21);
    expect(peer.goawayCode()).toBe(E.ENHANCE_YOUR_CALM);
    expect(peer.owner.heard).toContainEqual({
      what: 'reset',
      id: stream.id,
      code: E.ENHANCE_YOUR_CALM,
      origin: 'connection',
    });
  });

  it('are never sent by us: idle or busy, a connection asks only when it drains', () => {
    const peer = new Http2Peer();
    peer.request(1, END_HEADERS, REQUEST);
    for (let i = 0; i < 3600; i++) {
      peer.now += 1000;
      peer.connection.sweep();
    }
    expect(peer.framesOf(T.PING)).toEqual([]);
  });
});
