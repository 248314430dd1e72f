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
  PADDED,
  PREFACE,
  PRIORITY,
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

const request = block(REQUEST);
const OPEN = headers(1, request); // a request whose body is to come
const WHOLE = headers(1, request, END_HEADERS | END_STREAM);
const priority = (dependency: number): Buffer => Buffer.concat([u32(dependency), Buffer.from([16])]);

type Row = [section: string, what: string, octets: Buffer[], code: number];

/** Breaches that end the connection (RFC 9113 section 5.4.1), towards a server. */
const FATAL: Row[] = [
  [
    '4.2',
    'a frame above our SETTINGS_MAX_FRAME_SIZE',
    [OPEN, data(1, Buffer.alloc(16_385))],
    E.FRAME_SIZE_ERROR,
  ],
  ['4.2', 'the header alone of such a frame', [frame(T.DATA, 0, 1, '', 16_385)], E.FRAME_SIZE_ERROR],
  ['4.3', 'a header block that is not HPACK', [headers(1, Buffer.from([0x80]))], E.COMPRESSION_ERROR],
  [
    '4.3',
    'trailers that are not HPACK',
    [OPEN, headers(1, Buffer.from([0xff]), END_HEADERS | END_STREAM)],
    E.COMPRESSION_ERROR,
  ],
  ['5.1', 'DATA on an idle stream', [data(1, 'x')], E.PROTOCOL_ERROR],
  ['5.1', 'RST_STREAM on an idle stream', [rst(1, 8)], E.PROTOCOL_ERROR],
  ['5.1', 'WINDOW_UPDATE on an idle stream', [windowUpdate(1, 1)], E.PROTOCOL_ERROR],
  [
    '5.1',
    'CONTINUATION on an idle stream',
    [frame(T.CONTINUATION, END_HEADERS, 1, request)],
    E.PROTOCOL_ERROR,
  ],
  ['5.1', 'DATA on a stream that the peer has reset', [OPEN, rst(1, 8), data(1, 'x')], E.STREAM_CLOSED],
  [
    '5.1',
    'HEADERS on a stream that the peer has reset',
    [OPEN, rst(1, 8), headers(1, block(TRAILERS), END_HEADERS | END_STREAM)],
    E.STREAM_CLOSED,
  ],
  ['5.1.1', 'a stream with an even number', [headers(2, request)], E.PROTOCOL_ERROR],
  [
    '5.1.1',
    'a stream below one that was opened',
    [headers(5, request), headers(3, request)],
    E.PROTOCOL_ERROR,
  ],
  [
    '5.5',
    'an unknown frame within a header block',
    [headers(1, request, 0), frame(0x42, 0, 1, 'x')],
    E.PROTOCOL_ERROR,
  ],
  ['6.1', 'DATA on stream 0', [data(0, 'x')], E.PROTOCOL_ERROR],
  [
    '6.1',
    'DATA with as much padding as payload',
    [OPEN, data(1, Buffer.from([4, 0, 0, 0]), PADDED)],
    E.PROTOCOL_ERROR,
  ],
  ['6.1', 'DATA without its pad length', [OPEN, data(1, '', PADDED)], E.FRAME_SIZE_ERROR],
  ['6.2', 'HEADERS on stream 0', [headers(0, request)], E.PROTOCOL_ERROR],
  [
    '6.2',
    'HEADERS with more padding than payload',
    [headers(1, Buffer.from([9, 0]), END_HEADERS | PADDED)],
    E.PROTOCOL_ERROR,
  ],
  [
    '6.2',
    'HEADERS without its pad length',
    [headers(1, Buffer.alloc(0), END_HEADERS | PADDED)],
    E.FRAME_SIZE_ERROR,
  ],
  [
    '6.2',
    'HEADERS without its priority fields',
    [headers(1, Buffer.alloc(4), END_HEADERS | PRIORITY)],
    E.FRAME_SIZE_ERROR,
  ],
  [
    '6.2',
    'HEADERS whose padding reaches into its priority fields',
    [headers(1, Buffer.from([3, 0, 0, 0, 0, 1]), END_HEADERS | PRIORITY | PADDED)],
    E.PROTOCOL_ERROR,
  ],
  [
    '6.2',
    'another stream within a header block',
    [headers(1, request, 0), headers(3, request)],
    E.PROTOCOL_ERROR,
  ],
  ['6.2', 'DATA within a header block', [headers(1, request, 0), data(1, 'x')], E.PROTOCOL_ERROR],
  ['6.3', 'PRIORITY on stream 0', [frame(T.PRIORITY, 0, 0, priority(1))], E.PROTOCOL_ERROR],
  [
    '6.3',
    'PRIORITY of 4 octets on an idle stream',
    [frame(T.PRIORITY, 0, 1, Buffer.alloc(4))],
    E.FRAME_SIZE_ERROR,
  ],
  ['6.4', 'RST_STREAM on stream 0', [rst(0, 8)], E.PROTOCOL_ERROR],
  ['6.4', 'RST_STREAM of 3 octets', [OPEN, frame(T.RST_STREAM, 0, 1, 'abc')], E.FRAME_SIZE_ERROR],
  ['6.5', 'SETTINGS on a stream', [frame(T.SETTINGS, 0, 1)], E.PROTOCOL_ERROR],
  ['6.5', 'SETTINGS of 5 octets', [frame(T.SETTINGS, 0, 0, 'abcde')], E.FRAME_SIZE_ERROR],
  ['6.5', 'a SETTINGS ACK with a payload', [frame(T.SETTINGS, ACK, 0, Buffer.alloc(6))], E.FRAME_SIZE_ERROR],
  ['6.5.2', 'SETTINGS_ENABLE_PUSH of 2', [settings([2, 2])], E.PROTOCOL_ERROR],
  ['6.5.2', 'SETTINGS_INITIAL_WINDOW_SIZE of 2^31', [settings([4, 2 ** 31])], E.FLOW_CONTROL_ERROR],
  ['6.5.2', 'SETTINGS_MAX_FRAME_SIZE of 16,383', [settings([5, 16_383])], E.PROTOCOL_ERROR],
  ['6.5.2', 'SETTINGS_MAX_FRAME_SIZE of 2^24', [settings([5, 2 ** 24])], E.PROTOCOL_ERROR],
  [
    '6.6, 8.4',
    'PUSH_PROMISE',
    [OPEN, frame(T.PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([u32(2), request]))],
    E.PROTOCOL_ERROR,
  ],
  ['6.7', 'PING on a stream', [frame(T.PING, 0, 1, 'opaque!!')], E.PROTOCOL_ERROR],
  ['6.7', 'PING of 6 octets', [frame(T.PING, 0, 0, 'opaque')], E.FRAME_SIZE_ERROR],
  ['6.8', 'GOAWAY on a stream', [frame(T.GOAWAY, 0, 1, Buffer.alloc(8))], E.PROTOCOL_ERROR],
  ['6.8', 'GOAWAY of 7 octets', [frame(T.GOAWAY, 0, 0, Buffer.alloc(7))], E.FRAME_SIZE_ERROR],
  [
    '6.8',
    'a GOAWAY that names a higher stream than the one before',
    [goaway(3, 0), goaway(5, 0)],
    E.PROTOCOL_ERROR,
  ],
  ['6.9', 'WINDOW_UPDATE of 0 for the connection', [windowUpdate(0, 0)], E.PROTOCOL_ERROR],
  ['6.9', 'WINDOW_UPDATE of 5 octets', [frame(T.WINDOW_UPDATE, 0, 0, 'abcde')], E.FRAME_SIZE_ERROR],
  ['6.9.1', 'a connection window above 2^31-1', [windowUpdate(0, 2 ** 31 - 1)], E.FLOW_CONTROL_ERROR],
  [
    '6.9.2',
    'SETTINGS that move a stream window above 2^31-1',
    [OPEN, windowUpdate(1, 2 ** 31 - 1 - 65_535), settings([4, 65_536])],
    E.FLOW_CONTROL_ERROR,
  ],
  [
    '6.10',
    'CONTINUATION without HEADERS',
    [OPEN, frame(T.CONTINUATION, END_HEADERS, 1, request)],
    E.PROTOCOL_ERROR,
  ],
  [
    '6.10',
    'CONTINUATION of another stream',
    [headers(1, request, 0), frame(T.CONTINUATION, END_HEADERS, 3, '')],
    E.PROTOCOL_ERROR,
  ],
  [
    '6.10',
    'CONTINUATION behind the end of a block',
    [
      headers(1, request, 0),
      frame(T.CONTINUATION, END_HEADERS, 1, ''),
      frame(T.CONTINUATION, END_HEADERS, 1, ''),
    ],
    E.PROTOCOL_ERROR,
  ],
];

