import { describe, expect, it } from 'vitest';
import { Decoder } from '../../src/hpack/decoder.ts';
import { HpackError, type HpackErrorCode } from '../../src/hpack/errors.ts';
import type { HeaderList } from '../../src/hpack/headerlist.ts';
import { PlainEncoder, plainInteger } from './plain.ts';

const decode = (decoder: Decoder, octets: readonly number[]): HeaderList =>
  decoder.decode(Buffer.from(octets), 0, octets.length);
const pairs = (list: HeaderList): string[] => list.fields.map(({ name, value }) => `${name}=${value}`);
const raw = (text: string): number[] => [...plainInteger(0, 7, text.length), ...Buffer.from(text, 'latin1')];
const incremental = (name: string, value: string): number[] => [0x40, ...raw(name), ...raw(value)];
const without = (name: string, value: string): number[] => [0x00, ...raw(name), ...raw(value)];
const sizeUpdate = (octets: number): number[] => plainInteger(0x20, 5, octets);

function codeOf(octets: readonly number[], decoder = new Decoder()): HpackErrorCode | undefined {
  try {
    decode(decoder, octets);
  } catch (error) {
    if (error instanceof HpackError) return error.code;
    throw error;
  }
  return undefined;
}

describe('malformed blocks', () => {
  it.each<[string, number[], HpackErrorCode]>([
    ['index 0', [0x80], 'bad-index'],
    ['an index beyond the empty dynamic table', [0xbe], 'bad-index'],
    ['an index far beyond both tables', plainInteger(0x80, 7, 1_000_000), 'bad-index'],
    ['a name index beyond the tables', [...plainInteger(0x40, 6, 62), ...raw('x')], 'bad-index'],
    [
      'a name index beyond the tables, never indexed',
      [...plainInteger(0x10, 4, 62), ...raw('x')],
      'bad-index',
    ],
    ['an index of 29 bits', [0xff, 0x80, 0x80, 0x80, 0x80, 0x01], 'integer-too-large'],
    ['a string length of 29 bits', [0x00, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x01], 'integer-too-large'],
    ['an index cut off', [0xff], 'truncated-block'],
    ['a literal without a name', [0x40], 'truncated-block'],
    ['a literal without a value', [0x40, ...raw('name')], 'truncated-block'],
    ['a literal with an indexed name and no value', [0x04], 'truncated-block'],
    ['a size update cut off', [0x3f], 'truncated-block'],
    ['a name longer than the block', [0x00, 0x05, 0x61, 0x62], 'string-too-long'],
    ['a value longer than the block', [0x04, 0x02, 0x61], 'string-too-long'],
    ['a value of 2 GiB', [0x04, 0x7f, 0x80, 0xff, 0xff, 0x7f], 'string-too-long'],
    ['EOS in a value', [0x04, 0x84, 0xff, 0xff, 0xff, 0xff], 'huffman-eos'],
    ['padding of eight ones', [0x04, 0x82, 0x1f, 0xff], 'huffman-padding'],
    ['padding of zeros', [0x04, 0x81, 0x18], 'huffman-padding'],
  ])('%s is refused', (_what, octets, code) => {
    expect(codeOf(octets)).toBe(code);
  });

  it('a string may end exactly with the buffer, but not beyond `end`', () => {
    const buf = Buffer.from([0x04, 0x02, 0x61, 0x62, 0x63]);
    expect(pairs(new Decoder().decode(buf, 0, 4))).toEqual([':path=ab']);
    expect(() => new Decoder().decode(buf, 0, 3)).toThrow(
      expect.objectContaining({ code: 'string-too-long' }),
    );
  });

  it('after a failure the decoder is dead, also for good blocks', () => {
    const decoder = new Decoder();
    expect(codeOf([0x80], decoder)).toBe('bad-index');
    expect(codeOf([0x82], decoder)).toBe('dead');
  });

  it('a failure says that the peer caused it and that it ends the connection', () => {
    expect(() => decode(new Decoder(), [0x80])).toThrow(
      expect.objectContaining({ origin: 'remote', reach: 'connection' }),
    );
  });
});

