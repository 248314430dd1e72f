import fc from 'fast-check';
import hpack from 'hpack.js';
import { expect, it } from 'vitest';
import { HpackError } from '../../src/hpack/errors.ts';
import { decodeHuffman, encodeHuffman, huffmanLength } from '../../src/hpack/huffman.ts';
import { CODE_LENGTHS, CODES, EOS } from '../../src/hpack/huffmantable.ts';
import { plainHuffmanDecode, plainHuffmanEncode } from './plain.ts';

const latin1 = fc.uint8Array({ maxLength: 300 }).map((octets) => Buffer.from(octets).toString('latin1'));

function encode(text: string): Buffer {
  const buf = Buffer.alloc(huffmanLength(text) + 1, 0x77);
  expect(encodeHuffman(text, buf, 0)).toBe(buf.length - 1);
  return buf.subarray(0, -1);
}

function bits(...codes: string[]): Buffer {
  const all = codes.join('');
  expect(all.length % 8).toBe(0);
  return Buffer.from(all.match(/.{8}/g)!.map((octet) => Number.parseInt(octet, 2)));
}

const codeOf = (symbol: number): string => CODES[symbol]!.toString(2).padStart(CODE_LENGTHS[symbol]!, '0');

it('the code is that of RFC 7541 appendix B, by an independent copy', () => {
  expect(CODES.map((code, symbol) => [CODE_LENGTHS[symbol], code])).toEqual(hpack.huffman.encode);
});

// RFC 7541 C.4 and C.6
it.each([
  ['www.example.com', 'f1e3c2e5f23a6ba0ab90f4ff'],
  ['no-cache', 'a8eb10649cbf'],
  ['custom-key', '25a849e95ba97d7f'],
  ['custom-value', '25a849e95bb8e8b4bf'],
  ['302', '6402'],
  ['private', 'aec3771a4b'],
  ['Mon, 21 Oct 2013 20:13:21 GMT', 'd07abe941054d444a8200595040b8166e082a62d1bff'],
  ['https://www.example.com', '9d29ad171863c78f0b97c8e9ae82ae43d3'],
  ['', ''],
])('%j is coded as in the appendix, both ways', (text, hex) => {
  expect(encode(text).toString('hex')).toBe(hex);
  const octets = Buffer.from(hex, 'hex');
  expect(decodeHuffman(octets, 0, octets.length)).toBe(text);
});

it('every string of octets comes back, and is coded like its plain twin', () => {
  fc.assert(
    fc.property(latin1, (text) => {
      const octets = encode(text);
      expect([...octets]).toEqual(plainHuffmanEncode(text));
      expect(decodeHuffman(octets, 0, octets.length)).toBe(text);
    }),
  );
});

it('every symbol alone comes back', () => {
  for (let symbol = 0; symbol < EOS; symbol++) {
    const text = String.fromCharCode(symbol);
    const octets = encode(text);
    expect(decodeHuffman(octets, 0, octets.length)).toBe(text);
  }
});

it('any octets are decoded or refused as by the plain twin', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (octets) => {
      let expected: string | undefined;
      try {
        expected = plainHuffmanDecode([...octets]);
      } catch {}
      let actual: string | undefined;
      try {
        actual = decodeHuffman(octets, 0, octets.length);
      } catch (error) {
        expect(error).toBeInstanceOf(HpackError);
      }
      expect(actual).toBe(expected);
    }),
    { numRuns: 2000 },
  );
});

it('a string longer than the scratch buffer is decoded', () => {
  const text = 'a'.repeat(20_000);
  const octets = encode(text);
  expect(decodeHuffman(octets, 0, octets.length)).toBe(text);
});

it('EOS in a string is refused, at its end too', () => {
  const eos = codeOf(EOS);
  for (const octets of [bits(eos, '11'), bits(codeOf(97), eos, codeOf(97)), bits(codeOf(97), eos, '11111')]) {
    expect(() => decodeHuffman(octets, 0, octets.length)).toThrow(
      expect.objectContaining({ code: 'huffman-eos' }),
    );
  }
});

it('padding of a whole octet is refused', () => {
  const a = codeOf(97);
  expect(decodeHuffman(bits(a, '111'), 0, 1)).toBe('a');
  const padded = bits(a, '11111111111');
  expect(() => decodeHuffman(padded, 0, 2)).toThrow(expect.objectContaining({ code: 'huffman-padding' }));
  expect(() => decodeHuffman(Buffer.from([0xff]), 0, 1)).toThrow(
    expect.objectContaining({ code: 'huffman-padding' }),
  );
});

it('padding that is not all ones is refused', () => {
  for (const padding of ['000', '110', '011', '101']) {
    expect(() => decodeHuffman(bits(codeOf(97), padding), 0, 1)).toThrow(
      expect.objectContaining({ code: 'huffman-padding' }),
    );
  }
});
