import hpack from 'hpack.js';
import { Decoder } from '../../../src/hpack/decoder.ts';
import { Encoder } from '../../../src/hpack/encoder.ts';
import { HpackError } from '../../../src/hpack/errors.ts';
import type { HeaderList } from '../../../src/hpack/headerlist.ts';
import type { Random } from '../../harness/fuzz-input.ts';
import { PlainDecoder, PlainEncoder, type PlainList } from '../../hpack/plain.ts';
import { mutateBytes } from '../mutator.ts';
import { claim, same, type Target } from '../target.ts';

/*
 * An input is a sequence of steps: length u8 | octets, a header block; or 0xff | n u8, by which the receiver announces
 * another table size. Blocks are short, so that many fit.
 */
const ANNOUNCE = 0xff;
const SIZES = [0, 1, 31, 32, 64, 100, 256, 4096];
const LIMITS = { maxListSize: 400, maxFields: 6 };

export interface Decoding {
  decode(buf: Buffer, start: number, end: number): HeaderList;
  setMaxTableSize(octets: number): void;
  readonly tableSize: number;
}

export type Step = { block: Buffer } | { announced: number };

export function stepsOf(input: Buffer): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at < input.length; ) {
    const first = input[at++] as number;
    if (first === ANNOUNCE) steps.push({ announced: SIZES[(input[at++] ?? 0) % SIZES.length] as number });
    else {
      steps.push({ block: input.subarray(at, at + first) });
      at += first;
    }
  }
  return steps;
}

export function inputOf(steps: readonly Step[]): Buffer {
  return Buffer.concat(
    steps.flatMap((step) =>
      'block' in step
        ? [Buffer.from([step.block.length]), step.block]
        : [Buffer.from([ANNOUNCE, SIZES.indexOf(step.announced)])],
    ),
  );
}

const plainOf = ({ fields, size, oversize }: HeaderList): PlainList => ({
  fields: fields.map(({ name, value, neverIndexed }) => ({ name, value, neverIndexed })),
  size,
  oversize,
});

function attempt(decoder: Decoding, block: Buffer): PlainList | undefined {
  // At an offset, and overwritten afterwards: nothing of a buffer may be kept.
  const buf = Buffer.concat([Buffer.from([0x82]), block, Buffer.from([0x82])]);
  try {
    return plainOf(decoder.decode(buf, 1, buf.length - 1));
  } catch (error) {
    if (!(error instanceof HpackError)) throw error;
    return undefined;
  } finally {
    buf.fill(0x83);
  }
}

/** hpack.js, which knows no limits: it must read whatever we read. Its strings are UTF-8. */
class Independent {
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 4096 } });

  constructor() {
    this.#decompressor.on('error', () => {});
  }

  check(block: Buffer, expected: PlainList): void {
    this.#decompressor.write(block);
    let failure: Error | null = null;
    this.#decompressor.execute((error) => {
      failure = error;
    });
    claim(failure === null, () => `hpack.js refuses what we read: ${failure}`);
    let size = 0;
    for (let i = 0; ; i++) {
      const field = this.#decompressor.read();
      if (field === null) break;
      const ours = expected.fields[i];
      if (ours === undefined) continue;
      size++;
      const ascii = /^[\x00-\x7f]*$/.test(ours.name + ours.value);
      if (ascii)
        same([field.name, field.value], [ours.name, ours.value], 'a field is not as hpack.js reads it');
    }
    claim(size === expected.fields.length, 'hpack.js reads fewer fields');
  }
}

/** What our encoder makes of a list, read by the plain twin, is that list. */
class ThereAndBack {
  readonly #encoders = [new Encoder({ maxTableSize: 300 }), new Encoder({ maxTableSize: 300, memo: false })];
  readonly #readers = [new PlainDecoder(4096), new PlainDecoder(4096)];

