/** Servers that break the rules of RFC 9113, towards our client role; h2spec's cases for clients are among them. */
import { describe, expect, it } from 'vitest';
import {
  ACK,
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  goaway,
  Http2Peer,
  headers,
  PADDED,
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

const END = END_HEADERS | END_STREAM;
const response = block(RESPONSE);
const trailers = block(TRAILERS);
const status = (code: string, ...more: Fields): Buffer => block([[':status', code], ...more]);
const octets = (...values: number[]): Buffer => Buffer.from(values);
const continuation = (id: number, fragment: Uint8Array, flags = END_HEADERS): Buffer =>
  frame(T.CONTINUATION, flags, id, fragment);
const priority = (id: number, length = 5): Buffer => frame(T.PRIORITY, 0, id, Buffer.alloc(length));
const push = (promised: number): Buffer =>
  frame(T.PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([u32(promised), block(REQUEST)]));

/** A client in the midst of things: streams in every state that a server can see. */
function client(): Http2Peer {
  const peer = new Http2Peer({ role: 'client' });
  peer.open(REQUEST, true); // 1: waits for its answer
  peer.open(REQUEST, true); // 3: is answered, the body is coming
  peer.open(REQUEST, true); // 5: is over
  peer.open(REQUEST, true).reset(E.CANCEL); // 7: was given up
  peer.open(REQUEST, true); // 9: was reset by the server
  peer.open(REQUEST); // 11: the answer is complete, the request is not
  peer.open(REQUEST, true); // 13: a bystander
  peer.write(headers(3, response), headers(5, response, END), rst(9, E.CANCEL), headers(11, response, END));
  peer.frames();
  peer.owner.take();
  return peer;
}

const BYSTANDER = 13;
const OPEN = [1, 3, 11, BYSTANDER];

type Row = [section: string, what: string, octets: Buffer[], code: number];

const FATAL: Row[] = [
  ['4.2', 'DATA above our SETTINGS_MAX_FRAME_SIZE', [data(3, Buffer.alloc(16_385))], E.FRAME_SIZE_ERROR],
  [
    '4.2',
    'HEADERS above our SETTINGS_MAX_FRAME_SIZE',
    [headers(1, Buffer.alloc(16_385))],
    E.FRAME_SIZE_ERROR,
  ],
  ['4.2', 'the header alone of such a frame', [frame(0x42, 0, 0, '', 16_385)], E.FRAME_SIZE_ERROR],
  [
    '4.2',
    'SETTINGS above our SETTINGS_MAX_FRAME_SIZE',
    [frame(T.SETTINGS, 0, 0, Buffer.alloc(16_386))],
    E.FRAME_SIZE_ERROR,
  ],
  ['4.3', 'a block that is not HPACK', [headers(1, octets(0x40))], E.COMPRESSION_ERROR],
  ['4.3', 'trailers that are not HPACK', [headers(3, octets(0xff), END)], E.COMPRESSION_ERROR],
  ['4.3', 'such a block on a stream that we gave up', [headers(7, octets(0x80), END)], E.COMPRESSION_ERROR],
  ['5.1', 'idle: DATA', [data(15, 'x')], E.PROTOCOL_ERROR],
  ['5.1', 'idle: HEADERS', [headers(15, response)], E.PROTOCOL_ERROR],
  ['5.1', 'idle: RST_STREAM', [rst(15, E.CANCEL)], E.PROTOCOL_ERROR],
  ['5.1', 'idle: WINDOW_UPDATE', [windowUpdate(15, 1)], E.PROTOCOL_ERROR],
  ['5.1', 'idle: CONTINUATION', [continuation(15, response)], E.PROTOCOL_ERROR],
  ['5.1', 'closed: DATA', [data(5, 'x')], E.STREAM_CLOSED],
  ['5.1', 'closed: HEADERS', [headers(5, trailers, END)], E.STREAM_CLOSED],
  ['5.1', 'closed: CONTINUATION', [continuation(5, trailers)], E.PROTOCOL_ERROR],
  ['5.1', 'closed by its RST_STREAM: DATA', [data(9, 'x')], E.STREAM_CLOSED],
  ['5.1', 'closed by its RST_STREAM: HEADERS', [headers(9, response)], E.STREAM_CLOSED],
  ['5.1', 'closed by its RST_STREAM: CONTINUATION', [continuation(9, response)], E.PROTOCOL_ERROR],
  ['5.1.1', 'HEADERS on a stream of its own', [headers(2, response)], E.PROTOCOL_ERROR],
  ['5.1.1', 'a request', [headers(2, block(REQUEST), END)], E.PROTOCOL_ERROR],
  ['5.1.1', 'DATA on a stream of its own', [data(2, 'x')], E.PROTOCOL_ERROR],
  ['5.1.1', 'RST_STREAM on a stream of its own', [rst(2, E.CANCEL)], E.PROTOCOL_ERROR],
  ['5.1.1', 'WINDOW_UPDATE on a stream of its own', [windowUpdate(2, 1)], E.PROTOCOL_ERROR],
  [
    '5.5',
    'an unknown frame within a header block',
    [headers(1, response, 0), frame(0x42, 0, 1)],
    E.PROTOCOL_ERROR,
  ],
  ['6.1', 'DATA on stream 0', [data(0, 'x')], E.PROTOCOL_ERROR],
  ['6.1', 'DATA padded with as much as it has', [data(3, octets(4, 0, 0, 0), PADDED)], E.PROTOCOL_ERROR],
  ['6.1', 'DATA without its pad length', [data(3, '', PADDED)], E.FRAME_SIZE_ERROR],
  ['6.2', 'HEADERS on stream 0', [headers(0, response)], E.PROTOCOL_ERROR],
  [
    '6.2',
    'HEADERS with more padding than it has',
    [headers(1, octets(9, 0x88), END | PADDED)],
    E.PROTOCOL_ERROR,
  ],
  ['6.2', 'HEADERS without its pad length', [headers(1, octets(), END | PADDED)], E.FRAME_SIZE_ERROR],
  [
    '6.2',
    'HEADERS without its priority',
    [headers(1, octets(0, 0, 0, 1), END | PRIORITY)],
    E.FRAME_SIZE_ERROR,
  ],
  ['6.2', 'DATA within a header block', [headers(1, response, 0), data(3, 'x')], E.PROTOCOL_ERROR],
  ['6.2', 'PRIORITY within a header block', [headers(1, response, 0), priority(1)], E.PROTOCOL_ERROR],
  [
    '6.2',
    'another stream’s HEADERS within a header block',
    [headers(1, response, 0), headers(13, response)],
    E.PROTOCOL_ERROR,
  ],
  ['6.2', 'PING within a header block', [headers(1, response, 0), ping()], E.PROTOCOL_ERROR],
  ['6.3', 'PRIORITY on stream 0', [priority(0)], E.PROTOCOL_ERROR],
  ['6.3', 'PRIORITY of 4 octets on a stream that is over', [priority(5, 4)], E.FRAME_SIZE_ERROR],
  ['6.4', 'RST_STREAM on stream 0', [rst(0, E.CANCEL)], E.PROTOCOL_ERROR],
  ['6.4', 'RST_STREAM of 3 octets', [frame(T.RST_STREAM, 0, 1, 'abc')], E.FRAME_SIZE_ERROR],
  ['6.4', 'RST_STREAM of 5 octets', [frame(T.RST_STREAM, 0, 1, 'abcde')], E.FRAME_SIZE_ERROR],
  ['6.5', 'SETTINGS on a stream', [frame(T.SETTINGS, 0, 1)], E.PROTOCOL_ERROR],
  ['6.5', 'SETTINGS of 3 octets', [frame(T.SETTINGS, 0, 0, 'abc')], E.FRAME_SIZE_ERROR],
  ['6.5', 'a SETTINGS ACK with a payload', [frame(T.SETTINGS, ACK, 0, Buffer.alloc(6))], E.FRAME_SIZE_ERROR],
  ['6.5.2', 'SETTINGS_ENABLE_PUSH of 1', [settings([2, 1])], E.PROTOCOL_ERROR],
  ['6.5.2', 'SETTINGS_ENABLE_PUSH of 2', [settings([2, 2])], E.PROTOCOL_ERROR],
  ['6.5.2', 'SETTINGS_INITIAL_WINDOW_SIZE of 2^31', [settings([4, 2 ** 31])], E.FLOW_CONTROL_ERROR],
  ['6.5.2', 'SETTINGS_MAX_FRAME_SIZE of 16,383', [settings([5, 16_383])], E.PROTOCOL_ERROR],
  ['6.5.2', 'SETTINGS_MAX_FRAME_SIZE of 2^24', [settings([5, 2 ** 24])], E.PROTOCOL_ERROR],
  ['6.6, 8.4', 'PUSH_PROMISE', [push(2)], E.PROTOCOL_ERROR],
  ['6.6', 'PUSH_PROMISE of one of our streams', [push(15)], E.PROTOCOL_ERROR],
  ['6.7', 'PING on a stream', [frame(T.PING, 0, 1, 'opaque!!')], E.PROTOCOL_ERROR],
  ['6.7', 'PING of 7 octets', [frame(T.PING, 0, 0, 'opaque!')], E.FRAME_SIZE_ERROR],
  ['6.7', 'a PING ACK of 9 octets', [frame(T.PING, ACK, 0, 'opaque!!!')], E.FRAME_SIZE_ERROR],
  ['6.8', 'GOAWAY on a stream', [frame(T.GOAWAY, 0, 1, Buffer.alloc(8))], E.PROTOCOL_ERROR],
  ['6.8', 'GOAWAY of 7 octets', [frame(T.GOAWAY, 0, 0, Buffer.alloc(7))], E.FRAME_SIZE_ERROR],
  [
    '6.8',
    'GOAWAY that raises its last stream',
    [goaway(13, E.NO_ERROR), goaway(15, E.NO_ERROR)],
    E.PROTOCOL_ERROR,
  ],
  ['6.9', 'WINDOW_UPDATE of 0 on the connection', [windowUpdate(0, 0)], E.PROTOCOL_ERROR],
  ['6.9', 'WINDOW_UPDATE of 3 octets', [frame(T.WINDOW_UPDATE, 0, 0, 'abc')], E.FRAME_SIZE_ERROR],
  [
    '6.9',
    'WINDOW_UPDATE of 5 octets on a stream',
    [frame(T.WINDOW_UPDATE, 0, 1, 'abcde')],
    E.FRAME_SIZE_ERROR,
  ],
  ['6.9.1', 'a connection window above 2^31-1', [windowUpdate(0, 2 ** 31 - 1)], E.FLOW_CONTROL_ERROR],
  [
    '6.9.2',
    'SETTINGS that move a stream’s window above 2^31-1',
    [windowUpdate(11, 2 ** 31 - 1 - 65_535), settings([4, 65_536])],
    E.FLOW_CONTROL_ERROR,
  ],
  [
    '6.10',
    'CONTINUATION on stream 0',
    [headers(1, response, 0), continuation(0, trailers)],
    E.PROTOCOL_ERROR,
  ],
  [
    '6.10',
    'CONTINUATION of another stream',
    [headers(1, response, 0), continuation(13, trailers)],
    E.PROTOCOL_ERROR,
  ],
  [
    '6.10',
    'CONTINUATION behind a whole block',
    [headers(1, response), continuation(1, trailers)],
    E.PROTOCOL_ERROR,
  ],
  [
    '6.10',
    'CONTINUATION behind its last',
    [headers(1, response, 0), continuation(1, octets()), continuation(1, trailers)],
    E.PROTOCOL_ERROR,
  ],
  ['6.10', 'CONTINUATION behind DATA', [data(3, 'x'), continuation(3, trailers)], E.PROTOCOL_ERROR],
  ['RFC 7541, 2.3.3', 'an index beyond the tables', [headers(1, octets(0xc6))], E.COMPRESSION_ERROR],
  ['RFC 7541, 4.2', 'a table size behind a field', [headers(1, octets(0x88, 0x20))], E.COMPRESSION_ERROR],
  [
    'RFC 7541, 5.2',
    'Huffman padding of more than 7 bits',
    [headers(1, octets(0x88, 0x00, 0x01, 0x61, 0x82, 0x1f, 0xff))],
    E.COMPRESSION_ERROR,
  ],
  [
    'RFC 7541, 5.2',
    'Huffman padding with zeros',
    [headers(1, octets(0x88, 0x00, 0x01, 0x61, 0x81, 0x18))],
    E.COMPRESSION_ERROR,
  ],
  [
    'RFC 7541, 5.2',
    'the Huffman code of EOS',
    [headers(1, octets(0x88, 0x00, 0x01, 0x61, 0x84, 0xff, 0xff, 0xff, 0xff))],
    E.COMPRESSION_ERROR,
  ],
  [
    'RFC 7541, 5.2',
    'a string beyond the block',
    [headers(1, octets(0x88, 0x00, 0x05, 0x61))],
    E.COMPRESSION_ERROR,
  ],
  ['RFC 7541, 5.1', 'an integer without end', [headers(1, Buffer.alloc(12, 0xff))], E.COMPRESSION_ERROR],
  ['RFC 7541, 6.1', 'the index 0', [headers(1, octets(0x80))], E.COMPRESSION_ERROR],
  [
    'RFC 7541, 6.3',
    'a table size above ours',
    [headers(1, octets(0x3f, 0xe2, 0x1f, 0x88))],
    E.COMPRESSION_ERROR,
  ],
];

const broken = (...fields: Fields): Buffer[] => [headers(1, status('200', ...fields))];

/** The streams that end, by default the first. */
const STREAM: Array<[...Row, id?: number]> = [
  ['5.1', 'half-closed: DATA behind END_STREAM', [data(11, 'x')], E.STREAM_CLOSED, 11],
  ['5.1', 'half-closed: HEADERS behind END_STREAM', [headers(11, trailers, END)], E.STREAM_CLOSED, 11],
  ['6.3', 'PRIORITY of 4 octets', [priority(1, 4)], E.FRAME_SIZE_ERROR],
  ['6.9', 'WINDOW_UPDATE of 0', [windowUpdate(1, 0)], E.PROTOCOL_ERROR],
  ['6.9.1', 'a stream window above 2^31-1', [windowUpdate(11, 2 ** 31 - 1)], E.FLOW_CONTROL_ERROR, 11],
  ['8.1', 'DATA before HEADERS', [data(1, 'x')], E.PROTOCOL_ERROR],
  ['8.1', 'DATA that ends the stream before HEADERS', [data(1, '', END_STREAM)], E.PROTOCOL_ERROR],
  [
    '8.1',
    'DATA after an interim response alone',
    [headers(1, status('103')), data(1, 'x')],
    E.PROTOCOL_ERROR,
  ],
  ['8.1', 'trailers without END_STREAM', [headers(3, trailers)], E.PROTOCOL_ERROR, 3],
  ['8.1', 'a second response', [headers(3, response)], E.PROTOCOL_ERROR, 3],
  ['8.1', 'an interim response behind the final one', [headers(3, status('100'))], E.PROTOCOL_ERROR, 3],
  ['8.1', 'an interim response that ends the stream', [headers(1, status('100'), END)], E.PROTOCOL_ERROR],
  ['8.1', 'a pseudo-header in trailers', [headers(3, status('200', ...TRAILERS), END)], E.PROTOCOL_ERROR, 3],
  [
    '8.1.1',
    'less than content-length',
    [...broken(['content-length', '3']), data(1, 'ab', END_STREAM)],
    E.PROTOCOL_ERROR,
  ],
  [
    '8.1.1',
    'more than content-length',
    [...broken(['content-length', '1']), data(1, 'ab')],
    E.PROTOCOL_ERROR,
  ],
  ['8.1.1', 'two lengths', broken(['content-length', '1'], ['content-length', '2']), E.PROTOCOL_ERROR],
  ['8.1.1', 'a length that is none', broken(['content-length', '-1']), E.PROTOCOL_ERROR],
  ['8.2.1', 'an upper-case name', broken(['X-Name', 'x']), E.PROTOCOL_ERROR],
  ['8.2.1', 'an empty name', broken(['', 'x']), E.PROTOCOL_ERROR],
  ['8.2.1', 'a space in a name', broken(['a b', 'x']), E.PROTOCOL_ERROR],
  ['8.2.1', 'a colon in a name', broken(['a:b', 'x']), E.PROTOCOL_ERROR],
  ['8.2.1', 'an escape in a name', broken(['\x1b[31m', 'x']), E.PROTOCOL_ERROR],
  ['8.2.1', 'an octet above 127 in a name', broken(['n\xe4me', 'x']), E.PROTOCOL_ERROR],
  ['8.2.1', 'NUL in a value', broken(['a', 'x\0']), E.PROTOCOL_ERROR],
  ['8.2.1', 'CR in a value', broken(['a', 'x\ry']), E.PROTOCOL_ERROR],
  ['8.2.1', 'LF in a value', broken(['a', 'x\ny']), E.PROTOCOL_ERROR],
  ['8.2.1', 'a space before a value', broken(['a', ' x']), E.PROTOCOL_ERROR],
  ['8.2.1', 'a tab behind a value', broken(['a', 'x\t']), E.PROTOCOL_ERROR],
  ['8.2.2', 'connection', broken(['connection', 'close']), E.PROTOCOL_ERROR],
  ['8.2.2', 'proxy-connection', broken(['proxy-connection', 'close']), E.PROTOCOL_ERROR],
  ['8.2.2', 'keep-alive', broken(['keep-alive', '1']), E.PROTOCOL_ERROR],
  ['8.2.2', 'transfer-encoding', broken(['transfer-encoding', 'chunked']), E.PROTOCOL_ERROR],
  ['8.2.2', 'upgrade', broken(['upgrade', 'h2c']), E.PROTOCOL_ERROR],
  [
    '8.2.2',
    'a connection field in trailers',
    [headers(3, block([...TRAILERS, ['upgrade', 'h2c']]), END)],
    E.PROTOCOL_ERROR,
    3,
  ],
  [
    '8.3',
    'a pseudo-header behind a field',
    [
      headers(
        1,
        block([
          ['a', 'b'],
          [':status', '200'],
        ]),
      ),
    ],
    E.PROTOCOL_ERROR,
  ],
  ['8.3', 'an unknown pseudo-header', broken([':unknown', 'x']), E.PROTOCOL_ERROR],
  ['8.3', 'a pseudo-header of requests', broken([':path', '/']), E.PROTOCOL_ERROR],
  ['8.3', 'a request for an answer', [headers(1, block(REQUEST))], E.PROTOCOL_ERROR],
  ['8.3.2', 'no :status', [headers(1, trailers)], E.PROTOCOL_ERROR],
  ['8.3.2', 'no field at all', [headers(1, octets())], E.PROTOCOL_ERROR],
  ['8.3.2', ':status twice', broken([':status', '200']), E.PROTOCOL_ERROR],
  ['8.3.2', ':status of two digits', [headers(1, status('20'))], E.PROTOCOL_ERROR],
  ['8.3.2', ':status that is no number', [headers(1, status('2xx'))], E.PROTOCOL_ERROR],
  ['8.6', '101', [headers(1, status('101'))], E.PROTOCOL_ERROR],
  [
    '10.5.1',
    'a list above our SETTINGS_MAX_HEADER_LIST_SIZE',
    broken(...Array.from({ length: 129 }, () => ['a', 'b'] as const)),
    E.ENHANCE_YOUR_CALM,
  ],
];

/** What looks odd and is right: nothing ends, nobody is told anything but what is expected here. */
const HARMLESS: Array<[section: string, what: string, octets: Buffer[]]> = [
  ['4.1', 'a frame of an unknown type', [frame(0x42, 0xff, 0, 'x'), frame(0xff, 0, 1, 'x')]],
  ['4.1', 'flags that mean nothing', [frame(T.PING, 0xfe, 0, 'opaque!!')]],
  ['4.1', 'the reserved bit', [frame(T.WINDOW_UPDATE, 0, 0x8000_0001, u32(1)), windowUpdate(1, 0x8000_0001)]],
  ['4.2', 'DATA of just SETTINGS_MAX_FRAME_SIZE', [data(3, Buffer.alloc(16_384))]],
  [
    '5.1',
    'late frames on a stream that we gave up',
    [headers(7, response), data(7, 'x'), windowUpdate(7, 1), rst(7, 8)],
  ],
  [
    '5.1',
    'WINDOW_UPDATE and RST_STREAM on streams that are over',
    [windowUpdate(5, 1), rst(5, 0), rst(9, 8)],
  ],
  ['5.1', 'PRIORITY on streams in any state', [15, 2, 1, 5, 7, 9, 11].map((id) => priority(id))],
  ['6.5', 'a SETTINGS ACK that answers nothing', [settingsAck()]],
  ['6.5.2', 'SETTINGS_ENABLE_PUSH of 0', [settings([2, 0])]],
  ['6.5.2', 'settings that nobody knows', [settings([0, 1], [0x99, 2 ** 32 - 1])]],
  ['6.7', 'a PING ACK that answers nothing', [ping('whatever', ACK)]],
  [
    '6.10',
    'a block in many pieces',
    [
      headers(1, response.subarray(0, 5), 0),
      continuation(1, octets(), 0),
      continuation(1, response.subarray(5, 6), 0),
      continuation(1, response.subarray(6)),
    ],
  ],
];

/** What a client still does for a server that it takes seriously. */
const QUESTIONS = [ping('answer?!'), settings([4, 1]), headers(BYSTANDER, response, END)];

const lastFrameOf = (peer: Http2Peer) => peer.frames().at(-1);

describe('a server that breaks a rule of the connection', () => {
  it.each(FATAL)('%s: %s', (_section, _what, chunks, code) => {
    const peer = client();
    peer.write(...chunks);
    const last = lastFrameOf(peer);
    expect(last?.type).toBe(T.GOAWAY);
    // None of its streams was taken, for it can have none.
    expect(last?.payload.readUInt32BE(0)).toBe(0);
    expect(last?.payload.readUInt32BE(4)).toBe(code);
    const { heard } = peer.owner;
    expect(heard.at(-1)).toEqual({ what: 'end', code, kind: undefined });
    const over = heard.flatMap((event) => (event.what === 'reset' ? [event] : []));
    expect(over).toEqual(OPEN.map((id) => ({ what: 'reset', id, code, origin: 'connection' })));
    peer.owner.take();
    peer.write(...QUESTIONS);
    expect([peer.frames(), peer.owner.take()]).toEqual([[], []]);
  });

  it.each(FATAL)(
    '%s: %s: nothing behind it in the same read is looked at',
    (_section, _what, chunks, code) => {
      const peer = client();
      peer.write(Buffer.concat([...chunks, ...QUESTIONS, ...chunks]));
      const frames = peer.frames();
      expect(frames.filter(({ type }) => type === T.GOAWAY)).toHaveLength(1);
      expect(frames.at(-1)?.payload.readUInt32BE(4)).toBe(code);
      expect(frames.some(({ type, flags }) => type === T.PING && flags === ACK)).toBe(false);
      expect(peer.owner.ends).toBe(1);
    },
  );
});

it('6.9.1: DATA beyond the connection window, which is not opened while far too much is held', () => {
  const peer = new Http2Peer({ role: 'client', limits: { queueBytes: 1 } });
  peer.owner.credits = false;
  for (const id of [1, 3, 5]) {
    peer.open(REQUEST, true);
    peer.write(headers(id, response), data(id, Buffer.alloc(16_384)));
  }
  peer.write(data(1, Buffer.alloc(16_383)));
  expect(peer.connection.ended).toBe(false);
  peer.write(data(1, 'x'));
  expect(peer.goawayCode()).toBe(E.FLOW_CONTROL_ERROR);
});

describe('a server that breaks a rule of a stream', () => {
  it.each(STREAM)('%s: %s', (_section, _what, chunks, code, id = 1) => {
    const peer = client();
    peer.write(...chunks);
    const resets = peer.framesOf(T.RST_STREAM).map((found) => [found.id, found.payload.readUInt32BE(0)]);
    expect(resets).toEqual([[id, code]]);
    const heard = peer.owner.take();
    const origin = code === E.ENHANCE_YOUR_CALM ? 'oversize' : 'local';
    expect(heard.filter(({ what }) => what === 'reset')).toEqual([{ what: 'reset', id, code, origin }]);
    expect(heard.at(-1)).toEqual({ what: 'stream-error', id, code });

    peer.write(ping('answer?!'), headers(BYSTANDER, response, END));
    expect(peer.owner.take()).toEqual([{ what: 'headers', id: BYSTANDER, status: 200, fin: true }]);
    expect(peer.connection.canOpen).toBe(true);
    expect(peer.open(REQUEST, true).id).toBe(15);
    expect(peer.frames().map(({ type }) => type)).toEqual([T.PING, T.HEADERS]);
  });
});

describe('a server that only looks odd', () => {
  it.each(HARMLESS)('%s: %s', (_section, _what, chunks) => {
    const peer = client();
    peer.write(...chunks);
    const answers = peer.frames().map(({ type, flags }) => [type, flags]);
    expect(
      answers.filter(([type, flags]) => !(type === T.PING || type === T.SETTINGS) || flags !== ACK),
    ).toEqual([]);
    expect(peer.owner.take().filter(({ what }) => what !== 'headers' && what !== 'data')).toEqual([]);
    expect(peer.connection.streams).toBe(OPEN.length);
    peer.write(headers(BYSTANDER, response, END));
    expect(peer.owner.take()).toEqual([{ what: 'headers', id: BYSTANDER, status: 200, fin: true }]);
  });
});

describe('the server’s preface (section 3.4)', () => {
  const OPENINGS: Array<[what: string, octets: Buffer]> = [
    ['PING', ping()],
    ['HEADERS', headers(1, response)],
    ['an ACK of our SETTINGS', settingsAck()],
    ['GOAWAY', goaway(0, 0)],
    ['an unknown frame', frame(0x42, 0, 0)],
    ['HTTP/1.1', Buffer.from('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n')],
    ['what a server says that speaks first', Buffer.from('220 mail.example ESMTP\r\n')],
    ['zeros', Buffer.alloc(32)],
    ['noise', Buffer.alloc(32, 0xff)],
  ];

  it.each(OPENINGS)('must be SETTINGS: %s ends the connection', (_what, opening) => {
    const peer = new Http2Peer({ role: 'client', raw: true });
    peer.write(opening, settings());
    expect(peer.goawayCode()).toBe(E.PROTOCOL_ERROR);
    expect(peer.owner.heard).toEqual([{ what: 'end', code: E.PROTOCOL_ERROR, kind: undefined }]);
  });

  it('that is HTTP/1.1 is called so', () => {
    const peer = new Http2Peer({ role: 'client', raw: true });
    peer.write(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'));
    expect(peer.owner.error?.message).toContain('answers in HTTP/1');
  });
});
