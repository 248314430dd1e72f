import { HpackError } from './errors.ts';
import { CODE_LENGTHS, CODES, EOS } from './huffmantable.ts';
import { readLatin1 } from './latin1.ts';

/**
 * Decoding walks the code tree four bits at a time (RFC 7541 5.2). A state is an inner node of the tree, 0 its
 * root. TRANSITIONS[state << 4 | four bits] = next state | symbol << 8 | EMITS; no code is shorter than five
 * bits, so four bits complete one symbol at most. FAILS: the bits went through EOS.
 */
const EMITS = 1 << 16;
const FAILS = 1 << 17;
const TRANSITIONS = new Uint32Array(256 << 4);
/** 1 for the states in which a string may end: up to seven ones since the last symbol. */
const MAY_END = new Uint8Array(256);

buildTransitions();

function buildTransitions(): void {
  const inner: number[][] = [[]]; // inner[node][bit]: another inner node, or -1 - symbol
  for (let symbol = 0; symbol <= EOS; symbol++) {
    let node = 0;
    for (let bit = CODE_LENGTHS[symbol]! - 1; bit > 0; bit--) {
      const branch = (CODES[symbol]! >>> bit) & 1;
      inner[node]![branch] ??= inner.push([]) - 1;
      node = inner[node]![branch]!;
    }
    inner[node]![CODES[symbol]! & 1] = -1 - symbol;
  }
  for (let node = 0, ones = 0; ones <= 7; ones++, node = inner[node]![1]!) MAY_END[node] = 1;
  for (let state = 0; state < inner.length; state++) {
    for (let nibble = 0; nibble < 16; nibble++)
      TRANSITIONS[(state << 4) | nibble] = walk(inner, state, nibble);
  }
}

function walk(inner: number[][], state: number, nibble: number): number {
  let node = state;
  let emitted = 0;
  for (let bit = 3; bit >= 0; bit--) {
    node = inner[node]![(nibble >>> bit) & 1]!;
    if (node === -1 - EOS) return FAILS;
    if (node < 0) {
      emitted = EMITS | ((-1 - node) << 8);
      node = 0;
    }
  }
  return emitted | node;
}

const KEPT_SCRATCH = 4096;
const scratch = Buffer.allocUnsafeSlow(KEPT_SCRATCH);

/** Decodes the Huffman-coded string in buf[at..end) to latin1. */
export function decodeHuffman(buf: Uint8Array, at: number, end: number): string {
  const longest = Math.ceil(((end - at) * 8) / 5);
  const out = longest <= KEPT_SCRATCH ? scratch : Buffer.allocUnsafe(longest);
  let state = 0;
  let length = 0;
  let seen = 0;
  while (at < end) {
    const octet = buf[at++] as number;
    const high = TRANSITIONS[(state << 4) | (octet >>> 4)] as number;
    if ((high & EMITS) !== 0) out[length++] = high >>> 8;
    const low = TRANSITIONS[((high & 0xff) << 4) | (octet & 15)] as number;
    if ((low & EMITS) !== 0) out[length++] = low >>> 8;
    seen |= high | low;
    state = low & 0xff;
  }
  if ((seen & FAILS) !== 0) throw new HpackError('huffman-eos', 'the EOS symbol inside a string');
  if (MAY_END[state] === 0) {
    throw new HpackError('huffman-padding', 'a string is not padded with one to seven bits of ones');
  }
  return readLatin1(out, 0, length);
}

/** Octets that `text` (latin1) takes when Huffman-coded. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += CODE_LENGTHS[text.charCodeAt(i)] as number;
  return (bits + 7) >>> 3;
}

/** Writes `text` (latin1) Huffman-coded at `at`; returns the position behind it. */
export function encodeHuffman(text: string, buf: Uint8Array, at: number): number {
  let held = 0;
  let bits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i);
    const code = CODES[symbol] as number;
    let left = CODE_LENGTHS[symbol] as number;
    while (left > 0) {
      // At most 7 bits are held, so 16 more fit without touching the sign.
      const taken = Math.min(left, 16);
      left -= taken;
      held = (held << taken) | ((code >>> left) & ((1 << taken) - 1));
      bits += taken;
      while (bits >= 8) {
        bits -= 8;
        buf[at++] = held >>> bits;
      }
      held &= (1 << bits) - 1;
    }
  }
  if (bits > 0) buf[at++] = (held << (8 - bits)) | (0xff >>> bits);
  return at;
}