  announce(octets: number): void {
    for (const encoder of this.#encoders) encoder.setPeerTableSize(octets);
    for (const reader of this.#readers) reader.setMaxTableSize(octets);
  }

  check(list: HeaderList): void {
    this.#encoders.forEach((encoder, i) => {
      const length = encoder.encode(list);
      const read = (this.#readers[i] as PlainDecoder).decode(encoder.block.octets.subarray(0, length));
      same(read.fields.slice(0, 128), plainOf(list).fields, 'a list does not come back from our encoder');
      claim(encoder.tableSize <= 300, 'our encoder’s table is above its limit');
    });
  }
}

/** Holds a decoder against the plain twin and hpack.js over all steps of an input. */
export function checkDecoder(input: Buffer, decoders: readonly Decoding[], encode: boolean): void {
  const plain = new PlainDecoder(4096, LIMITS);
  const independent = new Independent();
  const back = encode ? new ThereAndBack() : undefined;
  const lists = encode ? new Decoder({ memo: false }) : undefined;
  let announced = 4096;
  for (const step of stepsOf(input)) {
    if ('announced' in step) {
      announced = step.announced;
      for (const decoder of [...decoders, plain, lists]) decoder?.setMaxTableSize(announced);
      back?.announce(announced);
      continue;
    }
    let expected: PlainList | undefined;
    try {
      expected = plain.decode(step.block);
    } catch {
      expected = undefined;
    }
    for (const decoder of decoders) {
      same(attempt(decoder, step.block), expected, 'a decoder and its plain twin differ');
      claim(decoder.tableSize <= Math.max(announced, 0) || expected === undefined, 'a table above its limit');
    }
    if (expected === undefined) {
      for (const decoder of decoders) claim(attempt(decoder, EMPTY) === undefined, 'a dead decoder went on');
      return;
    }
    independent.check(step.block, expected);
    if (lists !== undefined) back?.check(lists.decode(step.block, 0, step.block.length));
  }
}

const EMPTY = Buffer.alloc(0);

function seeds(): Buffer[] {
  const encoder = new PlainEncoder();
  const fields: Array<[string, string]> = [
    [':method', 'POST'],
    [':path', '/shop.Greeter/SayHello'],
    ['authorization', 'Bearer token'],
    ['grpc-timeout', '100m'],
    ['x-\u00e9', '\u00ff'],
  ];
  const all: Buffer[] = [];
  for (const form of ['incremental', 'without', 'never'] as const) {
    for (const huffman of [false, true]) {
      const block = Buffer.from(
        fields.flatMap(([name, value]) => encoder.encode(name, value, { form, huffman, index: true })),
      );
      all.push(inputOf([{ block }, { block }, { announced: 64 }, { block: Buffer.from([0x3f, 33, 0xbe]) }]));
    }
  }
  all.push(
    inputOf([{ announced: 0 }, { announced: 4096 }, { block: Buffer.from([0x20, 0x3f, 0xe1, 0x1f, 0x82]) }]),
  );
  return all;
}

/** First octets of the kinds of fields, and lengths. */
const OPENINGS = [0x82, 0xbe, 0xbf, 0xff, 0x40, 0x41, 0x7f, 0x00, 0x0f, 0x10, 0x1f, 0x20, 0x3f, 0x80, 0x8f];

function mutate(random: Random, input: Buffer, other: Buffer): Buffer {
  if (random.chance(4)) return mutateBytes(random, input, other);
  const steps = stepsOf(input);
  const others = stepsOf(other);
  for (let n = random.below(3); n >= 0; n--) {
    const at = random.below(steps.length + 1);
    const step = steps[at];
    switch (random.below(6)) {
      case 0:
        steps.splice(at, 0, { announced: random.pick(SIZES) });
        break;
      case 1:
        if (others.length > 0) steps.splice(at, random.below(2), random.pick(others));
        break;
      case 2:
        steps.splice(at, 1);
        break;
      case 3:
        if (step !== undefined) steps.splice(at, 0, step);
        break;
      default:
        if (step !== undefined && 'block' in step) {
          let block = mutateBytes(random, step.block, other);
          if (random.chance(2) && block.length > 0) block[random.below(block.length)] = random.pick(OPENINGS);
          if (block.length > 254) block = block.subarray(0, 254);
          steps[at] = { block };
        }
    }
  }
  return inputOf(steps);
}

export const target: Target = {
  name: 'hpack',
  claim:
    'decoders, memoising or not, read or refuse as their plain twin does; hpack.js reads what they read; lists come back from our encoder; tables stay within their limits',
  seeds: seeds(),
  maxLength: 1500,
  mutate,
  run: (input) => checkDecoder(input, [new Decoder(LIMITS), new Decoder({ ...LIMITS, memo: false })], true),
};
