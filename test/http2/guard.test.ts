import { describe, expect, it } from 'vitest';
import {
  ACK,
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  frame,
  goaway,
  Http2Peer,
  headers,
  list,
  ping,
  REQUEST,
  RESPONSE,
  rst,
  settings,
  settingsAck,
  T,
  TRAILERS,
  u32,
  windowUpdate,
} from '../harness/http2-peer.ts';

const ended = (peer: Http2Peer): { code: number | undefined; kind: string | undefined } | undefined => {
  const end = peer.owner.heard.find(({ what }) => what === 'end');
  return end?.what === 'end' ? { code: end.code, kind: end.kind } : undefined;
};

const crossed = (kind: string): { code: number; kind: string } => ({ code: E.ENHANCE_YOUR_CALM, kind });

const times = (n: number, octets: Buffer): Buffer => Buffer.concat(Array.from({ length: n }, () => octets));

/** Frames of which 200 in 10 s are let pass; the first request is on stream 1. */
const FLOODS: Array<[kind: string, what: string, octets: Buffer]> = [
  ['ping', 'PING', ping()],
  ['ping', 'PING ACKs that answer nothing', ping('whatever', ACK)],
  ['settings', 'SETTINGS', settings()],
  ['settings', 'SETTINGS ACKs that answer nothing', settingsAck()],
  ['priority', 'PRIORITY', frame(T.PRIORITY, 0, 1, Buffer.concat([u32(0), Buffer.from([1])]))],
  ['goaway', 'GOAWAY', goaway(1, 0)],
  ['empty-frame', 'empty DATA', data(1, '')],
  ['empty-frame', 'DATA of padding alone', data(1, Buffer.from([3, 0, 0, 0]), 0x8)],
  ['empty-frame', 'empty DATA on a stream that we reset', data(3, '')],
  ['unknown-frame', 'frames of an unknown type', frame(0xbe, 0, 0, 'what?')],
];

