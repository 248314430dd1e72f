import fc from 'fast-check';
import { expect, it } from 'vitest';
import { HpackError } from '../../src/hpack/errors.ts';
import { IntegerReader, LONGEST_INTEGER, writeInteger } from '../../src/hpack/integer.ts';
import { plainInteger } from './plain.ts';

function write(first: number, bits: number, value: number): number[] {
  const buf = Buffer.alloc(LONGEST_INTEGER);
  return [...buf.subarray(0, writeInteger(buf, 0, first, 2 ** bits - 1, value))];
}

function read(octets: readonly number[], bits: number): { value: number; at: number } {
  const buf = Uint8Array.from(octets);
  const prefix = 2 ** bits - 1;
  const value = buf[0]! & prefix;
  if (value < prefix) return { value, at: 1 };
  const reader = new IntegerReader();
  return { value: reader.read(buf, 1, buf.length, prefix), at: reader.at };
}

it.each([
  ['C.1.1', 10, 5, [0b01010]],
  ['C.1.2', 1337, 5, [0b11111, 0b10011010, 0b00001010]],
  ['C.1.3', 42, 8, [0b00101010]],
])('RFC 7541 %s: %i with a prefix of %i bits, both ways', (_section, value, bits, octets) => {
  expect(write(0, bits, value)).toEqual(octets);
  expect(read(octets, bits)).toEqual({ value, at: octets.length });
});

it('every integer below 2^28 is read as it was written, in every prefix', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 28 - 1 }), fc.integer({ min: 4, max: 7 }), (value, bits) => {
      const octets = write(0, bits, value);
      expect(octets).toEqual(plainInteger(0, bits, value));
      expect(read([...octets, 0x55], bits)).toEqual({ value, at: octets.length });
    }),
  );
});

it('the largest setting can be written', () => {
  expect(write(0x20, 5, 2 ** 32 - 1)).toEqual(plainInteger(0x20, 5, 2 ** 32 - 1));
});

it.each([
  ['a value of 29 bits', [0x7f, 0x80, 0x80, 0x80, 0x80, 0x01], 'integer-too-large'],
  ['a value that would wrap round 32 bits', [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], 'integer-too-large'],
  ['five octets of nothing', [0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], 'integer-too-large'],
  ['endless continuation', [0x7f, ...new Array<number>(100).fill(0x80)], 'integer-too-large'],
  ['an integer without its end', [0x7f, 0x80], 'truncated-block'],
  ['a prefix without anything', [0x7f], 'truncated-block'],
])('%s is refused', (_what, octets, code) => {
  expect(() => read(octets, 7)).toThrow(HpackError);
  expect(() => read(octets, 7)).toThrow(expect.objectContaining({ code }));
});

it('the largest integer that is read has four continuation octets', () => {
  expect(read([0x7f, 0xff, 0xff, 0xff, 0x7f], 7).value).toBe(2 ** 28 - 1 + 0x7f);
});
