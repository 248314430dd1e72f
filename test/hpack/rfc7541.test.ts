import { describe, expect, it } from 'vitest';
import { Decoder } from '../../src/hpack/decoder.ts';
import { Encoder } from '../../src/hpack/encoder.ts';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { PlainEncoder } from './plain.ts';

type Pair = readonly [name: string, value: string];

interface Step {
  block: string;
  fields: readonly Pair[];
  /** The dynamic table afterwards, newest first, and its size. */
  table: readonly Pair[];
  size: number;
}

interface Example {
  section: string;
  capacity: number;
  huffman: boolean;
  steps: readonly Step[];
}

const AUTHORITY = [':authority', 'www.example.com'] as const;
const NO_CACHE = ['cache-control', 'no-cache'] as const;
const CUSTOM = ['custom-key', 'custom-value'] as const;

const requests = (...blocks: [string, string, string]): Step[] => [
  {
    block: blocks[0],
    fields: [[':method', 'GET'], [':scheme', 'http'], [':path', '/'], AUTHORITY],
    table: [AUTHORITY],
    size: 57,
  },
  {
    block: blocks[1],
    fields: [[':method', 'GET'], [':scheme', 'http'], [':path', '/'], AUTHORITY, NO_CACHE],
    table: [NO_CACHE, AUTHORITY],
    size: 110,
  },
  {
    block: blocks[2],
    fields: [[':method', 'GET'], [':scheme', 'https'], [':path', '/index.html'], AUTHORITY, CUSTOM],
    table: [CUSTOM, NO_CACHE, AUTHORITY],
    size: 164,
  },
];

const LOCATION = ['location', 'https://www.example.com'] as const;
const PRIVATE = ['cache-control', 'private'] as const;
const DATE_21 = ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'] as const;
const DATE_22 = ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'] as const;
const GZIP = ['content-encoding', 'gzip'] as const;
const COOKIE = ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'] as const;

const responses = (...blocks: [string, string, string]): Step[] => [
  {
    block: blocks[0],
    fields: [[':status', '302'], PRIVATE, DATE_21, LOCATION],
    table: [LOCATION, DATE_21, PRIVATE, [':status', '302']],
    size: 222,
  },
  {
    block: blocks[1],
    fields: [[':status', '307'], PRIVATE, DATE_21, LOCATION],
    table: [[':status', '307'], LOCATION, DATE_21, PRIVATE],
    size: 222,
  },
  {
    block: blocks[2],
    fields: [[':status', '200'], PRIVATE, DATE_22, LOCATION, GZIP, COOKIE],
    table: [COOKIE, GZIP, DATE_22],
    size: 215,
  },
];

const EXAMPLES: Example[] = [
  {
    section: 'C.2.1',
    capacity: 4096,
    huffman: false,
    steps: [
      {
        block: '400a637573746f6d2d6b65790d637573746f6d2d686561646572',
        fields: [['custom-key', 'custom-header']],
        table: [['custom-key', 'custom-header']],
        size: 55,
      },
    ],
  },
  {
    section: 'C.3',
    capacity: 4096,
    huffman: false,
    steps: requests(
      '828684410f7777772e6578616d706c652e636f6d',
      '828684be58086e6f2d6361636865',
      '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
    ),
  },
  {
    section: 'C.4',
    capacity: 4096,
    huffman: true,
    steps: requests(
      '828684418cf1e3c2e5f23a6ba0ab90f4ff',
      '828684be5886a8eb10649cbf',
      '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
    ),
  },
  {
    section: 'C.5',
    capacity: 256,
    huffman: false,
    steps: responses(
      '4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54' +
        '6e1768747470733a2f2f7777772e6578616d706c652e636f6d',
      '4803333037c1c0bf',
      '88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153' +
        '444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31',
    ),
  },
  {
    section: 'C.6',
    capacity: 256,
    huffman: true,
    steps: responses(
      '488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff' +
        '6e919d29ad171863c78f0b97c8e9ae82ae43d3',
      '4883640effc1c0bf',
      '88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b' +
        '3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
    ),
  },
];

const pairs = (list: HeaderList): Pair[] => list.fields.map(({ name, value }) => [name, value] as const);
const octets = (hex: string): Buffer => Buffer.from(hex, 'hex');

describe.each(EXAMPLES)('RFC 7541 $section', ({ capacity, huffman, steps }) => {
  it.each([true, false])('is decoded, with the table as printed after each block (memo: %s)', (memo) => {
    const decoder = new Decoder({ maxTableSize: capacity, memo });
    for (const { block, fields, table, size } of steps) {
      expect(pairs(decoder.decode(octets(block), 0, block.length / 2))).toEqual(fields);
      expect(decoder.tableSize).toBe(size);
      const whole = Buffer.from(table.map((_, i) => 0x80 + 62 + i));
      expect(pairs(decoder.decode(whole, 0, whole.length))).toEqual(table);
    }
  });

  it('is what the plain twin of our encoder writes', () => {
    const encoder = new PlainEncoder(capacity);
    for (const { block, fields } of steps) {
      const written = fields.flatMap(([name, value]) =>
        encoder.encode(name, value, { form: 'incremental', huffman, index: true }),
      );
      expect(Buffer.from(written).toString('hex')).toBe(block);
    }
  });

  it('survives our encoder, however often it comes', () => {
    const encoder = new Encoder({ maxTableSize: capacity });
    const decoder = new Decoder();
    for (let round = 0; round < 4; round++) {
      for (const { fields } of steps) {
        const length = encoder.encode(HeaderList.of(fields.map(([name, value]) => headerField(name, value))));
        expect(pairs(decoder.decode(encoder.block.octets, 0, length))).toEqual(fields);
      }
    }
  });
});

it('RFC 7541 C.2.2: a literal without indexing leaves the table alone', () => {
  const decoder = new Decoder();
  const list = decoder.decode(octets('040c2f73616d706c652f70617468'), 0, 14);
  expect(pairs(list)).toEqual([[':path', '/sample/path']]);
  expect(list.fields[0]!.neverIndexed).toBe(false);
  expect(decoder.tableSize).toBe(0);
});

it('RFC 7541 C.2.3: a never-indexed literal says so, and is written back octet by octet', () => {
  const block = octets('100870617373776f726406736563726574');
  const decoder = new Decoder();
  const list = decoder.decode(block, 0, block.length);
  expect(list.fields).toMatchObject([{ name: 'password', value: 'secret', neverIndexed: true }]);
  expect(decoder.tableSize).toBe(0);
  const encoder = new Encoder();
  expect(encoder.block.octets.subarray(0, encoder.encode(list))).toEqual(block);
});

it('RFC 7541 C.2.4: an indexed field of the static table, both ways', () => {
  const list = new Decoder().decode(octets('82'), 0, 1);
  expect(pairs(list)).toEqual([[':method', 'GET']]);
  const encoder = new Encoder();
  expect(encoder.encode(list)).toBe(1);
  expect(encoder.block.octets[0]).toBe(0x82);
});
