import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HandshakeError } from '../../src/transport/errors.ts';
import {
  decodeIdentityPayload,
  encodeIdentityPayload,
  type IdentityPayload,
  type PayloadSender,
} from '../../src/transport/identitypayload.ts';
import { codeOf } from './world.ts';

const tlv = (type: number, value: Uint8Array): Buffer =>
  Buffer.concat([Buffer.of(type, value.length >> 8, value.length & 0xff), value]);
const certificate = (length: number): Buffer =>
  Buffer.concat([Buffer.of(length >> 8, length & 0xff), Buffer.alloc(length, 7)]);

const CHAIN = tlv(0x81, certificate(5));
const ALGORITHM = tlv(0x82, Buffer.of(0x08, 0x07));
const SIGNATURE = tlv(0x83, Buffer.alloc(64, 1));
const EXPECTED = tlv(0x84, Buffer.from('spiffe://a/b'));
const RECORD = tlv(0x05, Buffer.of(0xff, 0xff));
const INSTANCE = tlv(0x06, Buffer.alloc(8, 2));

const parse = (parts: Buffer[], sender: PayloadSender = 'initiator'): IdentityPayload =>
  decodeIdentityPayload(Buffer.concat(parts), sender);
const refusal = (parts: Buffer[], sender: PayloadSender = 'initiator'): string =>
  codeOf(() => parse(parts, sender));
const FULL = [CHAIN, ALGORITHM, SIGNATURE, EXPECTED, RECORD, INSTANCE];

