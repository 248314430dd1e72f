import { describe, expect, it } from 'vitest';
import { Decoder } from '../../src/hpack/decoder.ts';
import type { HeaderList } from '../../src/hpack/headerlist.ts';
import { hashOctets, Memo } from '../../src/hpack/memo.ts';
import { plainHuffmanEncode, plainInteger } from './plain.ts';

const decode = (decoder: Decoder, octets: readonly number[]): HeaderList =>
  decoder.decode(Buffer.from(octets), 0, octets.length);
const raw = (text: string): number[] => [...plainInteger(0, 7, text.length), ...Buffer.from(text, 'latin1')];
const without = (name: string, value: string): number[] => [0x00, ...raw(name), ...raw(value)];
const incremental = (name: string, value: string): number[] => [0x40, ...raw(name), ...raw(value)];

/** The list after the block has come often enough to be remembered. */
function settled(decoder: Decoder, octets: readonly number[]): HeaderList {
  decode(decoder, octets);
  decode(decoder, octets);
  return decode(decoder, octets);
}

describe('remembered blocks', () => {
  const BLOCK = [0x82, 0x86, 0x84, ...without('x-tenant', 'blue')];

  it('a block that comes again yields the same list, with what its owner derived', () => {
    const decoder = new Decoder();
    const list = settled(decoder, BLOCK);
    list.derived = { route: 'greeter' };
    const again = decode(decoder, BLOCK);
    expect(again).toBe(list);
    expect(again.derived).toEqual({ route: 'greeter' });
  });

  it('a block that came once is not kept', () => {
    const decoder = new Decoder();
    for (let i = 0; i < 1000; i++) decode(decoder, without('x-tenant', `value ${i}`));
    expect(decoder.memoOctets).toBe(0);
  });

  it('the memo owns its keys: the read buffer may be overwritten', () => {
    const decoder = new Decoder();
    const buf = Buffer.from(BLOCK);
    const other = Buffer.from([...BLOCK.slice(0, -1), 'x'.charCodeAt(0)]);
    for (let i = 0; i < 3; i++) decoder.decode(buf, 0, buf.length);
    buf.set(other);
    expect(decoder.decode(buf, 0, buf.length).get('x-tenant')).toBe('blux');
    expect(decode(decoder, BLOCK).get('x-tenant')).toBe('blue');
  });

  it('a change of the table makes it forget', () => {
    const decoder = new Decoder();
    decode(decoder, incremental('first', '1'));
    const list = settled(decoder, [0xbe]);
    expect(list.get('first')).toBe('1');
    expect(decoder.memoOctets).toBeGreaterThan(0);
    decode(decoder, incremental('second', '2'));
    expect(decode(decoder, [0xbe]).get('second')).toBe('2');
    expect(decode(decoder, [0xbf]).get('first')).toBe('1');
  });

  it('a change of the capacity alone makes it forget, though no entry went', () => {
    const decoder = new Decoder();
    const restoring = [...plainInteger(0x20, 5, 4096), 0x82];
    settled(decoder, restoring);
    decode(decoder, [...plainInteger(0x20, 5, 40), 0x82]);
    decode(decoder, restoring);
    decode(decoder, incremental('a', '1'));
    decode(decoder, incremental('b', '2'));
    expect(decoder.tableSize).toBe(68);
  });

  it('a block that changes the table is not remembered', () => {
    const decoder = new Decoder();
    for (let i = 1; i <= 5; i++) {
      decode(decoder, incremental('a', 'b'));
      expect(decoder.tableSize).toBe(34 * i);
    }
  });

  it.each<[string, number[]]>([
    ['a never-indexed field', [0x10, ...raw('password'), ...raw('secret')]],
    ['authorization', without('authorization', 'Bearer token')],
    ['authorization by its index', [0x0f, 0x08, ...raw('Bearer token')]],
    ['proxy-authorization', without('proxy-authorization', 'Basic token')],
    ['cookie', without('cookie', 'id=1')],
    ['set-cookie', without('set-cookie', 'id=1')],
    ['binary metadata', without('trace-bin', 'AAEC')],
  ])('a list with %s is not remembered', (_what, octets) => {
    const decoder = new Decoder();
    const list = settled(decoder, [0x82, ...octets]);
    const again = decode(decoder, [0x82, ...octets]);
    expect(again).not.toBe(list);
    expect(again.fields[1]).not.toBe(list.fields[1]);
    expect(again).toEqual(list);
    expect(decoder.memoOctets).toBe(0);
  });

  it('an oversize list is not remembered', () => {
    const decoder = new Decoder({ maxFields: 1 });
    expect(settled(decoder, [0x82, 0x86])).not.toBe(decode(decoder, [0x82, 0x86]));
  });

  it('a block above 1 KiB is not remembered', () => {
    const decoder = new Decoder();
    const large = without('x', 'v'.repeat(1100));
    expect(settled(decoder, large)).not.toBe(decode(decoder, large));
    expect(decoder.memoOctets).toBe(0);
  });

  it('the memo is bounded, whatever comes', () => {
    const decoder = new Decoder();
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 300; i++) decode(decoder, without(`name-${i}`, String(i).repeat(300)));
      expect(decoder.memoOctets).toBeLessThanOrEqual(34 * 1024);
    }
  });

  it('blocks that never repeat do not keep it from noticing when they begin to', () => {
    const decoder = new Decoder();
    for (let i = 0; i < 5000; i++) decode(decoder, without('x-tenant', `value ${i}`));
    let list = decode(decoder, BLOCK);
    let seen = 0;
    for (let i = 0; i < 1000; i++) {
      const next = decode(decoder, BLOCK);
      if (next === list) seen++;
      list = next;
    }
    expect(seen).toBeGreaterThan(700);
  });
});