describe('the size of the dynamic table', () => {
  it('an empty block is an empty list', () => {
    expect(decode(new Decoder(), [])).toMatchObject({ fields: [], size: 0, oversize: false });
  });

  it('two updates at the start of a block are allowed, three are not', () => {
    expect(codeOf([...sizeUpdate(0), ...sizeUpdate(4096), 0x82])).toBeUndefined();
    expect(codeOf([...sizeUpdate(0), ...sizeUpdate(1), ...sizeUpdate(2), 0x82])).toBe('table-size-repeated');
  });

  it('an update after a field is refused', () => {
    expect(codeOf([0x82, ...sizeUpdate(0)])).toBe('table-size-misplaced');
  });

  it('an update above what was announced is refused', () => {
    expect(codeOf(sizeUpdate(4096))).toBeUndefined();
    expect(codeOf(sizeUpdate(4097))).toBe('table-size-too-large');
    expect(codeOf(sizeUpdate(101), new Decoder({ maxTableSize: 100 }))).toBe('table-size-too-large');
  });

  it('after a reduction the next block must begin with an update', () => {
    for (const octets of [[0x82], [], [0x82, ...sizeUpdate(100)]]) {
      const decoder = new Decoder();
      decoder.setMaxTableSize(100);
      expect(codeOf(octets, decoder)).toBe('table-size-missing');
    }
    const decoder = new Decoder();
    decoder.setMaxTableSize(100);
    expect(codeOf([...sizeUpdate(100), 0x82], decoder)).toBeUndefined();
    expect(codeOf([0x82], decoder)).toBeUndefined();
  });

  it('a block that is known is not taken from the memo when an update is due', () => {
    const decoder = new Decoder();
    for (let i = 0; i < 4; i++) decode(decoder, [0x82]);
    decoder.setMaxTableSize(100);
    expect(codeOf([0x82], decoder)).toBe('table-size-missing');
  });

  it('of several reductions the smallest must come first, then what is in force may', () => {
    const announce = (): Decoder => {
      const decoder = new Decoder();
      decoder.setMaxTableSize(100);
      decoder.setMaxTableSize(50);
      decoder.setMaxTableSize(2000);
      return decoder;
    };
    expect(codeOf([...sizeUpdate(50), ...sizeUpdate(2000), 0x82], announce())).toBeUndefined();
    expect(codeOf([...sizeUpdate(0), ...sizeUpdate(2000), 0x82], announce())).toBeUndefined();
    expect(codeOf([...sizeUpdate(100), ...sizeUpdate(2000)], announce())).toBe('table-size-too-large');
    expect(codeOf([...sizeUpdate(50), ...sizeUpdate(2001)], announce())).toBe('table-size-too-large');
  });

  it('an increase needs no update', () => {
    const decoder = new Decoder();
    decoder.setMaxTableSize(65_536);
    expect(codeOf([0x82], decoder)).toBeUndefined();
    expect(codeOf([...sizeUpdate(65_536), 0x82], decoder)).toBeUndefined();
  });

  it('an update to 0 empties the table', () => {
    const decoder = new Decoder();
    decode(decoder, incremental('a', 'b'));
    expect(decoder.tableSize).toBe(34);
    decode(decoder, [...sizeUpdate(0), ...sizeUpdate(4096)]);
    expect(decoder.tableSize).toBe(0);
    expect(codeOf([0xbe], decoder)).toBe('bad-index');
  });

  it('a field larger than the table empties it and is in the list all the same', () => {
    const decoder = new Decoder({ maxTableSize: 64 });
    decode(decoder, incremental('a', 'b'));
    expect(pairs(decode(decoder, incremental('name', 'x'.repeat(40))))).toEqual([`name=${'x'.repeat(40)}`]);
    expect(decoder.tableSize).toBe(0);
  });

  it('the entry whose name is used may be evicted by the new one (RFC 7541 4.4)', () => {
    const decoder = new Decoder({ maxTableSize: 64 });
    decode(decoder, incremental('name', 'first'));
    expect(pairs(decode(decoder, [0x7e, ...raw('second'), 0xbe]))).toEqual(['name=second', 'name=second']);
    expect(decoder.tableSize).toBe('namesecond'.length + 32);
  });

  it('a table of 64 KiB holds 2,048 entries, and the oldest is where it should be', () => {
    const decoder = new Decoder({ maxTableSize: 65_536 });
    for (let i = 0; i < 2100; i++) decode(decoder, incremental('', ''));
    decode(decoder, incremental('', 'x'));
    expect(decoder.tableSize).toBeLessThanOrEqual(65_536);
    expect(pairs(decode(decoder, plainInteger(0x80, 7, 62)))).toEqual(['=x']);
    expect(pairs(decode(decoder, plainInteger(0x80, 7, 62 + 2046)))).toEqual(['=']);
    expect(codeOf(plainInteger(0x80, 7, 62 + 2047), decoder)).toBe('bad-index');
  });
});