describe('what breaks the rules of the connection ends it with GOAWAY', () => {
  it.each(FATAL)('%s: %s', (_section, _what, octets, code) => {
    const peer = new Http2Peer();
    peer.write(...octets);
    expect(peer.goawayCode()).toBe(code);
    expect(peer.connection.ended).toBe(true);
    expect(peer.owner.ends).toBe(1);
    expect(peer.owner.heard.at(-1)).toMatchObject({ what: 'end', code });
  });

  it.each(FATAL)('%s: %s, in octets one by one', (_section, _what, octets, code) => {
    const peer = new Http2Peer();
    for (const octet of Buffer.concat(octets)) peer.write(Buffer.from([octet]));
    expect(peer.goawayCode()).toBe(code);
    expect(peer.owner.ends).toBe(1);
  });

  it.each(FATAL)('%s: %s; nothing follows, nothing is answered', (_section, _what, octets) => {
    const peer = new Http2Peer();
    const pings = Array.from({ length: 3 }, () => ping());
    peer.write(Buffer.concat([...octets, ...pings]));
    peer.write(ping(), WHOLE);
    peer.connection.drain('late');
    peer.connection.shutDown();
    peer.connection.sweep();
    peer.connection.drained();
    const frames = peer.frames();
    expect(frames.at(-1)?.type).toBe(T.GOAWAY);
    expect(frames.filter(({ type, flags }) => type === T.PING && flags === ACK)).toEqual([]);
    expect(peer.owner.ends).toBe(1);
  });
});

