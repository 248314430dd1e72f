import type { Random } from '../harness/fuzz-input.ts';

/** Changes that know nothing of an input's form. */

const EDGES_8 = [0, 1, 2, 3, 4, 8, 9, 0x10, 0x1f, 0x20, 0x3f, 0x40, 0x7e, 0x7f, 0x80, 0x81, 0xc0, 0xfe, 0xff];
const EDGES_16 = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x3fff, 0x4000, 0x4001, 0x7fff, 0x8000, 0xfffe, 0xffff];
export const EDGES_32 = [
  0, 1, 2, 3, 5, 7, 0x7f, 0xff, 0x100, 0x3fff, 0x4000, 0x4001, 0xffff, 0x10000, 0xffffff, 0x7ffffffe,
  0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff,
];

type Change = (random: Random, bytes: Buffer, other: Buffer) => Buffer;

/** A range of `bytes`, most often a short one. */
function range(random: Random, bytes: Buffer): [from: number, to: number] {
  const from = random.below(bytes.length);
  const longest = random.chance(4) ? bytes.length - from : Math.min(16, bytes.length - from);
  return [from, from + 1 + random.below(longest)];
}

const CHANGES: readonly Change[] = [
  function flip(random, bytes) {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    return bytes;
  },
  function set(random, bytes) {
    bytes[random.below(bytes.length)] = random.chance(2) ? random.pick(EDGES_8) : random.below(256);
    return bytes;
  },
  function add(random, bytes) {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] as number) + random.below(33) - 16;
    return bytes;
  },
  function set16(random, bytes) {
    if (bytes.length < 2) return bytes;
    bytes.writeUInt16BE(random.pick(EDGES_16), random.below(bytes.length - 1));
    return bytes;
  },
  function set32(random, bytes) {
    if (bytes.length < 4) return bytes;
    bytes.writeUInt32BE(random.pick(EDGES_32), random.below(bytes.length - 3));
    return bytes;
  },
  function remove(random, bytes) {
    const [from, to] = range(random, bytes);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
  },
  function repeat(random, bytes) {
    const [from, to] = range(random, bytes);
    const times = random.chance(8) ? 1 + random.below(40) : 1;
    const more = new Array<Buffer>(times).fill(bytes.subarray(from, to));
    return Buffer.concat([bytes.subarray(0, to), ...more, bytes.subarray(to)]);
  },
  function move(random, bytes) {
    const [from, to] = range(random, bytes);
    const piece = Buffer.from(bytes.subarray(from, to));
    const rest = Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
    const at = random.below(rest.length + 1);
    return Buffer.concat([rest.subarray(0, at), piece, rest.subarray(at)]);
  },
  function insert(random, bytes) {
    const at = random.below(bytes.length + 1);
    return Buffer.concat([bytes.subarray(0, at), random.bytes(1 + random.below(8)), bytes.subarray(at)]);
  },
  function splice(random, bytes, other) {
    if (other.length === 0) return bytes;
    const at = random.below(bytes.length + 1);
    const [from, to] = range(random, other);
    const rest = random.chance(2)
      ? bytes.subarray(at)
      : bytes.subarray(Math.min(bytes.length, at + to - from));
    return Buffer.concat([bytes.subarray(0, at), other.subarray(from, to), rest]);
  },
  function cross(random, bytes, other) {
    return Buffer.concat([
      bytes.subarray(0, random.below(bytes.length + 1)),
      other.subarray(random.below(other.length + 1)),
    ]);
  },
  function truncate(random, bytes) {
    return bytes.subarray(0, random.below(bytes.length));
  },
];

/** A copy of `input` with one to eight changes, most often few. */
export function mutateBytes(random: Random, input: Buffer, other: Buffer): Buffer {
  let bytes: Buffer = Buffer.from(input);
  for (let n = random.below(random.chance(3) ? 8 : 3); n >= 0; n--) {
    if (bytes.length === 0) bytes = random.bytes(1 + random.below(8));
    bytes = Buffer.from(random.pick(CHANGES)(random, bytes, other));
  }
  return bytes;
}
