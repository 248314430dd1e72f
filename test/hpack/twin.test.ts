import fc from 'fast-check';
import hpack from 'hpack.js';
import { expect, it } from 'vitest';
import { Decoder } from '../../src/hpack/decoder.ts';
import { Encoder } from '../../src/hpack/encoder.ts';
import { HpackError } from '../../src/hpack/errors.ts';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { type PlainChoice, PlainDecoder, PlainEncoder, type PlainField, type PlainList } from './plain.ts';

const NAMES = [
  ':method',
  ':path',
  ':authority',
  ':status',
  'content-type',
  'te',
  'grpc-status',
  'grpc-timeout',
  'hauberk-peer',
  'authorization',
  'x-tenant',
  'trace-bin',
  '',
];
const VALUES = [
  '',
  '/',
  'POST',
  '0',
  '200',
  'trailers',
  'application/grpc',
  '/shop.Greeter/SayHello',
  '100m',
  '/a?token=1',
];

const anyText = fc.uint8Array({ maxLength: 60 }).map((octets) => Buffer.from(octets).toString('latin1'));
const ascii = fc.string({ unit: 'grapheme-ascii', maxLength: 60 });

const fieldOf = (text: fc.Arbitrary<string>): fc.Arbitrary<PlainField> =>
  fc.record({
    name: fc.oneof({ arbitrary: fc.constantFrom(...NAMES), weight: 8 }, { arbitrary: text, weight: 1 }),
    value: fc.oneof({ arbitrary: fc.constantFrom(...VALUES), weight: 4 }, { arbitrary: text, weight: 1 }),
    neverIndexed: fc.boolean(),
  });

/** A few lists, and the order in which they are sent: most come again and again. */
const traffic = (text: fc.Arbitrary<string>): fc.Arbitrary<{ lists: PlainField[][]; order: Step[] }> =>
  fc.array(fc.array(fieldOf(text), { maxLength: 8 }), { minLength: 1, maxLength: 5 }).chain((lists) =>
    fc.record({
      lists: fc.constant(lists),
      order: fc.array(step(lists.length), { minLength: 1, maxLength: 40 }),
    }),
  );

interface Step {
  list: number;
  choices: PlainChoice[];
  capacities: number[];
}

const choice: fc.Arbitrary<PlainChoice> = fc.record({
  form: fc.constantFrom('incremental', 'without', 'never'),
  huffman: fc.boolean(),
  index: fc.boolean(),
});
/** What a peer that hardly changes its ways would do: the blocks repeat. */
const steady: fc.Arbitrary<PlainChoice> = fc.constantFrom(
  { form: 'incremental', huffman: true, index: true },
  { form: 'without', huffman: false, index: true },
);
const capacity = fc.constantFrom(0, 40, 100, 200, 500, 4096);

const step = (lists: number): fc.Arbitrary<Step> =>
  fc.record({
    list: fc.nat({ max: lists - 1 }),
    choices: fc.array(fc.oneof({ arbitrary: steady, weight: 6 }, { arbitrary: choice, weight: 1 }), {
      minLength: 1,
      maxLength: 3,
    }),
    capacities: fc.oneof(
      { arbitrary: fc.constant<number[]>([]), weight: 6 },
      { arbitrary: fc.array(capacity, { minLength: 1, maxLength: 2 }), weight: 1 },
    ),
  });

const plainOf = (list: HeaderList): PlainList => ({
  fields: list.fields.map(({ name, value, neverIndexed }) => ({ name, value, neverIndexed })),
  size: list.size,
  oversize: list.oversize,
});

const LIMITS = { maxListSize: 400, maxFields: 6 };

it('whatever an encoder does, the decoder reads as its plain twin does, with and without memo', () => {
  fc.assert(
    fc.property(traffic(anyText), ({ lists, order }) => {
      const encoder = new PlainEncoder();
      const plain = new PlainDecoder(4096, LIMITS);
      const memoising = new Decoder({ ...LIMITS });
      const forgetful = new Decoder({ ...LIMITS, memo: false });
      for (const { list, choices, capacities } of order) {
        const block = [
          ...capacities.flatMap((octets) => encoder.resize(octets)),
          ...lists[list]!.flatMap(({ name, value }, i) =>
            encoder.encode(name, value, choices[i % choices.length]!),
          ),
        ];
        // At an offset, in a buffer that is overwritten afterwards.
        const buf = Buffer.from([1, 2, 3, ...block, 4]);
        const expected = plain.decode(Uint8Array.from(block));
        const results = [memoising, forgetful].map((decoder) => decoder.decode(buf, 3, buf.length - 1));
        buf.fill(0);
        for (const result of results) expect(plainOf(result)).toEqual(expected);
        expect(memoising.tableSize).toBe(plain.table.size);
        expect(forgetful.tableSize).toBe(plain.table.size);
      }
    }),
    { numRuns: 300 },
  );
});