/** Breaches that end one stream (section 5.4.2). */
const STREAM: Row[] = [
  ['5.1', 'DATA behind END_STREAM', [WHOLE, data(1, 'x')], E.STREAM_CLOSED],
  [
    '5.1',
    'HEADERS behind END_STREAM',
    [WHOLE, headers(1, block(TRAILERS), END_HEADERS | END_STREAM)],
    E.STREAM_CLOSED,
  ],
  ['6.3', 'PRIORITY of 4 octets', [OPEN, frame(T.PRIORITY, 0, 1, Buffer.alloc(4))], E.FRAME_SIZE_ERROR],
  ['6.9', 'WINDOW_UPDATE of 0', [OPEN, windowUpdate(1, 0)], E.PROTOCOL_ERROR],
  ['6.9.1', 'a stream window above 2^31-1', [OPEN, windowUpdate(1, 2 ** 31 - 1)], E.FLOW_CONTROL_ERROR],
  ['8.1', 'trailers without END_STREAM', [OPEN, headers(1, block(TRAILERS))], E.PROTOCOL_ERROR],
  [
    '8.1',
    'trailers with a pseudo-header',
    [OPEN, headers(1, block(RESPONSE), END_HEADERS | END_STREAM)],
    E.PROTOCOL_ERROR,
  ],
  [
    '8.1.1',
    'more body than content-length',
    [headers(1, block([...REQUEST, ['content-length', '1']])), data(1, 'xx')],
    E.PROTOCOL_ERROR,
  ],
  [
    '8.1.1',
    'less body than content-length',
    [headers(1, block([...REQUEST, ['content-length', '2']])), data(1, 'x', END_STREAM)],
    E.PROTOCOL_ERROR,
  ],
  [
    '8.1.1',
    'less body than content-length, before trailers',
    [
      headers(1, block([...REQUEST, ['content-length', '2']])),
      data(1, 'x'),
      headers(1, block(TRAILERS), END_HEADERS | END_STREAM),
    ],
    E.PROTOCOL_ERROR,
  ],
  [
    '8.1.1',
    'content-length without a body',
    [headers(1, block([...REQUEST, ['content-length', '2']]), END_HEADERS | END_STREAM)],
    E.PROTOCOL_ERROR,
  ],
];

