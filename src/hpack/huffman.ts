import { HpackError } from './errors.ts';
import { CODE_LENGTHS, CODES, EOS } from './huffmantable.ts';
import { readLatin1 } from './latin1.ts';

/**
 * Decoding walks the code tree an octet at a time (RFC 7541 5.2). A state is an inner node of the tree, 0 its
 * root. TRANSITIONS[state << 8 | octet] = next state | first symbol << 8 | second symbol << 16 | how many
 * symbols << 24; no code is shorter than five bits, so an octet completes two at most. FAILS: through EOS.
 */
const COUNT_SHIFT = 24;
const FAILS = 1 << 27;
const TRANSITIONS = new Uint32Array(256 << 8);
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
    for (let octet = 0; octet < 256; octet++) TRANSITIONS[(state << 8) | octet] = walk(inner, state, octet);
  }
}

function walk(inner: number[][], state: number, octet: number): number {
  let node = state;
  let count = 0;
  let symbols = 0;
  for (let bit = 7; bit >= 0; bit--) {
    node = inner[node]![(octet >>> bit) & 1]!;
    if (node === -1 - EOS) return FAILS;
    if (node < 0) {
      symbols |= (-1 - node) << (8 * count++);
      node = 0;
    }
  }
  return (count << COUNT_SHIFT) | (symbols << 8) | node;
}

const ENCODING_LENGTHS = Uint8Array.from(CODE_LENGTHS);
const ENCODING_CODES = Uint32Array.from(CODES);

const KEPT_SCRATCH = 4096;
const scratch = Buffer.allocUnsafeSlow(KEPT_SCRATCH);

/** Decodes the Huffman-coded string in buf[at..end) to latin1. */
export function decodeHuffman(buf: Uint8Array, at: number, end: number): string {
  // Two more than can come: each step writes two symbols, of which only those that are there count.
  const longest = Math.ceil(((end - at) * 8) / 5) + 2;
  const out = longest <= KEPT_SCRATCH ? scratch : Buffer.allocUnsafe(longest);
  let state = 0;
  let length = 0;
  let seen = 0;
  while (at < end) {
    const step = TRANSITIONS[(state << 8) | (buf[at++] as number)] as number;
    out[length] = step >>> 8;
    out[length + 1] = step >>> 16;
    length += (step >>> COUNT_SHIFT) & 3;
    seen |= step;
    state = step & 0xff;
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
  for (let i = 0; i < text.length; i++) bits += ENCODING_LENGTHS[text.charCodeAt(i)] as number;
  return (bits + 7) >>> 3;
}

/** Writes `text` (latin1) Huffman-coded at `at`; returns the position behind it. */
export function encodeHuffman(text: string, buf: Uint8Array, at: number): number {
  let held = 0;
  let bits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i);
    let code = ENCODING_CODES[symbol] as number;
    let length = ENCODING_LENGTHS[symbol] as number;
    // At most 7 bits are held, so 16 more fit without touching the sign.
    if (length > 16) {
      held = (held << (length - 16)) | (code >>> 16);
      bits += length - 16;
      while (bits >= 8) {
        bits -= 8;
        buf[at++] = held >>> bits;
      }
      held &= 0xff;
      code &= 0xffff;
      length = 16;
    }
    held = (held << length) | code;
    bits += length;
    while (bits >= 8) {
      bits -= 8;
      buf[at++] = held >>> bits;
    }
    held &= 0xff;
  }
  if (bits > 0) buf[at++] = (held << (8 - bits)) | (0xff >>> bits);
  return at;
}