describe('limits', () => {
  it('a list may be exactly as large as allowed', () => {
    const decoder = new Decoder({ maxListSize: 68 });
    expect(decode(decoder, [...without('a', 'b'), ...without('c', 'd')])).toMatchObject({
      size: 68,
      oversize: false,
    });
    const over = decode(decoder, [...without('a', 'b'), ...without('c', 'de')]);
    expect(over).toMatchObject({ size: 69, oversize: true });
    expect(pairs(over)).toEqual(['a=b']);
  });

  it('a list may have exactly as many fields as allowed', () => {
    const decoder = new Decoder({ maxFields: 3 });
    expect(decode(decoder, [0x82, 0x82, 0x82]).oversize).toBe(false);
    const over = decode(decoder, [0x82, 0x82, 0x82, 0x83]);
    expect(over.oversize).toBe(true);
    expect(over.fields).toHaveLength(3);
    expect(new Decoder().decode(Buffer.alloc(128, 0x82), 0, 128).oversize).toBe(false);
    expect(new Decoder().decode(Buffer.alloc(129, 0x82), 0, 129).oversize).toBe(true);
  });

  it('nothing is kept after the first dropped field, even if it would fit', () => {
    const decoder = new Decoder({ maxListSize: 100 });
    const over = decode(decoder, [...without('a', 'x'.repeat(200)), ...without('b', 'c')]);
    expect(over.fields).toEqual([]);
  });

  it('the table stays right while fields are dropped', () => {
    const decoder = new Decoder({ maxListSize: 100 });
    const block = [
      ...without('a', 'x'.repeat(200)),
      ...incremental('kept', 'in the table'),
      0x7e,
      ...raw('also'),
    ];
    expect(decode(decoder, block).oversize).toBe(true);
    expect(pairs(decode(decoder, [0xbf, 0xbe]))).toEqual(['kept=in the table', 'kept=also']);
  });

  it('errors among dropped fields are still errors', () => {
    expect(codeOf([...without('a', 'x'.repeat(200)), 0x80], new Decoder({ maxListSize: 100 }))).toBe(
      'bad-index',
    );
  });

  it('a bomb of indexed fields costs no memory: 64 KiB of references to one entry of 4 KB', () => {
    const decoder = new Decoder();
    decode(decoder, incremental('bomb', 'x'.repeat(4000)));
    const list = decode(decoder, new Array<number>(65_536).fill(0xbe));
    expect(list.oversize).toBe(true);
    expect(list.fields).toHaveLength(16);
    expect(list.size).toBe(65_536 * 4036);
  });
});

describe('identity', () => {
  it('fields of the tables are the same object each time', () => {
    const decoder = new Decoder({ memo: false });
    const first = decode(decoder, [0x82, ...incremental('x', 'y')]);
    const second = decode(decoder, [0x82, 0xbe]);
    expect(second.fields[0]).toBe(first.fields[0]);
    expect(second.fields[1]).toBe(first.fields[1]);
    expect(decode(new Decoder(), [0x82]).fields[0]).toBe(first.fields[0]);
  });

  it('names and values are latin1, each octet one character', () => {
    const text = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1');
    const encoder = new PlainEncoder();
    for (const huffman of [true, false]) {
      for (const name of [text, text.slice(250)]) {
        const octets = encoder.encode(name, name, { form: 'without', huffman, index: false });
        expect(pairs(decode(new Decoder(), octets))).toEqual([`${name}=${name}`]);
      }
    }
  });
});
