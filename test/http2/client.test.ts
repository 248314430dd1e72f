import { describe, expect, it } from 'vitest';
import { ChunkQueue } from '../../src/http2/chunkqueue.ts';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  Http2Peer,
  headers,
  list,
  PREFACE,
  REQUEST,
  RESPONSE,
  rst,
  settings,
  settingsAck,
  T,
  TRAILERS,
  u32,
} from '../harness/http2-peer.ts';

const client = (announce: Array<[number, number]> = []): Http2Peer =>
  new Http2Peer({ role: 'client', announce });
const status = (code: string, ...more: Array<[string, string]>): Buffer =>
  block([[':status', code], ...more]);
const method = (name: string): Fields =>
  REQUEST.map(([field, value]) => [field, field === ':method' ? name : value]);
const END = END_HEADERS | END_STREAM;

describe('a client', () => {
  it('opens no stream before the peer’s SETTINGS have come', () => {
    const peer = new Http2Peer({ role: 'client', raw: true });
    expect(peer.connection.canOpen).toBe(false);
    peer.write(settings());
    expect(peer.owner.heard).toEqual([{ what: 'ready' }]);
    expect(peer.connection.canOpen).toBe(true);
  });

  it('numbers its streams 1, 3, 5 ... and sends what it was given', () => {
    const peer = client();
    peer.open(REQUEST, true);
    const second = peer.open(REQUEST);
    second.send(Buffer.from('abc'), 0, 3, true);
    const frames = peer.frames();
    expect(frames.map(({ type, id, flags }) => [type, id, flags])).toEqual([
      [T.HEADERS, 1, END],
      [T.HEADERS, 3, END_HEADERS],
      [T.DATA, 3, END_STREAM],
    ]);
    expect(peer.fields(frames[0]?.payload as Buffer)).toEqual(REQUEST);
    expect(peer.fields(frames[1]?.payload as Buffer)).toEqual(REQUEST);
  });

  it('sends octets that came before the stream was opened, in order and within windows', () => {
    const peer = client([[4, 5]]);
    const body = new ChunkQueue();
    body.push(Buffer.from('abcdefg'), 0, 7);
    const stream = peer.connection.open(list(REQUEST), false, peer.owner, body);
    stream.send(Buffer.from('hi'), 0, 2, true);
    const sent = (): string =>
      peer
        .framesOf(T.DATA)
        .map(({ payload, flags }) => payload.toString() + (flags === END_STREAM ? '|' : ''))
        .join('');
    expect(sent()).toBe('abcde');
    peer.write(frame(T.WINDOW_UPDATE, 0, 1, u32(100)));
    expect(sent()).toBe('fghi|');
  });

  it('keeps to the peer’s SETTINGS_MAX_CONCURRENT_STREAMS, and hears of room (5.1.2)', () => {
    const peer = client([[3, 2]]);
    const first = peer.open(REQUEST, true);
    peer.open(REQUEST, true);
    expect(peer.connection.canOpen).toBe(false);
    const before = peer.owner.rooms;
    peer.write(headers(first.id, status('200'), END));
    expect(peer.owner.rooms).toBe(before + 1);
    expect(peer.connection.canOpen).toBe(true);
    peer.write(settings([3, 1]));
    expect(peer.connection.canOpen).toBe(false);
    peer.write(settings([3, 0]), settings([3, 3]));
    expect(peer.owner.rooms).toBeGreaterThan(before + 1);
    expect(peer.connection.canOpen).toBe(true);
  });

  it('gives room to a new stream only behind the RST_STREAM of the old one', () => {
    const peer = client([[3, 1]]);
    const first = peer.open();
    peer.owner.onRoom = () => {
      if (peer.connection.canOpen) peer.open();
    };
    first.reset(E.CANCEL);
    expect(peer.frames().map(({ type, id }) => [type, id])).toEqual([
      [T.HEADERS, 1],
      [T.RST_STREAM, 1],
      [T.HEADERS, 3],
    ]);
  });

  it('knows a refusal from another reset', () => {
    const peer = client();
    const [a, b] = [peer.open(), peer.open()];
    peer.write(rst(a.id, E.REFUSED_STREAM), rst(b.id, E.CANCEL));
    expect(peer.owner.take()).toEqual([
      { what: 'reset', id: 1, code: E.REFUSED_STREAM, origin: 'refused' },
      { what: 'reset', id: 3, code: E.CANCEL, origin: 'remote' },
    ]);
  });

  it('hears of interim responses before the final one, and of trailers', () => {
    const peer = client();
    peer.open(REQUEST, true);
    peer.write(
      headers(1, status('103')),
      headers(1, status('100')),
      headers(1, block(RESPONSE)),
      data(1, 'body'),
      headers(1, block(TRAILERS), END),
    );
    expect(peer.owner.take()).toEqual([
      { what: 'headers', id: 1, status: 103, fin: false },
      { what: 'headers', id: 1, status: 100, fin: false },
      { what: 'headers', id: 1, status: 200, fin: false },
      { what: 'data', id: 1, octets: 'body', fin: false },
      { what: 'trailers', id: 1, fields: TRAILERS },
    ]);
    expect(peer.connection.streams).toBe(0);
  });

  it('keeps its own side open when the answer is complete first', () => {
    const peer = client();
    const stream = peer.open();
    peer.write(headers(1, block(RESPONSE), END));
    expect(peer.connection.streams).toBe(1);
    expect(stream.remoteClosed).toBe(true);
    peer.write(rst(1, E.NO_ERROR));
    expect(peer.owner.heard.at(-1)).toEqual({ what: 'reset', id: 1, code: E.NO_ERROR, origin: 'remote' });
  });
});

