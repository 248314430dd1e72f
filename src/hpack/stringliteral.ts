import { decodeHuffman, encodeHuffman, huffmanLength } from './huffman.ts';
import { writeInteger } from './integer.ts';
import { readLatin1, writeLatin1 } from './latin1.ts';

/** Up to here characters one by one are faster than a call into the runtime (bench/hpack.bench.ts). */
const SHORT_READ = 8;
const SHORT_WRITE = 20;

/** The octets in buf[at..end) as latin1, raw or Huffman-coded. A copy: the buffer is not kept. */
export function readText(buf: Buffer, at: number, end: number, huffman: boolean): string {
  if (huffman) return decodeHuffman(buf, at, end);
  const length = end - at;
  if (length > SHORT_READ) return readLatin1(buf, at, end);
  if (length >= 4) {
    const head = String.fromCharCode(buf[at]!, buf[at + 1]!, buf[at + 2]!, buf[at + 3]!);
    return length === 4 ? head : head + shortText(buf, at + 4, length - 4);
  }
  return shortText(buf, at, length);
}

function shortText(buf: Buffer, at: number, length: number): string {
  switch (length) {
    case 0:
      return '';
    case 1:
      return String.fromCharCode(buf[at]!);
    case 2:
      return String.fromCharCode(buf[at]!, buf[at + 1]!);
    case 3:
      return String.fromCharCode(buf[at]!, buf[at + 1]!, buf[at + 2]!);
    default:
      return String.fromCharCode(buf[at]!, buf[at + 1]!, buf[at + 2]!, buf[at + 3]!);
  }
}

/** Writes a string literal (RFC 7541 5.2) as it is. `text` is latin1. Returns the position behind it. */
export function writeRaw(text: string, buf: Buffer, at: number): number {
  const length = text.length;
  at = writeInteger(buf, at, 0x00, 0x7f, length);
  if (length > SHORT_WRITE) return writeLatin1(buf, at, text);
  for (let i = 0; i < length; i++) buf[at + i] = text.charCodeAt(i);
  return at + length;
}

/** Writes a string literal in whichever form is shorter. */
export function writeShortest(text: string, buf: Buffer, at: number): number {
  const length = huffmanLength(text);
  if (length >= text.length) return writeRaw(text, buf, at);
  at = writeInteger(buf, at, 0x80, 0x7f, length);
  return encodeHuffman(text, buf, at);
}
