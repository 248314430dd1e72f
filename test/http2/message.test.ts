import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { StreamError } from '../../src/http2/errors.ts';
import { type MessageKind, readMessage } from '../../src/http2/message.ts';
import { type Fields, list, REQUEST, RESPONSE } from '../harness/http2-peer.ts';

/** The request with some pseudo-headers replaced (undefined: left out), and fields added. */
function request(changes: Record<string, string | undefined>, ...more: Array<[string, string]>): Fields {
  const kept = REQUEST.map(([name, value]) => [name, name in changes ? changes[name] : value] as const);
  return [...kept.filter((field): field is readonly [string, string] => field[1] !== undefined), ...more];
}

const MALFORMED: Array<[section: string, what: string, kind: MessageKind, fields: Fields]> = [
  ['8.2.1', 'an upper-case name', 'request', request({}, ['X-Test', 'a'])],
  ['8.2.1', 'an empty name', 'request', request({}, ['', 'a'])],
  ['8.2.1', 'a space in a name', 'request', request({}, ['a b', 'c'])],
  ['8.2.1', 'a control in a name', 'request', request({}, ['a\x01', 'c'])],
  ['8.2.1', 'DEL in a name', 'request', request({}, ['a\x7f', 'c'])],
  ['8.2.1', 'an octet above 0x7f in a name', 'request', request({}, ['a\xe9', 'c'])],
  ['8.2.1', 'a colon in a name', 'request', request({}, ['a:b', 'c'])],
  ['8.2.1', 'CR in a name', 'request', request({}, ['a\r', 'c'])],
  ['8.2.1', 'NUL in a value', 'request', request({}, ['a', 'x\0y'])],
  ['8.2.1', 'CR in a value', 'request', request({}, ['a', 'x\ry'])],
  ['8.2.1', 'LF in a value', 'trailers', [['a', 'x\ny']]],
  ['8.2.1', 'a leading space in a value', 'request', request({}, ['a', ' x'])],
  ['8.2.1', 'a trailing tab in a value', 'response', [...RESPONSE, ['a', 'x\t']]],
  ['8.2.2', 'connection', 'request', request({}, ['connection', 'close'])],
  ['8.2.2', 'keep-alive', 'response', [...RESPONSE, ['keep-alive', 'timeout=1']]],
  ['8.2.2', 'proxy-connection', 'request', request({}, ['proxy-connection', 'close'])],
  ['8.2.2', 'transfer-encoding', 'request', request({}, ['transfer-encoding', 'chunked'])],
  ['8.2.2', 'upgrade', 'request', request({}, ['upgrade', 'h2c'])],
  ['8.2.2', 'te other than trailers', 'request', request({}, ['te', 'trailers, deflate'])],
  ['8.3', 'a pseudo-header behind a field', 'request', [...request({ ':path': undefined }), [':path', '/']]],
  ['8.3', 'a pseudo-header twice', 'request', [[':path', '/'], ...REQUEST]],
  ['8.3', 'an unknown pseudo-header', 'request', [[':protocol', 'websocket'], ...REQUEST]],
  ['8.3', ':status in a request', 'request', [[':status', '200'], ...REQUEST]],
  ['8.3', ':path in a response', 'response', [[':path', '/'], ...RESPONSE]],
  ['8.3', ':status twice', 'response', [[':status', '200'], ...RESPONSE]],
  ['8.3', 'a pseudo-header in trailers', 'trailers', [[':status', '200']]],
  ['8.3.1', 'no :method', 'request', request({ ':method': undefined })],
  ['8.3.1', 'no :scheme', 'request', request({ ':scheme': undefined })],
  ['8.3.1', 'no :path', 'request', request({ ':path': undefined })],
  ['8.3.1', 'an empty :path', 'request', request({ ':path': '' })],
  ['8.3.1', 'a :path that does not begin with /', 'request', request({ ':path': 'shop' })],
  ['8.3.1', '* without OPTIONS', 'request', request({ ':path': '*' })],
  ['8.3.1', 'a space in :path', 'request', request({ ':path': '/a b' })],
  ['8.3.1', 'a control in :path', 'request', request({ ':path': '/a\x1b' })],
  ['8.3.1', 'an empty :method', 'request', request({ ':method': '' })],
  ['8.3.1', 'a space in :method', 'request', request({ ':method': 'GET /' })],
  ['8.3.1', 'a :scheme that is none', 'request', request({ ':scheme': 'ht tp' })],
  ['8.3.1', 'an empty :authority', 'request', request({ ':authority': '' })],
  ['8.3.1', 'neither :authority nor host', 'request', request({ ':authority': undefined })],
  ['8.3.1', 'user information in :authority', 'request', request({ ':authority': 'me@greeter' })],
  ['8.3.1', 'a path in :authority', 'request', request({ ':authority': 'greeter/x' })],
  ['8.3.1', 'host unlike :authority', 'request', request({}, ['host', 'other'])],
  ['8.3.1', 'host twice', 'request', request({}, ['host', 'greeter'], ['host', 'greeter'])],
  ['8.5', 'CONNECT with :path', 'request', request({ ':method': 'CONNECT' })],
  ['8.5', 'CONNECT without :authority', 'request', [[':method', 'CONNECT']]],
  ['8.3.2', ':status of letters', 'response', [[':status', 'abc']]],
  ['8.3.2', ':status of four digits', 'response', [[':status', '2000']]],
  ['8.3.2', ':status below 100', 'response', [[':status', '099']]],
  ['8.6', '101', 'response', [[':status', '101']]],
  ['8.1.1', 'content-length of letters', 'request', request({}, ['content-length', '1x'])],
  ['8.1.1', 'content-length with a sign', 'request', request({}, ['content-length', '+1'])],
  [
    '9110 8.6',
    'the same content-length twice',
    'request',
    request({}, ['content-length', '5'], ['content-length', '5']),
  ],
  ['8.1.1', 'content-length with commas', 'request', request({}, ['content-length', '1, 1'])],
  [
    '8.1.1',
    'content-length beyond what numbers hold',
    'request',
    request({}, ['content-length', '9'.repeat(16)]),
  ],
  [
    '8.1.1',
    'two content-lengths that differ',
    'request',
    request({}, ['content-length', '1'], ['content-length', '2']),
  ],
];