const BODIES: Array<[what: string, request: Fields, octets: Buffer[], ok: boolean]> = [
  [
    '200 with the body it tells',
    REQUEST,
    [headers(1, status('200', ['content-length', '2'])), data(1, 'ab', END_STREAM)],
    true,
  ],
  [
    '200 with more',
    REQUEST,
    [headers(1, status('200', ['content-length', '2'])), data(1, 'abc', END_STREAM)],
    false,
  ],
  [
    '200 with less',
    REQUEST,
    [headers(1, status('200', ['content-length', '2'])), data(1, 'a', END_STREAM)],
    false,
  ],
  [
    '200 that tells a body and has none',
    REQUEST,
    [headers(1, status('200', ['content-length', '2']), END)],
    false,
  ],
  ['200 that tells 0 and has none', REQUEST, [headers(1, status('200', ['content-length', '0']), END)], true],
  [
    'HEAD, which tells a body and has none',
    method('HEAD'),
    [headers(1, status('200', ['content-length', '2']), END)],
    true,
  ],
  [
    'HEAD, ended by empty DATA',
    method('HEAD'),
    [headers(1, status('200', ['content-length', '2'])), data(1, '', END_STREAM)],
    true,
  ],
  [
    'HEAD with a body',
    method('HEAD'),
    [headers(1, status('200', ['content-length', '2'])), data(1, 'ab', END_STREAM)],
    false,
  ],
  [
    '304 that tells a body and has none',
    REQUEST,
    [headers(1, status('304', ['content-length', '2']), END)],
    true,
  ],
  ['304 with a body', REQUEST, [headers(1, status('304')), data(1, 'a', END_STREAM)], false],
  ['204 with a body', REQUEST, [headers(1, status('204')), data(1, 'a', END_STREAM)], false],
];

describe('the length of an answer (section 8.1.1)', () => {
  it.each(BODIES)('%s', (_what, request, octets, ok) => {
    const peer = client();
    peer.open(request, true);
    peer.write(...octets);
    const errors = peer.owner.heard.filter(({ what }) => what === 'stream-error');
    expect(errors).toEqual(ok ? [] : [{ what: 'stream-error', id: 1, code: E.PROTOCOL_ERROR }]);
    expect(peer.connection.streams).toBe(0);
    expect(peer.connection.ended).toBe(false);
  });
});

describe('SETTINGS_HEADER_TABLE_SIZE (RFC 7541 section 4.2)', () => {
  it('of the peer: the next block says the smallest on the way and the last', () => {
    const peer = client([[1, 4096]]);
    for (let i = 0; i < 3; i++) peer.open(REQUEST, true);
    peer.frames();
    peer.write(settings([1, 0], [1, 1000]));
    peer.open(REQUEST, true);
    const [first] = peer.framesOf(T.HEADERS);
    // 001 00000: size 0; 001 11111 + 969: size 1000.
    expect(first?.payload.subarray(0, 4).toString('hex')).toBe('203fc907');
  });

  it('of ours below 4096 holds only once the peer has acknowledged it', () => {
    const peer = new Http2Peer({ raw: true, settings: { headerTableSize: 0 } });
    // Indexed by a peer that had not read our SETTINGS yet.
    const indexed = Buffer.concat([block(REQUEST), Buffer.from([0x40, 1, 0x61, 1, 0x62])]);
    peer.write(
      PREFACE,
      settings(),
      headers(1, indexed, END),
      headers(3, Buffer.concat([block(REQUEST), Buffer.from([0xbe])]), END),
    );
    expect(peer.owner.streams.size).toBe(2);
    peer.write(settingsAck());
    peer.write(headers(5, Buffer.concat([Buffer.from([0x20]), block(REQUEST)]), END));
    expect(peer.connection.ended).toBe(false);
    peer.write(headers(7, Buffer.concat([block(REQUEST), Buffer.from([0xbe])]), END));
    expect(peer.goawayCode()).toBe(E.COMPRESSION_ERROR);
  });

  it('of ours above 4096 may be used at once', () => {
    const peer = new Http2Peer({ raw: true, settings: { headerTableSize: 65_536 } });
    const size = Buffer.from([0x3f, 0xe1, 0xff, 0x03]); // 65,536
    peer.write(PREFACE, settings(), headers(1, Buffer.concat([size, block(REQUEST)]), END));
    expect(peer.owner.streams.size).toBe(1);
  });
});
