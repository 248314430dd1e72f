/** Subnets as people write them, and as iptables prints them. */
import { isIP } from 'node:net';
import { CaptureError } from './errors.ts';

export interface Subnet {
  readonly family: 4 | 6;
  /** `10.0.0.0/8`, `fd00::/8`: without host bits, in the shortest form, always with a length. */
  readonly text: string;
}

const BITS = { 4: 32, 6: 128 } as const;

/** `10.0.0.0/8`, `fd00::/8`, or one address. Throws `CaptureError` (bad-input). */
export function parseSubnet(given: string): Subnet {
  const [address = '', length, ...more] = given.split('/');
  const family = isIP(address);
  if (family === 0 || address.includes('%') || more.length > 0) {
    throw bad(given, 'expected an address or a subnet, as in 10.0.0.0/8 or fd00::/8');
  }
  const bits = BITS[family as 4 | 6];
  const kept = length === undefined ? bits : /^[0-9]{1,3}$/.test(length) ? Number(length) : -1;
  if (kept < 0 || kept > bits) throw bad(given, `the number behind the / must be from 1 to ${bits}`);
  if (kept === 0)
    throw bad(given, 'this is every address: nothing would be captured. Leave out the capture instead');
  const value = family === 4 ? valueOf4(address) : valueOf6(address);
  if (family === 6 && value >> 32n === 0xffffn) throw bad(given, 'write the IPv4 address itself');
  const masked = (value >> BigInt(bits - kept)) << BigInt(bits - kept);
  return family === 4
    ? { family, text: `${text4(masked)}/${kept}` }
    : { family: 6, text: `${text6(masked)}/${kept}` };
}

function bad(given: string, why: string): CaptureError {
  return new CaptureError('bad-input', `skipped subnet "${given}": ${why}`);
}

function valueOf4(address: string): bigint {
  return address.split('.').reduce((value, octet) => (value << 8n) | BigInt(octet), 0n);
}

function text4(value: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.');
}

/** Of an address that `isIP` has taken. */
function valueOf6(address: string): bigint {
  const [head = '', tail] = address.replace(/[0-9.]+$/, hexOfDotted).split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = new Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...zeros, ...after].reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

/** The dotted end of an IPv6 address as two groups; a last group that is no dotted one stays. */
function hexOfDotted(end: string): string {
  if (!end.includes('.')) return end;
  const value = valueOf4(end);
  return `${(value >> 16n).toString(16)}:${(value & 0xffffn).toString(16)}`;
}

/** RFC 5952: the first of the longest runs of two or more zero groups is left out. */
function text6(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn));
  let [from, count] = [0, 0];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > count) [from, count] = [i, end - i];
  }
  const hex = (some: number[]): string => some.map((group) => group.toString(16)).join(':');
  if (count < 2) return hex(groups);
  return `${hex(groups.slice(0, from))}::${hex(groups.slice(from + count))}`;
}