describe('a malformed message', () => {
  it.each(MALFORMED)('%s: %s', (_section, _what, kind, fields) => {
    expect(() => readMessage(list(fields), kind)).toThrow(StreamError);
    try {
      readMessage(list(fields), kind);
    } catch (error) {
      expect(error).toMatchObject({ code: 1 });
      // Of what came, nothing goes into a log unescaped.
      expect((error as Error).message).toMatch(/^[\x20-\x7e]+$/);
    }
  });
});

const RIGHT: Array<[what: string, kind: MessageKind, fields: Fields, says: object]> = [
  [
    'a gRPC request',
    'request',
    request({}, ['grpc-timeout', '10S']),
    {
      method: 'POST',
      path: '/shop.Greeter/SayHello',
      authority: 'greeter',
      contentType: 'application/grpc',
      grpcTimeout: '10S',
      contentLength: -1,
    },
  ],
  [
    'host instead of :authority',
    'request',
    request({ ':authority': undefined }, ['host', 'greeter:80']),
    { authority: 'greeter:80' },
  ],
  [
    'host like :authority but for case',
    'request',
    request({}, ['host', 'GREETER']),
    { authority: 'greeter' },
  ],
  ['an IPv6 :authority', 'request', request({ ':authority': '[::1]:443' }), { authority: '[::1]:443' }],
  ['a percent-encoded :authority', 'request', request({ ':authority': '%2Ftmp%2Fapp.sock' }), {}],
  ['OPTIONS *', 'request', request({ ':method': 'OPTIONS', ':path': '*' }), { path: '*' }],
  ['a query, and octets above 0x7f, in :path', 'request', request({ ':path': '/a?b=\xe9' }), {}],
  [
    'CONNECT',
    'request',
    [
      [':method', 'CONNECT'],
      [':authority', 'greeter:1'],
    ],
    { method: 'CONNECT' },
  ],
  ['te: trailers', 'request', REQUEST, {}],
  ['white space within a value, and an empty value', 'request', request({}, ['a', 'x \t y'], ['b', '']), {}],
  ['octets above 0x7f in a value', 'request', request({}, ['a', 'caf\xe9']), {}],
  [
    'fields again and again',
    'request',
    request({}, ['a', '1'], ['a', '2'], ['cookie', 'x'], ['cookie', 'y']),
    {},
  ],
  ['a response', 'response', RESPONSE, { status: 200, grpcStatus: -1 }],
  ['trailers-only', 'response', [...RESPONSE, ['grpc-status', '14']], { status: 200, grpcStatus: 14 }],
  ['trailers', 'trailers', [['grpc-status', '0']], { grpcStatus: 0 }],
  ['a grpc-status that is none', 'trailers', [['grpc-status', '1x']], { grpcStatus: -1 }],
  ['no trailers', 'trailers', [], { grpcStatus: -1 }],
];

describe('a message that is right', () => {
  it.each(RIGHT)('%s', (_what, kind, fields, says) => {
    expect(readMessage(list(fields), kind)).toMatchObject({ kind, ...says });
  });

  it('is read once a list', () => {
    const of = list(REQUEST);
    expect(readMessage(of, 'request')).toBe(readMessage(of, 'request'));
  });

  it('is read again as what it is: trailers are not a response', () => {
    const of = list([['grpc-status', '0']]);
    expect(readMessage(of, 'trailers').grpcStatus).toBe(0);
    expect(() => readMessage(of, 'response')).toThrow(StreamError);
    expect(readMessage(of, 'trailers').grpcStatus).toBe(0);
  });
});

it('any list of latin1 fields is read, or refused with StreamError', () => {
  const text = fc.string({
    unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)),
    maxLength: 12,
  });
  const name = fc.oneof(
    text,
    fc.constantFrom(':method', ':path', ':scheme', ':authority', ':status', 'host', 'te', 'content-length'),
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(name, text), { maxLength: 8 }),
      fc.constantFrom<MessageKind>('request', 'response', 'trailers'),
      (fields, kind) => {
        const of = HeaderList.of(fields.map(([field, value]) => headerField(field, value)));
        try {
          const message = readMessage(of, kind);
          expect(message.kind).toBe(kind);
          expect(`${message.path}${message.authority}`).not.toMatch(/[\x00-\x20]/);
        } catch (error) {
          expect(error).toBeInstanceOf(StreamError);
          expect((error as Error).message).toMatch(/^[\x20-\x7e]+$/);
        }
      },
    ),
  );
});
