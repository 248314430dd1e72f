import { HpackError } from './errors.ts';

/** Continuation octets that we read: 4 x 7 bits. Whatever needs more is refused, also if it is padding. */
const CONTINUATION_OCTETS = 4;

/** Most octets that `writeInteger` writes. */
export const LONGEST_INTEGER = 6;

/**
 * Reads the rest of an integer whose prefix was all ones (RFC 7541 5.1). One reader serves a whole decoder, so
 * that a value and a position can come back without an object; after a call, `at` is behind the integer.
 * Values below 2^28 + `prefix` are read, others throw `integer-too-large`.
 */
export class IntegerReader {
  at = 0;

  /** `prefix`: the value that an all-ones prefix stands for; the first continuation octet is at `at`. */
  read(buf: Uint8Array, at: number, end: number, prefix: number): number {
    let value = prefix;
    for (let octets = 0; octets < CONTINUATION_OCTETS; octets++) {
      if (at >= end) throw new HpackError('truncated-block', 'the block ends inside an integer');
      const octet = buf[at++] as number;
      value += (octet & 0x7f) << (7 * octets);
      if (octet < 0x80) {
        this.at = at;
        return value;
      }
    }
    throw new HpackError('integer-too-large', 'an integer of more than 28 bits');
  }
}

/**
 * Writes `value` (a whole number of 0 to 2^32-1) behind the pattern bits in `first` (RFC 7541 5.1); `prefix`
 * is the all-ones prefix, 2^N - 1. Returns the position behind it.
 */
export function writeInteger(
  buf: Uint8Array,
  at: number,
  first: number,
  prefix: number,
  value: number,
): number {
  if (value < prefix) {
    buf[at] = first | value;
    return at + 1;
  }
  buf[at++] = first | prefix;
  value -= prefix;
  while (value >= 0x80) {
    buf[at++] = (value & 0x7f) | 0x80;
    value = Math.floor(value / 0x80);
  }
  buf[at] = value;
  return at + 1;
}