it('whatever our encoder is given, the decoders read the same, over changes of the table size', () => {
  fc.assert(
    fc.property(traffic(anyText), fc.constantFrom(100, 300, 4096), ({ lists, order }, own) => {
      const known = lists.map((fields) =>
        HeaderList.of(fields.map(({ name, value, neverIndexed }) => headerField(name, value, neverIndexed))),
      );
      const encoders = [new Encoder({ maxTableSize: own }), new Encoder({ maxTableSize: own, memo: false })];
      const ends = encoders.map((encoder) => ({
        encoder,
        plain: new PlainDecoder(),
        decoder: new Decoder(),
      }));
      for (const { list, capacities } of order) {
        for (const { encoder, plain, decoder } of ends) {
          for (const octets of capacities) {
            encoder.setPeerTableSize(octets);
            plain.setMaxTableSize(octets);
            decoder.setMaxTableSize(octets);
          }
          const length = encoder.encode(known[list]!);
          const block = Buffer.from(encoder.block.octets.subarray(0, length));
          const expected = { ...plainOf(known[list]!), oversize: false };
          expect(plain.decode(block)).toEqual(expected);
          expect(plainOf(decoder.decode(block, 0, length))).toEqual(expected);
          expect(encoder.tableSize).toBe(plain.table.size);
        }
      }
    }),
    { numRuns: 300 },
  );
});

it('two encoders in turn share the fields of one source without confusion', () => {
  fc.assert(
    fc.property(
      traffic(anyText),
      fc.array(fc.nat({ max: 1 }), { minLength: 1 }),
      ({ lists, order }, turns) => {
        const known = lists.map((fields) =>
          HeaderList.of(
            fields.map(({ name, value, neverIndexed }) => headerField(name, value, neverIndexed)),
          ),
        );
        const ends = [0, 1].map(() => ({ encoder: new Encoder(), plain: new PlainDecoder() }));
        order.forEach(({ list }, i) => {
          const { encoder, plain } = ends[turns[i % turns.length]!]!;
          const length = encoder.encode(known[list]!);
          expect(plain.decode(encoder.block.octets.subarray(0, length)).fields).toEqual(
            plainOf(known[list]!).fields,
          );
        });
      },
    ),
  );
});

it("hpack.js reads our encoder's blocks", () => {
  fc.assert(
    fc.property(traffic(ascii), ({ lists, order }) => {
      const encoder = new Encoder();
      const independent = hpack.decompressor.create({ table: { maxSize: 4096 } });
      for (const { list, capacities } of order) {
        for (const octets of capacities) encoder.setPeerTableSize(octets);
        const fields = lists[list]!.map(({ name, value, neverIndexed }) =>
          headerField(name, value, neverIndexed),
        );
        const length = encoder.encode(HeaderList.of(fields));
        independent.write(Buffer.from(encoder.block.octets.subarray(0, length)));
        independent.execute();
        for (const { name, value, neverIndexed } of fields) {
          expect(independent.read()).toEqual({ name, value, neverIndex: neverIndexed });
        }
        expect(independent.read()).toBeNull();
      }
    }),
  );
});

/** Decodes and reports, or throws what is not an HpackError. */
function attempt(decoder: Decoder, block: Uint8Array): PlainList | string {
  try {
    return plainOf(decoder.decode(Buffer.from(block), 0, block.length));
  } catch (error) {
    if (!(error instanceof HpackError)) throw error;
    return error.code;
  }
}

function attemptPlain(decoder: PlainDecoder, block: Uint8Array): PlainList | undefined {
  try {
    return decoder.decode(block);
  } catch {
    return undefined;
  }
}

function agree(blocks: readonly Uint8Array[]): void {
  const plain = new PlainDecoder(256, LIMITS);
  const memoising = new Decoder({ maxTableSize: 256, ...LIMITS });
  const forgetful = new Decoder({ maxTableSize: 256, ...LIMITS, memo: false });
  for (const block of blocks) {
    const expected = attemptPlain(plain, block);
    const result = attempt(memoising, block);
    expect(attempt(forgetful, block)).toEqual(result);
    if (expected === undefined) {
      expect(result).toBeTypeOf('string');
      return;
    }
    expect(result).toEqual(expected);
  }
}

it('random octets are read or refused as by the plain twin, and throw nothing but HpackError', () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { minLength: 1, maxLength: 4 }), agree), {
    numRuns: 3000,
  });
});

it('octets that look like fields are read or refused as by the plain twin', () => {
  const opening = fc.constantFrom(
    0x82,
    0xbe,
    0xbf,
    0xc0,
    0x40,
    0x41,
    0x7e,
    0x7f,
    0x00,
    0x04,
    0x0f,
    0x10,
    0x20,
    0x3f,
    0x80,
    0xff,
  );
  const short = fc.array(fc.oneof(opening, fc.integer({ min: 0, max: 6 }), fc.nat({ max: 255 })), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(fc.array(short, { minLength: 1, maxLength: 6 }), (blocks) => {
      agree(blocks.map((block) => Uint8Array.from(block)));
    }),
    { numRuns: 3000 },
  );
});

it('a changed octet in good traffic is read or refused as by the plain twin', () => {
  fc.assert(
    fc.property(
      traffic(anyText),
      fc.nat(),
      fc.nat(),
      fc.nat({ max: 255 }),
      ({ lists, order }, which, where, octet) => {
        const encoder = new PlainEncoder(256);
        const blocks = order.map(({ list, choices }) =>
          Uint8Array.from(
            lists[list]!.flatMap(({ name, value }, i) =>
              encoder.encode(name, value, choices[i % choices.length]!),
            ),
          ),
        );
        const victim = blocks[which % blocks.length]!;
        if (victim.length > 0) victim[where % victim.length] = octet;
        agree(blocks);
      },
    ),
    { numRuns: 500 },
  );
});