describe('floods of frames', () => {
  const fresh = (): Http2Peer => {
    const peer = new Http2Peer({ limits: { floodFrames: 200, floodWindowMs: 10_000 } });
    peer.now += 10_000; // the handshake's SETTINGS are another window's
    peer.request(1, END_HEADERS);
    peer.request(3, END_HEADERS).reset(E.CANCEL);
    return peer;
  };

  it.each(FLOODS)('%s: 200 of %s pass, one more ends the connection', (kind, _what, octets) => {
    const peer = fresh();
    peer.write(times(200, octets));
    expect(peer.connection.ended).toBe(false);
    peer.write(octets);
    expect(ended(peer)).toEqual(crossed(kind));
    expect(peer.goawayCode()).toBe(E.ENHANCE_YOUR_CALM);
  });

  it.each(FLOODS)('%s: %s count anew after 10 s', (_kind, _what, octets) => {
    const peer = fresh();
    for (let i = 0; i < 5; i++) {
      peer.write(times(200, octets));
      peer.now += 10_000;
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('window-update: 10 go with each frame of traffic; of others 200 pass in 10 s', () => {
    const peer = fresh(); // 2 HEADERS came
    peer.owner.streams.get(1)?.sendHeaders(list(RESPONSE), false);
    for (let i = 0; i < 500; i++) {
      peer.write(times(5, windowUpdate(1, 1)), times(5, windowUpdate(0, 1)));
      peer.owner.streams.get(1)?.send(Buffer.from('x'), 0, 1, false);
    }
    expect(peer.connection.ended).toBe(false);
    // However late they come: what was sent is paid for.
    peer.now += 100_000;
    peer.write(times(30, windowUpdate(1, 1)), times(200, windowUpdate(3, 1)));
    expect(peer.connection.ended).toBe(false);
    peer.now += 10_000;
    peer.write(times(200, windowUpdate(0, 1)));
    expect(peer.connection.ended).toBe(false);
    peer.write(windowUpdate(0, 1));
    expect(ended(peer)).toEqual(crossed('window-update'));
  });

  it('closed-stream: 4 resets that come late go with each stream; of others 200 pass in 10 s', () => {
    const peer = fresh(); // 2 streams, of which 3 is over
    peer.write(times(208, rst(3, E.CANCEL)));
    expect(peer.connection.ended).toBe(false);
    for (let i = 0; i < 1000; i++) {
      const id = 5 + 2 * i;
      peer.request(id).sendHeaders(list(RESPONSE), true);
      peer.write(times(4, rst(id, E.CANCEL)));
    }
    expect(peer.connection.ended).toBe(false);
    peer.now += 10_000;
    peer.write(times(200, rst(3, E.CANCEL)));
    expect(peer.connection.ended).toBe(false);
    peer.write(rst(3, E.CANCEL));
    expect(ended(peer)).toEqual(crossed('closed-stream'));
  });

  it('closed-stream: HEADERS for streams that we have reset count as well', () => {
    const peer = fresh();
    const trailers = headers(3, block(TRAILERS), END_HEADERS | END_STREAM);
    peer.write(times(208, trailers));
    expect(peer.connection.ended).toBe(false);
    peer.write(trailers);
    expect(ended(peer)).toEqual(crossed('closed-stream'));
  });

  it('DATA for a stream that we have reset may fill the window that it had, and no more', () => {
    const peer = fresh();
    peer.write(times(3, data(3, Buffer.alloc(16_384))), data(3, Buffer.alloc(16_383)));
    expect(peer.connection.ended).toBe(false);
    peer.write(data(3, 'x'));
    expect(ended(peer)).toEqual({ code: E.FLOW_CONTROL_ERROR, kind: undefined });
  });

  it('PINGs count only since the last HEADERS or DATA of the peer', () => {
    const peer = fresh();
    for (let i = 0; i < 10; i++) peer.write(times(150, ping()), data(1, 'x'));
    for (let i = 0; i < 10; i++) {
      peer.write(times(150, ping()), headers(5 + 2 * i, block(REQUEST), END_HEADERS | END_STREAM));
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('PINGs count only since our last HEADERS or DATA: a client measures a download so', () => {
    const peer = fresh();
    const stream = peer.owner.streams.get(1);
    stream?.sendHeaders(list(RESPONSE), false);
    for (let i = 0; i < 50; i++) {
      peer.write(times(150, ping()));
      stream?.send(Buffer.from('x'), 0, 1, false);
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('DATA on a stream that is over is no traffic that would excuse PINGs', () => {
    const peer = fresh();
    for (let i = 0; i < 2; i++) peer.write(times(150, ping()), data(3, 'x'));
    expect(ended(peer)).toEqual(crossed('ping'));
  });

  it('empty DATA that ends a stream is no flood, and an empty frame goes to nobody', () => {
    const peer = fresh();
    peer.write(times(100, data(1, '')));
    expect(peer.owner.heard.filter(({ what }) => what === 'data')).toEqual([]);
    for (let id = 5; id < 2005; id += 2) {
      peer.write(headers(id, block(REQUEST)), data(id, '', END_STREAM));
      peer.owner.streams.get(id)?.sendHeaders(list(TRAILERS), true);
    }
    expect(peer.connection.ended).toBe(false);
  });
});

describe('frames of any kind', () => {
  const peerOf = (framesPerSecond: number): Http2Peer => {
    const peer = new Http2Peer({ limits: { framesPerSecond } });
    peer.request(1, END_HEADERS);
    peer.now += 1000; // what the beginning took is over
    peer.write(times(framesPerSecond - 3, data(1, 'x'))); // with SETTINGS, their ACK and HEADERS as many as a second may bring
    return peer;
  };

  it('one more than a second may bring ends the connection', () => {
    const peer = peerOf(1000);
    peer.write(times(1000, data(1, 'x')));
    expect(peer.connection.ended).toBe(false);
    peer.now += 999;
    peer.write(data(1, 'x'));
    expect(ended(peer)).toEqual(crossed('frames'));
  });

  it('as many as a second may bring, second after second, are no flood', () => {
    const peer = peerOf(1000);
    for (let second = 0; second < 20; second++) {
      for (let part = 0; part < 10; part++) {
        peer.write(times(100, data(1, 'x')));
        peer.now += 100;
      }
    }
    expect(peer.connection.ended).toBe(false);
  });
});

describe('the log of frames', () => {
  it('hears types, flags, streams and lengths both ways from when it is set until it is taken away', () => {
    const peer = new Http2Peer();
    const stream = peer.request(1, END_HEADERS);
    const seen: string[] = [];
    peer.write(data(1, 'before'));
    peer.connection.frameLog = { frame: (...frame) => seen.push(frame.join(' ')) };
    peer.write(data(1, 'hello', END_STREAM), ping());
    stream.sendHeaders(list(RESPONSE), false);
    stream.send(Buffer.from('to you'), 0, 6, false);
    peer.turn();
    peer.connection.frameLog = undefined;
    peer.write(ping());
    peer.turn();
    expect(seen.filter((line) => line.startsWith('in'))).toEqual(['in 0 1 1 5', 'in 6 0 0 8']);
    const out = seen.filter((line) => line.startsWith('out'));
    expect(out).toContain('out 6 1 0 8');
    expect(out).toContain('out 0 0 1 6');
    expect(out.filter((line) => line.startsWith('out 1 4 1 '))).toHaveLength(1);
    expect(out.length).toBeLessThan(6);
  });
});

describe('header blocks', () => {
  const piece = (last: boolean, octets = 'x'): Buffer =>
    frame(T.CONTINUATION, last ? END_HEADERS : 0, 1, octets);

  it('of 8 frames are read, of 9 not (CVE-2024-27316)', () => {
    const whole = block(REQUEST);
    const read = new Http2Peer();
    read.write(headers(1, whole.subarray(0, 5), 0));
    for (let i = 0; i < 6; i++) read.write(piece(false, ''));
    read.write(frame(T.CONTINUATION, END_HEADERS, 1, whole.subarray(5)));
    expect(read.owner.heard.map(({ what }) => what)).toEqual(['request']);

    const refused = new Http2Peer();
    refused.write(headers(1, whole, 0), times(7, piece(false, '')));
    expect(refused.connection.ended).toBe(false);
    refused.write(piece(false, ''));
    expect(ended(refused)).toEqual(crossed('continuation'));
  });

  it.each([
    ['in one frame', (octets: Buffer) => [headers(1, octets)]],
    [
      'in two',
      (octets: Buffer) => [
        headers(1, octets.subarray(0, 500), 0),
        frame(T.CONTINUATION, END_HEADERS, 1, octets.subarray(500)),
      ],
    ],
  ])('above headerBlockBytes end the connection, %s', (_how, frames) => {
    const limits = { headerBlockBytes: 1000 };
    const fill = 1000 - block([...REQUEST, ['x', '']]).length;
    // Lengths from 127 on take two octets instead of one.
    const just = block([...REQUEST, ['x', 'v'.repeat(fill - 2)]]);
    expect(just.length).toBe(1000);
    const peer = new Http2Peer({ limits });
    peer.write(...frames(just));
    expect(peer.connection.ended).toBe(false);
    const refused = new Http2Peer({ limits });
    refused.write(...frames(block([...REQUEST, ['x', 'v'.repeat(fill - 1)]])));
    expect(ended(refused)).toEqual(crossed('header-list'));
  });

  it('that unpack to more than the list limit are answered by the owner, and the table stays right', () => {
    const peer = new Http2Peer({ settings: { maxHeaderListSize: 1000 } });
    // Literal with incremental indexing, then 50 references to it: an HPACK bomb.
    const bomb = Buffer.concat([
      block(REQUEST),
      Buffer.from([0x40, 1, 0x61, 30]),
      Buffer.from('b'.repeat(30)),
      Buffer.alloc(50, 0xbe),
    ]);
    peer.write(headers(1, bomb, END_HEADERS | END_STREAM));
    expect(peer.owner.heard).toEqual([{ what: 'oversize', id: 1, fin: true }]);
    peer.write(headers(3, Buffer.concat([block(REQUEST), Buffer.from([0xbe])]), END_HEADERS | END_STREAM));
    expect(peer.owner.heard.at(-1)).toMatchObject({
      what: 'request',
      fields: [...REQUEST, ['a', 'b'.repeat(30)]],
    });
  });

  it('of trailers above the list limit end their stream', () => {
    const peer = new Http2Peer({ settings: { maxHeaderListSize: 1000 } });
    peer.request(1, END_HEADERS);
    peer.write(headers(1, block([['x', 'v'.repeat(1000)]]), END_HEADERS | END_STREAM));
    expect(peer.owner.heard).toContainEqual({
      what: 'reset',
      id: 1,
      code: E.ENHANCE_YOUR_CALM,
      origin: 'oversize',
    });
    expect(peer.connection.ended).toBe(false);
  });
});

describe('interim responses', () => {
  it('16 pass; one more ends the stream, and nothing else', () => {
    const peer = new Http2Peer({ role: 'client' });
    for (const id of [1, 3]) {
      peer.open();
      const interim = headers(id, block([[':status', '103']]));
      peer.write(times(16, interim));
      expect(peer.owner.take().filter(({ what }) => what === 'headers')).toHaveLength(16);
      peer.write(interim);
      expect(peer.owner.take()).toEqual([
        { what: 'reset', id, code: E.PROTOCOL_ERROR, origin: 'local' },
        { what: 'stream-error', id, code: E.PROTOCOL_ERROR },
      ]);
    }
    expect(peer.connection.ended).toBe(false);
  });
});

describe('SETTINGS entries', () => {
  const entries = (n: number): Buffer =>
    settings(...Array.from({ length: n }, () => [0x99, 1] as [number, number]));

  it('32 are read, 33 end the connection', () => {
    const peer = new Http2Peer();
    peer.write(entries(32));
    expect(peer.connection.ended).toBe(false);
    peer.write(entries(33));
    expect(ended(peer)).toEqual(crossed('settings'));
  });
});

describe('resets', () => {
  const openAndReset = (peer: Http2Peer, id: number): void =>
    peer.write(headers(id, block(REQUEST)), rst(id, E.CANCEL));
  const openAndEnd = (peer: Http2Peer, id: number): void => {
    peer.request(id).sendHeaders(list(RESPONSE), true);
  };

  it('rapid-reset: an app may reset 1,000 streams, and then no more than half of the recent ones (CVE-2023-44487)', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 1000, resets: { maxRatio: 0.5 } } });
    let id = 1;
    for (let i = 0; i < 1000; i++, id += 2) openAndReset(peer, id);
    expect(peer.connection.ended).toBe(false);
    openAndReset(peer, id);
    expect(ended(peer)).toEqual(crossed('rapid-reset'));
  });

  it('rapid-reset: a busy app that resets four of ten for ever is no attacker', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 100, resets: { maxRatio: 0.5 } } });
    for (let i = 0; i < 10_000; i++) {
      if (i % 10 < 4) openAndReset(peer, 1 + 2 * i);
      else openAndEnd(peer, 1 + 2 * i);
      if (i % 100 === 0) peer.frames();
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('rapid-reset: one that resets every other stream, as chance has it, is no attacker', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 1000, resets: { maxRatio: 0.5 } } });
    let state = 1;
    for (let i = 0; i < 40_000; i++) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0; // a coin that falls alike in every run
      if (state >>> 31 === 1) openAndReset(peer, 1 + 2 * i);
      else openAndEnd(peer, 1 + 2 * i);
      if (i % 100 === 0) peer.frames();
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('rapid-reset: one that resets every stream, a hundred a second, is no attacker', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 1000, resets: { maxRatio: 0.5 } } });
    for (let i = 0; i < 10_000; i++) {
      peer.now += 10;
      openAndReset(peer, 1 + 2 * i);
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('rapid-reset: a reset that the owner excuses is not counted', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 1000, resets: { maxRatio: 0.5 } } });
    let excuses = true;
    peer.owner.react = (event, stream) => {
      if (event.what === 'reset' && excuses) stream?.excuse();
    };
    for (let i = 0; i < 10_000; i++) openAndReset(peer, 1 + 2 * i);
    expect(peer.connection.ended).toBe(false);
    excuses = false;
    for (let i = 10_000; i < 20_000 && !peer.connection.ended; i++) openAndReset(peer, 1 + 2 * i);
    expect(ended(peer)).toEqual(crossed('rapid-reset'));
  });

  it('rapid-reset: one that begins to reset six of ten is stopped, however good it was', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 100, resets: { maxRatio: 0.5 } } });
    let id = 1;
    for (let i = 0; i < 5000; i++, id += 2) openAndEnd(peer, id);
    let opened = 0;
    for (; !peer.connection.ended && opened < 5000; opened++, id += 2) {
      if (opened % 10 < 6) openAndReset(peer, id);
      else openAndEnd(peer, id);
    }
    expect(ended(peer)).toEqual(crossed('rapid-reset'));
    expect(opened).toBeLessThan(3000);
  });

  it('rapid-reset: inside a session a burst, and then so many a second', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 1000, resets: { perSecond: 500 } } });
    let id = 1;
    for (let i = 0; i < 1000; i++, id += 2) openAndReset(peer, id);
    for (let second = 0; second < 20; second++) {
      peer.now += 1000;
      for (let i = 0; i < 500; i++, id += 2) openAndReset(peer, id);
    }
    expect(peer.connection.ended).toBe(false);
    peer.now += 1;
    openAndReset(peer, id);
    expect(ended(peer)).toEqual(crossed('rapid-reset'));
  });

  it('rapid-reset: inside a session every moment counts, however uneven', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 10, resets: { perSecond: 500 } } });
    let id = 1;
    for (let i = 0; i < 500; i++) {
      for (const resets of [1, 2]) {
        peer.now += 3;
        for (let n = 0; n < resets; n++, id += 2) openAndReset(peer, id);
      }
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('rapid-reset: a session that was idle for long gets no larger burst', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 100, resets: { perSecond: 10 } } });
    peer.now += 3_600_000;
    for (let i = 0; i < 100; i++) openAndReset(peer, 1 + 2 * i);
    expect(peer.connection.ended).toBe(false);
    openAndReset(peer, 1001);
    expect(ended(peer)).toEqual(crossed('rapid-reset'));
  });

  it('rapid-reset: the owner hears of each reset, also of the last', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 3 } });
    for (let i = 0; i < 4; i++) openAndReset(peer, 1 + 2 * i);
    expect(peer.owner.heard.filter(({ what }) => what === 'reset')).toHaveLength(4);
    expect(peer.connection.ended).toBe(true);
  });

  it('provoked-reset: to make us reset counts like resetting (CVE-2025-8671)', () => {
    const peer = new Http2Peer({ limits: { resetBurst: 1000, resets: { maxRatio: 0.5 } } });
    let id = 1;
    for (let i = 0; i < 1000; i++, id += 2) peer.write(headers(id, block(REQUEST)), windowUpdate(id, 0));
    expect(peer.connection.ended).toBe(false);
    peer.write(headers(id, block(REQUEST)), windowUpdate(id, 0));
    expect(ended(peer)).toEqual(crossed('provoked-reset'));
  });

  it('provoked-reset: a server that makes its client reset every stream is left, one that does rarely is not', () => {
    const peer = new Http2Peer({ role: 'client', limits: { resetBurst: 10, resets: { maxRatio: 0.5 } } });
    const provoke = (id: number): void => {
      peer.open();
      peer.write(headers(id, block([['x', 'no status']]), END_HEADERS));
    };
    let id = 1;
    for (let i = 0; i < 100; i++, id += 2) {
      if (i % 3 === 0) provoke(id);
      else {
        peer.open(undefined, true);
        peer.write(headers(id, block(RESPONSE), END_HEADERS | END_STREAM));
      }
    }
    expect(peer.connection.ended).toBe(false);
    for (let i = 0; i < 40 && !peer.connection.ended; i++, id += 2) provoke(id);
    expect(ended(peer)).toEqual(crossed('provoked-reset'));
  });

  it('provoked-reset: streams above the limit are refused, and for ever they end the connection', () => {
    const peer = new Http2Peer({
      settings: { maxConcurrentStreams: 2 },
      limits: { resetBurst: 10, resets: { maxRatio: 0.5 } },
    });
    peer.request(1);
    peer.request(3);
    for (let i = 0; i < 10; i++) peer.write(headers(5 + 2 * i, block(REQUEST)));
    const resets = peer.framesOf(T.RST_STREAM);
    expect(resets).toHaveLength(10);
    expect(resets.every(({ payload }) => payload.readUInt32BE(0) === E.REFUSED_STREAM)).toBe(true);
    expect(peer.connection.ended).toBe(false);
    peer.write(headers(25, block(REQUEST)));
    expect(ended(peer)).toEqual(crossed('provoked-reset'));
  });
});

