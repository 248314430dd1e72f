import { fileURLToPath } from 'node:url';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeEnvelope, EnvelopeError, encodeEnvelope } from '../../src/mesh/envelope.ts';

/** The codec that proto-loader makes of the file that others would use. */
const definition = loadSync(
  fileURLToPath(new URL('../../proto/hauberk/mesh/v1/envelope.proto', import.meta.url)),
  {
    oneofs: true,
  },
);
type Body = { json?: string; octets?: Buffer; body?: string };
const theirs = definition['hauberk.mesh.v1.Envelope'] as MessageTypeDefinition<Body, Body>;

const json = (text: string): Buffer => theirs.serialize({ json: text });
const decodes = (octets: Uint8Array) => (): unknown => decodeEnvelope(octets);

describe('an Envelope', () => {
  it('carries whatever JSON has, as others read it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false } as object), (value) => {
        fc.pre(!JSON.stringify(value).includes('"__proto__":')); // is refused
        const octets = encodeEnvelope(value);
        expect(theirs.deserialize(octets)).toEqual({ json: JSON.stringify(value), body: 'json' });
        expect(octets.equals(json(JSON.stringify(value)))).toBe(true);
        expect(decodeEnvelope(octets)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it.each([0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])(
    'carries %d octets, as others read it',
    (length) => {
      const value = Buffer.alloc(length, 0xa5);
      const octets = encodeEnvelope(new Uint8Array(value));
      const { octets: read, body } = theirs.deserialize(octets);
      expect([body, read?.equals(value)]).toEqual(['octets', true]);
      const back = decodeEnvelope(theirs.serialize({ octets: value }));
      expect(Buffer.isBuffer(back) && back.equals(value)).toBe(true);
    },
  );

  it('of undefined carries null', () => {
    expect(decodeEnvelope(encodeEnvelope(undefined))).toBeNull();
  });

  it('cannot be made of what JSON cannot have', () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    for (const value of [10n, cycle, () => 1, Symbol('x'), { toJSON: () => undefined }]) {
      expect(() => encodeEnvelope(value)).toThrow(EnvelopeError);
    }
    let deep: unknown = 1;
    for (let n = 0; n < 100_000; n++) deep = [deep];
    expect(() => encodeEnvelope(deep)).toThrow(EnvelopeError);
  });

  it('may have fields of later versions, and counts the last of its bodies', () => {
    const later = Buffer.from([
      0x18, 0xff, 0x01, 0x22, 0x02, 7, 7, 0x2d, 1, 2, 3, 4, 0x31, 1, 2, 3, 4, 5, 6, 7, 8,
    ]);
    expect(decodeEnvelope(Buffer.concat([later, json('{"a":1}'), later]))).toEqual({ a: 1 });
    const both = Buffer.concat([json('1'), encodeEnvelope(Buffer.from('x'))]);
    expect(decodeEnvelope(both)).toEqual(Buffer.from('x'));
    expect(decodeEnvelope(Buffer.concat([encodeEnvelope(Buffer.from('x')), json('1')]))).toBe(1);
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['only what later versions know', Buffer.from([0x18, 1])],
    ['a body cut off', json('"abcdef"').subarray(0, 6)],
    ['a length above its end', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1])],
    ['a length above 64 bits', Buffer.from([0x0a, ...Array<number>(12).fill(0xff)])],
    ['a fixed field cut off', Buffer.from([0x2d, 1])],
    ['a field 0', Buffer.from([0x02, 0])],
    ['a field above 2^29', Buffer.from([0xfa, 0xff, 0xff, 0xff, 0xff, 0x01, 0])],
    ['a group', Buffer.from([0x1b, 0x1c])],
    ['no UTF-8', Buffer.from([0x0a, 3, 0x22, 0xff, 0x22])],
    ['no JSON', json('{"a":')],
    ['an empty text', json('')],
  ])('with %s is refused', (_what, octets) => {
    expect(decodes(octets)).toThrow(EnvelopeError);
  });

  it.each([
    '{"__proto__":{"polluted":true}}',
    '{"a":[{"__proto__":1}]}',
    '{"\\u005f_proto__":{"polluted":true}}',
    '{"\\u005F\\u005F\\u0070roto__":{}}',
    '{"constructor":{"prototype":{"polluted":true}}}',
    '{"\\u0063onstructor":{"prototype":{}}}',
  ])('that would reach a prototype is refused: %s', (text) => {
    expect(decodes(json(text))).toThrow(/which is not taken/);
  });

  it('may speak of prototypes all the same', () => {
    for (const text of [
      '"__proto__"',
      '{"constructor":"Bob"}',
      '{"x":"constructor \\u00e9"}',
      '["constructor",null]',
    ]) {
      expect(decodeEnvelope(json(text))).toEqual(JSON.parse(text));
    }
  });

  it('that nests a million deep takes no stack', () => {
    const deep = '['.repeat(1_000_000) + '"\\u0061"' + ']'.repeat(1_000_000);
    expect(Array.isArray(decodeEnvelope(json(deep)))).toBe(true);
  });

  it('of any octets is read or refused, as others do', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (octets) => {
        let value: unknown;
        try {
          value = decodeEnvelope(octets);
        } catch (error) {
          expect(error).toBeInstanceOf(EnvelopeError);
          return;
        }
        const same = theirs.deserialize(Buffer.from(octets));
        expect(value).toEqual(same.body === 'octets' ? same.octets : JSON.parse(same.json as string));
      }),
      { numRuns: 2_000 },
    );
  });
});