describe('the identity payload', () => {
  it('comes back as it was sent', () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((b) => Buffer.from(b));
    const payloads = fc.record({
      chain: fc.array(bytes, { minLength: 1, maxLength: 4 }),
      signatureAlgorithm: fc.constantFrom(0x0403 as const, 0x0807 as const),
      signature: bytes,
      expectedPeer: fc.stringMatching(/^spiffe:\/\/[a-z]{1,9}\/[a-z]{1,9}$/),
      maxRecord: fc.option(fc.integer({ min: 1024, max: 65535 }), { nil: undefined }),
      instance: fc.option(fc.constant(Buffer.from('instance')), { nil: undefined }),
    });
    fc.assert(
      fc.property(payloads, (payload) => {
        expect(decodeIdentityPayload(encodeIdentityPayload(payload), 'initiator')).toEqual(payload);
      }),
    );
  });

  it('may leave out the ignorable TLVs and have unknown ignorable ones', () => {
    expect(parse([CHAIN, ALGORITHM, SIGNATURE, EXPECTED]).maxRecord).toBeUndefined();
    expect(parse([...FULL, tlv(0x07, Buffer.from('new'))]).maxRecord).toBe(65535);
  });

  it('is refused with an unknown critical TLV', () => {
    expect(refusal([...FULL, tlv(0x87, Buffer.alloc(0))])).toBe('bad-identity-payload');
    expect(refusal([CHAIN, ALGORITHM, SIGNATURE, EXPECTED, tlv(0x85, Buffer.of(0xff, 0xff))])).toBe(
      'bad-identity-payload',
    );
  });

  it('has each TLV once and in ascending order of the low 7 bits', () => {
    for (let i = 0; i < FULL.length; i++) {
      const twice = FULL.flatMap((part, at) => (at === i ? [part, part] : [part]));
      expect(refusal(twice)).toBe('bad-identity-payload');
      if (i === 0) continue;
      const swapped = [...FULL];
      [swapped[i - 1], swapped[i]] = [swapped[i] as Buffer, swapped[i - 1] as Buffer];
      expect(refusal(swapped)).toBe('bad-identity-payload');
    }
    expect(refusal([tlv(0x01, Buffer.alloc(0)), ...FULL])).toBe('bad-identity-payload');
  });

  it('has nothing after its last TLV and no TLV cut short', () => {
    const bytes = Buffer.concat(FULL);
    for (const extra of [1, 2]) {
      expect(
        codeOf(() => decodeIdentityPayload(Buffer.concat([bytes, Buffer.alloc(extra)]), 'initiator')),
      ).toBe('bad-identity-payload');
    }
    const ends = new Set(FULL.map((_, i) => Buffer.concat(FULL.slice(0, i + 1)).length));
    for (let length = 1; length < bytes.length; length++) {
      if (ends.has(length) && length >= Buffer.concat(FULL.slice(0, 4)).length) continue;
      expect(codeOf(() => decodeIdentityPayload(bytes.subarray(0, length), 'initiator'))).toMatch(
        /bad-identity-payload|no-certificate/,
      );
    }
  });

  it('needs chain, algorithm, signature, and the expected id of the initiator only', () => {
    expect(refusal([])).toBe('no-certificate');
    expect(refusal(FULL.slice(1))).toBe('no-certificate');
    expect(refusal([tlv(0x81, Buffer.alloc(0)), ...FULL.slice(1)])).toBe('no-certificate');
    expect(refusal([CHAIN, SIGNATURE, EXPECTED])).toBe('bad-identity-payload');
    expect(refusal([CHAIN, ALGORITHM, EXPECTED])).toBe('bad-identity-payload');
    expect(refusal([CHAIN, ALGORITHM, SIGNATURE])).toBe('bad-identity-payload');
    expect(refusal([CHAIN, ALGORITHM, SIGNATURE], 'responder')).toBe('nothing was thrown');
    expect(refusal(FULL, 'responder')).toBe('bad-identity-payload');
  });

  it('bounds every value', () => {
    const withChain = (...certificates: Buffer[]): string =>
      refusal([tlv(0x81, Buffer.concat(certificates)), ...FULL.slice(1)]);
    const one = certificate(5);
    expect(withChain(one, one, one, one)).toBe('nothing was thrown');
    expect(withChain(one, one, one, one, one)).toBe('bad-identity-payload');
    expect(withChain(certificate(12 * 1024 - 2))).toBe('nothing was thrown');
    expect(withChain(certificate(12 * 1024 - 1))).toBe('bad-identity-payload');
    expect(withChain(certificate(0))).toBe('bad-identity-payload');
    expect(withChain(one, Buffer.of(0))).toBe('bad-identity-payload');
    expect(withChain(one, Buffer.of(0, 2, 9))).toBe('bad-identity-payload');
    const replace = (index: number, part: Buffer): string =>
      refusal(FULL.map((p, i) => (i === index ? part : p)));
    expect(replace(1, tlv(0x82, Buffer.of(4, 4)))).toBe('bad-identity-payload');
    expect(replace(1, tlv(0x82, Buffer.of(4)))).toBe('bad-identity-payload');
    expect(replace(2, tlv(0x83, Buffer.alloc(0)))).toBe('bad-identity-payload');
    expect(replace(2, tlv(0x83, Buffer.alloc(513)))).toBe('bad-identity-payload');
    expect(replace(3, tlv(0x84, Buffer.alloc(0)))).toBe('bad-identity-payload');
    expect(replace(3, tlv(0x84, Buffer.alloc(2049)))).toBe('bad-identity-payload');
    expect(replace(4, tlv(0x05, Buffer.of(0x03, 0xff)))).toBe('bad-identity-payload');
    expect(replace(4, tlv(0x05, Buffer.of(0xff)))).toBe('bad-identity-payload');
    expect(replace(5, tlv(0x06, Buffer.alloc(7)))).toBe('bad-identity-payload');
  });

  it('ends on any bytes with a payload or a HandshakeError', () => {
    const valid = Buffer.concat(FULL);
    const mutated = fc.tuple(fc.nat({ max: valid.length - 1 }), fc.nat({ max: 255 })).map(([at, value]) => {
      const bytes = Buffer.from(valid);
      bytes[at] = value;
      return bytes;
    });
    const random = fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(
        fc.oneof(mutated, random),
        fc.constantFrom('initiator' as const, 'responder' as const),
        (bytes, sender) => {
          try {
            decodeIdentityPayload(bytes, sender);
          } catch (error) {
            expect(error).toBeInstanceOf(HandshakeError);
          }
        },
      ),
    );
  });
});