describe('what breaks the rules of a stream ends that stream with RST_STREAM, and nothing else', () => {
  it.each(STREAM)('%s: %s', (_section, _what, octets, code) => {
    const peer = new Http2Peer();
    peer.write(...octets);
    const frames = peer.frames();
    const resets = frames.filter(({ type }) => type === T.RST_STREAM);
    expect(resets.map(({ id, payload }) => [id, payload.readUInt32BE(0)])).toEqual([[1, code]]);
    expect(frames.filter(({ type }) => type === T.GOAWAY)).toEqual([]);
    expect(peer.owner.heard).toContainEqual({ what: 'stream-error', id: 1, code });
    expect(peer.connection.streams).toBe(0);

    // What the peer sent before it knew is no error (section 5.1).
    peer.write(
      data(1, 'late'),
      headers(1, block(TRAILERS), END_HEADERS | END_STREAM),
      windowUpdate(1, 5),
      rst(1, 8),
    );
    expect(peer.request(3).closed).toBe(false);
    expect(peer.goawayCode()).toBeUndefined();
  });
});

/** What looks odd and is right. */
const HARMLESS: Array<[section: string, what: string, octets: Buffer[]]> = [
  ['4.1', 'unknown flags and the reserved bit', [frame(T.PING, 0xfe, 0x8000_0000, 'opaque!!')]],
  ['4.1, 5.5', 'frames of unknown types, on any stream', [frame(0x42, 0xff, 0, 'x'), frame(0xff, 0, 7)]],
  ['4.2', 'a frame of just SETTINGS_MAX_FRAME_SIZE', [OPEN, data(1, Buffer.alloc(16_384))]],
  [
    '5.1',
    'WINDOW_UPDATE and RST_STREAM on a closed stream',
    [OPEN, rst(1, 8), windowUpdate(1, 1), rst(1, 8)],
  ],
  [
    '5.1',
    'PRIORITY on idle and closed streams',
    [OPEN, rst(1, 8), frame(T.PRIORITY, 0, 1, priority(0)), frame(T.PRIORITY, 0, 99, priority(1))],
  ],
  ['5.1', 'WINDOW_UPDATE on a half-closed stream', [WHOLE, windowUpdate(1, 1)]],
  [
    '6.1',
    'padding, of 0 and of 255',
    [OPEN, data(1, Buffer.from([0, 65]), PADDED), data(1, Buffer.alloc(256, 255), PADDED | END_STREAM)],
  ],
  [
    '6.2',
    'padding and priority in HEADERS',
    [
      headers(
        1,
        Buffer.concat([Buffer.from([2]), priority(0), request, Buffer.from([0, 0])]),
        END_HEADERS | PADDED | PRIORITY,
      ),
    ],
  ],
  [
    '5.3.2',
    'priorities that are nonsense: of a stream on itself, in PRIORITY and in HEADERS',
    [
      frame(T.PRIORITY, 0, 1, priority(1)),
      headers(1, Buffer.concat([priority(0x8000_0001), request]), END_HEADERS | PRIORITY),
      frame(T.PRIORITY, 0, 1, priority(0x8000_0001)),
    ],
  ],
  ['6.5.1', 'settings that nobody knows', [settings([0x99, 1], [0, 0])]],
  ['6.5.2', 'a setting given twice', [settings([4, 5], [4, 70_000])]],
  ['6.5', 'a SETTINGS ACK that answers nothing', [settingsAck()]],
  ['6.7', 'a PING ACK that answers nothing', [ping('whatever', ACK)]],
  ['6.8', 'GOAWAY with debug data, and again', [goaway(2 ** 31 - 1, 0, 'bye'), goaway(0, 0)]],
  [
    '6.10',
    'a header block in pieces, one of them empty',
    [
      headers(1, request.subarray(0, 7), END_STREAM),
      frame(T.CONTINUATION, 0, 1, ''),
      frame(T.CONTINUATION, END_HEADERS, 1, request.subarray(7)),
    ],
  ],
  ['5.1.1', 'identifiers left out', [headers(7, request), headers(101, request)]],
];

describe('what the rules allow ends nothing', () => {
  it.each(HARMLESS)('%s: %s', (_section, _what, octets) => {
    const peer = new Http2Peer();
    peer.write(...octets);
    expect(peer.frames().filter(({ type }) => type === T.GOAWAY || type === T.RST_STREAM)).toEqual([]);
    expect(peer.connection.ended).toBe(false);
    expect(peer.owner.heard.filter(({ what }) => what === 'stream-error')).toEqual([]);
  });
});

