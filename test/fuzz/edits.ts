import type { Random } from '../harness/fuzz-input.ts';
import { mutateBytes } from './mutator.ts';

/*
 * Changes as data: what is encrypted or signed is made anew by each run, so an input says what to change in it. An edit is
 * four octets: what u8 | where u16, in 65,536ths of the length | how u8.
 */
export const EDIT = 4;

type Edit = (bytes: Buffer, at: number, how: number) => Buffer;

const cut = (bytes: Buffer, at: number, more: Buffer, end: number): Buffer =>
  Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(end)]);

const EDITS: readonly Edit[] = [
  function flip(bytes, at, how) {
    bytes[at] = (bytes[at] as number) ^ (1 << (how & 7));
    return bytes;
  },
  function set(bytes, at, how) {
    bytes[at] = how;
    return bytes;
  },
  function add(bytes, at, how) {
    bytes[at] = (bytes[at] as number) + how;
    return bytes;
  },
  (bytes, at, how) => cut(bytes, at, Buffer.alloc(0), at + 1 + (how & 15)),
  (bytes, at, how) => cut(bytes, at, Buffer.alloc(1 + (how & 7), how), at),
  (bytes, at, how) => cut(bytes, at, bytes.subarray(at, at + 1 + how), at),
  function copy(bytes, at, how) {
    bytes.copy(bytes, at, (how * bytes.length) >> 8, ((how * bytes.length) >> 8) + 8);
    return bytes;
  },
  (bytes, at) => bytes.subarray(0, at),
  (bytes, _at, how) => cut(bytes, bytes.length, Buffer.alloc(1 + (how & 31), how), bytes.length),
];

/** A copy of `bytes` with the edits of `script`, in order. */
export function edited(bytes: Buffer, script: Buffer): Buffer {
  let result: Buffer = Buffer.from(bytes);
  for (let at = 0; at + EDIT <= script.length && result.length > 0; at += EDIT) {
    const where = Math.floor((script.readUInt16BE(at + 1) * result.length) / 65_536);
    const edit = EDITS[(script[at] as number) % EDITS.length] as Edit;
    result = Buffer.from(edit(result, where, script[at + 3] as number));
  }
  return result;
}

/** A changed script: whole edits come and go, and their octets change. */
export function mutateScript(
  random: Random,
  input: Buffer,
  other: Buffer,
  head: number,
  size: number,
): Buffer {
  if (random.chance(3)) return mutateBytes(random, input, other);
  const edits: Buffer[] = [];
  for (let at = head; at + size <= input.length; at += size) edits.push(input.subarray(at, at + size));
  const at = random.below(edits.length + 1);
  if (edits.length > 0 && random.chance(3)) edits.splice(random.below(edits.length), 1);
  else edits.splice(at, random.below(2), random.bytes(size));
  const own = Buffer.concat([input, Buffer.alloc(head)]).subarray(0, head);
  return Buffer.concat([random.chance(6) ? random.bytes(head) : own, ...edits]);
}