describe('a peer that does not read', () => {
  const deaf = (queueBytes = 1e9): Http2Peer => {
    const peer = new Http2Peer({
      limits: { controlQueue: 1000, floodFrames: 1e9, resetBurst: 1e9, queueBytes },
    });
    peer.sink.writable = false;
    peer.request(1, END_HEADERS).sendHeaders(list(RESPONSE), false);
    peer.turn();
    return peer;
  };

  it('has 1,000 control frames queued; one more ends the connection', () => {
    const peer = deaf();
    peer.write(times(1000, ping()));
    peer.turn();
    expect(peer.connection.ended).toBe(false);
    peer.write(ping());
    expect(ended(peer)).toEqual(crossed('control-queue'));
  });

  it('is read no further in the middle of a read that fills the queue', () => {
    const peer = deaf();
    peer.write(times(20_000, ping()));
    expect(ended(peer)).toEqual(crossed('control-queue'));
    expect(peer.framesOf(T.PING)).toHaveLength(1001);
  });

  it('is forgiven what it has read', () => {
    const peer = deaf();
    for (let i = 0; i < 5; i++) {
      peer.write(times(900, ping()));
      peer.turn();
      peer.drain();
      peer.sink.writable = false;
      peer.owner.streams.get(1)?.send(Buffer.from('x'), 0, 1, false);
      peer.turn();
    }
    expect(peer.connection.ended).toBe(false);
  });

  it('ends the connection at its own flush when an owner’s resets fill the queue, and throws at no owner', () => {
    const peer = deaf();
    for (let i = 0; i < 1001; i++) peer.request(3 + 2 * i, END_HEADERS);
    for (const stream of peer.owner.streams.values()) stream.reset(E.CANCEL);
    expect(peer.connection.ended).toBe(false);
    peer.turn();
    expect(ended(peer)).toEqual(crossed('control-queue'));
  });

  it('has no more than queueBytes of headers queued', () => {
    const peer = deaf(1_000_000);
    let id = 3;
    for (; !peer.connection.ended && id < 100_000; id += 2) {
      peer.request(id).sendHeaders(list([...RESPONSE, ['x', 'v'.repeat(1000)]]), true);
      peer.turn();
    }
    expect(ended(peer)).toEqual(crossed('control-queue'));
    expect(id).toBeGreaterThan(1900);
    expect(id).toBeLessThan(2100);
  });
});

