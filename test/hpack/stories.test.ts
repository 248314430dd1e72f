import { readdirSync, readFileSync } from 'node:fs';
import hpack from 'hpack.js';
import { describe, expect, it } from 'vitest';
import { Decoder } from '../../src/hpack/decoder.ts';
import { Encoder } from '../../src/hpack/encoder.ts';
import type { HeaderList } from '../../src/hpack/headerlist.ts';
import { PlainDecoder } from './plain.ts';

interface Story {
  cases: Array<{ wire: string; headers: Array<Record<string, string>>; header_table_size?: number }>;
}

const VECTORS = new URL('../vectors/hpack/', import.meta.url);
const stories = ['nghttp2', 'nghttp2-change-table-size'].flatMap((folder) =>
  readdirSync(new URL(folder, VECTORS)).map((file) => `${folder}/${file}`),
);

const load = (name: string): Story => JSON.parse(readFileSync(new URL(name, VECTORS), 'utf8')) as Story;
const fieldsOf = (list: HeaderList): Array<Record<string, string>> =>
  list.fields.map(({ name, value }) => ({ [name]: value }));

it('there are 63 stories', () => {
  expect(stories).toHaveLength(63);
});

describe.each(stories)('%s', (name) => {
  const { cases } = load(name);

  it.each([true, false])('is decoded (memo: %s)', (memo) => {
    const decoder = new Decoder({ memo });
    for (const { wire, headers, header_table_size } of cases) {
      if (header_table_size !== undefined) decoder.setMaxTableSize(header_table_size);
      const block = Buffer.from(wire, 'hex');
      expect(fieldsOf(decoder.decode(block, 0, block.length))).toEqual(headers);
    }
  });

  it("our encoder's blocks of it are decoded by hpack.js and the plain twin", () => {
    const decoder = new Decoder();
    const encoder = new Encoder();
    const independent = hpack.decompressor.create({ table: { maxSize: 4096 } });
    const plain = new PlainDecoder();
    for (const { wire, headers, header_table_size } of cases) {
      if (header_table_size !== undefined) {
        decoder.setMaxTableSize(header_table_size);
        encoder.setPeerTableSize(header_table_size);
        plain.setMaxTableSize(header_table_size);
      }
      const source = Buffer.from(wire, 'hex');
      const length = encoder.encode(decoder.decode(source, 0, source.length));
      const block = Buffer.from(encoder.block.octets.subarray(0, length));
      expect(plain.decode(block).fields.map((field) => ({ [field.name]: field.value }))).toEqual(headers);
      independent.write(block);
      independent.execute();
      for (const header of headers) {
        const field = independent.read();
        expect(field && { [field.name]: field.value }).toEqual(header);
      }
      expect(independent.read()).toBeNull();
    }
  });
});