describe('the preface (section 3.4)', () => {
  it('is followed by our SETTINGS before anything was read', () => {
    const peer = new Http2Peer({ raw: true, settings: { maxConcurrentStreams: 7 }, window: 100_000 });
    const [first, second] = peer.frames();
    expect(first).toMatchObject({ type: T.SETTINGS, flags: 0, id: 0 });
    expect(first?.payload.toString('hex')).toBe('000300000007');
    expect(second).toMatchObject({ type: T.WINDOW_UPDATE, id: 0 });
    expect(second?.payload.readUInt32BE(0)).toBe(100_000 - 65_535);
  });

  it('of a client is written once, before its SETTINGS', () => {
    const peer = new Http2Peer({ raw: true, role: 'client' });
    peer.turn();
    const octets = Buffer.concat(peer.sink.written);
    expect(octets.subarray(0, 24)).toEqual(PREFACE);
    expect(octets.subarray(24)).toEqual(settings([2, 0]));
  });

  it('may come in pieces', () => {
    const peer = new Http2Peer({ raw: true });
    for (const octet of Buffer.concat([PREFACE, settings()])) peer.write(Buffer.from([octet]));
    expect(peer.owner.heard).toEqual([{ what: 'ready' }]);
  });

  it.each([['GET / HTTP/1.1\r\n\r\n'], ['PRI * HTTP/2.0\r\n\r\nXX'], ['\x16\x03\x01\x02\x00\x01']])(
    'that is another ends the connection: %j',
    (text) => {
      const peer = new Http2Peer({ raw: true });
      peer.write(Buffer.from(text, 'latin1'));
      expect(peer.goawayCode()).toBe(E.PROTOCOL_ERROR);
    },
  );

  it.each([
    ['PING', ping()],
    ['a SETTINGS ACK', settingsAck()],
    ['HEADERS', OPEN],
    ['an unknown frame', frame(0x42, 0, 0)],
  ])('must be followed by SETTINGS, not by %s', (_what, octets) => {
    for (const role of ['client', 'server'] as const) {
      const peer = new Http2Peer({ raw: true, role });
      if (role === 'server') peer.write(PREFACE);
      peer.write(octets);
      expect(peer.goawayCode()).toBe(E.PROTOCOL_ERROR);
    }
  });
});

describe('answers that the connection owes', () => {
  it('SETTINGS get an ACK each (6.5.3)', () => {
    const peer = new Http2Peer();
    peer.write(settings([1, 0]), settings());
    expect(peer.framesOf(T.SETTINGS).map(({ flags, payload }) => [flags, payload.length])).toEqual([
      [ACK, 0],
      [ACK, 0],
    ]);
  });

  it('a PING gets its octets back (6.7)', () => {
    const peer = new Http2Peer();
    peer.write(ping('12345678'));
    const [answer] = peer.frames();
    expect(answer).toMatchObject({ type: T.PING, flags: ACK, id: 0 });
    expect(answer?.payload.toString()).toBe('12345678');
  });

  it('GOAWAY names the last stream taken, and its debug data says why', () => {
    const peer = new Http2Peer();
    peer.request(7);
    peer.write(data(0, 'x'));
    const last = peer.framesOf(T.GOAWAY).at(-1);
    expect(last?.payload.readUInt32BE(0)).toBe(7);
    expect(last?.payload.toString('latin1', 8)).toBe('PROTOCOL_ERROR: DATA on stream 0');
  });

  it('header blocks above the peer’s frame size go out as HEADERS and CONTINUATION (6.10)', () => {
    const peer = new Http2Peer();
    const stream = peer.request(1);
    const value = 'v'.repeat(40_000);
    stream.sendHeaders(list([...RESPONSE, ['x-large', value]]), false);
    const frames = peer.frames();
    expect(frames.map(({ type, flags }) => [type, flags])).toEqual([
      [T.HEADERS, 0],
      [T.CONTINUATION, 0],
      [T.CONTINUATION, END_HEADERS],
    ]);
    expect(Math.max(...frames.map(({ payload }) => payload.length))).toBe(16_384);
    expect(peer.fields(Buffer.concat(frames.map(({ payload }) => payload)))).toEqual([
      ...RESPONSE,
      ['x-large', value],
    ]);
  });
});