describe('a peer that is slow', () => {
  const sweepAt = (peer: Http2Peer, now: number): void => {
    peer.now = now;
    peer.connection.sweep();
  };

  it('slow-preface: has 5 s for the preface', () => {
    const peer = new Http2Peer({ raw: true });
    peer.write(Buffer.from('PRI * HTTP/2.0'));
    sweepAt(peer, 5999);
    expect(peer.connection.ended).toBe(false);
    sweepAt(peer, 6000);
    expect(ended(peer)).toEqual({ code: E.PROTOCOL_ERROR, kind: 'slow-preface' });
  });

  it.each([
    ['SETTINGS', []],
    ['the ACK of ours', [settings()]],
  ])('slow-settings: has 5 s for %s', (_what, octets) => {
    const peer = new Http2Peer({ raw: true, role: 'client' });
    peer.write(...octets);
    sweepAt(peer, 5999);
    expect(peer.connection.ended).toBe(false);
    sweepAt(peer, 6000);
    expect(ended(peer)).toEqual({ code: E.SETTINGS_TIMEOUT, kind: 'slow-settings' });
  });

  it.each([
    ['a frame of it', headers(1, block(REQUEST)).subarray(0, 30)],
    ['its CONTINUATION', headers(1, block(REQUEST), 0)],
  ])('slow-headers: has 10 s for a header block, from when %s is missing', (_what, octets) => {
    const peer = new Http2Peer();
    sweepAt(peer, 2000);
    peer.write(octets);
    sweepAt(peer, 11_999);
    expect(peer.connection.ended).toBe(false);
    sweepAt(peer, 12_000);
    expect(ended(peer)).toEqual({ code: E.ENHANCE_YOUR_CALM, kind: 'slow-headers' });
  });

  it('slow-headers: is not one whose reads happen to end within HEADERS at every sweep', () => {
    const peer = new Http2Peer();
    const octets = Buffer.concat(
      Array.from({ length: 40 }, (_, i) => headers(1 + 2 * i, block(REQUEST), END_HEADERS | END_STREAM)),
    );
    const each = octets.length / 40;
    for (let i = 0; i < 40; i++) {
      const from = i === 0 ? 0 : i * each - 20;
      peer.write(octets.subarray(from, (i + 1) * each - 20));
      sweepAt(peer, peer.now + 1000);
    }
    expect(peer.connection.ended).toBe(false);
    expect(peer.owner.streams.size).toBe(39);
  });

  it('may be idle for ever, and may take its time within DATA', () => {
    const peer = new Http2Peer();
    peer.request(1, END_HEADERS);
    peer.write(data(1, 'abc').subarray(0, 10));
    sweepAt(peer, 10_000_000);
    expect(peer.connection.ended).toBe(false);
  });
});