describe('remembered literals', () => {
  it('a value that comes again in a changing list is the same field', () => {
    const decoder = new Decoder();
    const block = (i: number): number[] => [
      ...without('x-tenant', 'blue-1234'),
      ...without('traceparent', `00-${i}`),
    ];
    for (let i = 0; i < 5; i++) decode(decoder, block(i));
    const [a, b] = [decode(decoder, block(6)), decode(decoder, block(7))];
    expect(a.fields[0]).toBe(b.fields[0]);
    expect(b.get('traceparent')).toBe('00-7');
  });

  it('a raw value and a Huffman-coded one of the same octets are not confused, nor two names', () => {
    const octets = plainHuffmanEncode('private');
    const decoder = new Decoder();
    const coded = Buffer.from(octets).toString('latin1');
    for (let round = 0; round < 5; round++) {
      for (const name of ['x-a', 'x-b', 'y-a']) {
        for (const huffman of [0x00, 0x80]) {
          const value = [huffman | octets.length, ...octets];
          const list = decode(decoder, [0x00, ...raw(name), ...value, ...without('i', String(round))]);
          expect(list.fields[0]).toMatchObject({ name, value: huffman ? 'private' : coded });
        }
      }
    }
  });
});

describe('Memo', () => {
  const LIMITS = { slots: 8, longestKey: 16, keyOctets: 64 };
  const put = (memo: Memo<string>, key: Buffer, value: string): void => {
    const hash = hashOctets(key, 0, key.length, 0);
    if (memo.find(hash, key, 0, key.length) !== null) return;
    memo.offer(hash, key, 0, key.length, value);
  };

  it('two keys of the same hash are told apart', () => {
    const memo = new Memo<string>(LIMITS);
    const [a, b] = [Buffer.from('aaaa'), Buffer.from('bbbb')];
    memo.offer(7, a, 0, 4, 'a');
    memo.offer(7, a, 0, 4, 'a');
    expect(memo.find(7, a, 0, 4)).toBe('a');
    expect(memo.find(7, b, 0, 4)).toBeNull();
    expect(memo.find(7, a, 0, 3)).toBeNull();
  });

  it('a key that differs in any one octet, or in its length, is another, whatever its hash', () => {
    for (let length = 0; length <= 16; length++) {
      const memo = new Memo<string>(LIMITS);
      const around = Buffer.from('..0123456789abcdef..');
      const key = around.subarray(2, 2 + length);
      memo.offer(7, key, 0, length, 'known');
      memo.offer(7, key, 0, length, 'known');
      expect(memo.find(7, around, 2, 2 + length)).toBe('known');
      expect(memo.find(7, around, 2, 3 + length)).toBeNull();
      for (let i = 0; i < length; i++) {
        const other = Buffer.from(around);
        other[2 + i] = (other[2 + i] as number) ^ 0x80;
        expect(memo.find(7, other, 2, 2 + length), `octet ${i} of ${length}`).toBeNull();
      }
    }
  });

  it('a hash is of every octet, of the length and of the seed', () => {
    const octets = Buffer.from('0123456789abcdefghi');
    for (let length = 1; length <= 16; length++) {
      const hash = hashOctets(octets, 1, 1 + length, 0);
      expect(hashOctets(octets, 1, 1 + length, 1)).not.toBe(hash);
      expect(hashOctets(octets, 1, 2 + length, 0)).not.toBe(hash);
      for (let i = 1; i <= length; i++) {
        const other = Buffer.from(octets);
        other[i] = (other[i] as number) ^ 0x80;
        expect(hashOctets(other, 1, 1 + length, 0), `octet ${i} of ${length}`).not.toBe(hash);
      }
    }
  });

  it('it holds no more entries than slots and no more octets than allowed', () => {
    const memo = new Memo<string>(LIMITS);
    for (let i = 0; i < 200; i++) {
      for (let twice = 0; twice < 2; twice++) put(memo, Buffer.from(`key number ${i}`), 'x');
      expect(memo.length).toBeLessThanOrEqual(8);
      expect(memo.octets).toBeLessThanOrEqual(64);
    }
    expect(memo.length).toBeGreaterThan(0);
    memo.clear();
    expect([memo.length, memo.octets]).toEqual([0, 0]);
  });

  it('keys that are too long are not wanted; after many failures it pauses, and then tries again', () => {
    const memo = new Memo<string>(LIMITS);
    expect(memo.wanted(16)).toBe(true);
    expect(memo.wanted(17)).toBe(false);
    let wanted = 0;
    for (let i = 0; i < 10_000; i++) {
      if (!memo.wanted(4)) continue;
      wanted++;
      put(memo, Buffer.from(String(i).padStart(5)), 'x');
    }
    expect(wanted).toBeGreaterThan(500);
    expect(wanted).toBeLessThan(2000);
  });
});
