/** Looks for secrets in the memory of another process, in every form in which programs keep them. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

const WINDOW = 4 * 1024 * 1024; // bytes read at once
const PREFIX = 4; // bytes of a needle that are looked up at every offset

/** Half of a secret in a form. */
interface Needle {
  readonly secret: string;
  readonly form: string;
  readonly bytes: Buffer;
}

export interface Finding {
  readonly secret: string;
  readonly form: string;
  /** The mapping that it lies in, as the kernel names it; empty for memory that was allocated. */
  readonly mapping: string;
  readonly address: number;
}

/** Secrets to look for. */
export class Secrets {
  readonly #needles: Needle[] = [];
  /** Whether a needle may begin with these two bytes, little-endian. */
  readonly #begins = new Uint8Array(0x1_0000);
  readonly #byPrefix = new Map<number, Needle[]>();
  readonly #known = new Set<string>();
  #longest = 0;

  /** The names that there are. */
  get names(): string[] {
    return [...new Set(this.#needles.map(({ secret }) => secret))];
  }

  /** 32 bytes or more that are a key, or as random as one. One that is known already keeps its name. */
  addKey(secret: string, key: Uint8Array): void {
    const raw = Buffer.from(key);
    if (this.#known.has(raw.toString('hex'))) return;
    this.#known.add(raw.toString('hex'));
    for (const [form, bytes] of Object.entries(formsOf(raw))) this.addBytes(secret, form, bytes);
  }

  /** Bytes that would tell a secret. Either half of them counts: what is freed is overwritten in part, at its beginning. */
  addBytes(secret: string, form: string, bytes: Buffer): void {
    const middle = bytes.length >> 1;
    for (const half of [bytes.subarray(0, middle), bytes.subarray(middle)]) {
      const needle = { secret, form, bytes: half };
      this.#needles.push(needle);
      this.#begins[half.readUInt16LE(0)] = 1;
      const prefix = half.readUInt32LE(0);
      this.#byPrefix.set(prefix, [...(this.#byPrefix.get(prefix) ?? []), needle]);
      this.#longest = Math.max(this.#longest, half.length);
    }
  }

  /** All that are in the writable memory of a process, wherever they lie. */
  findIn(pid: number): Finding[] {
    const found: Finding[] = [];
    const window = Buffer.alloc(WINDOW + this.#longest);
    const memory = openSync(`/proc/${pid}/mem`, 'r');
    try {
      for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
        const [, from, to, mapping = ''] =
          /^([0-9a-f]+)-([0-9a-f]+) rw\S+ \S+ \S+ \S+ *(.*)$/.exec(line) ?? [];
        if (from === undefined || to === undefined) continue;
        const end = Number.parseInt(to, 16);
        for (let at = Number.parseInt(from, 16); at < end; at += WINDOW) {
          const length = readAt(memory, window, at, end);
          for (const [needle, offset] of this.#within(window, length)) {
            if (offset >= WINDOW) continue; // the next window has it too
            found.push({ secret: needle.secret, form: needle.form, mapping, address: at + offset });
          }
        }
      }
    } finally {
      closeSync(memory);
    }
    return found;
  }

  /** All that are in some text. */
  findInText(text: string): string[] {
    const bytes = Buffer.from(text);
    return [...this.#within(bytes, bytes.length)].map(([{ secret, form }]) => `${secret}, ${form}`);
  }

  *#within(window: Buffer, length: number): Iterable<[Needle, number]> {
    const begins = this.#begins;
    for (let at = 0; at <= length - PREFIX; at++) {
      if (begins[(window[at] as number) | ((window[at + 1] as number) << 8)] === 0) continue;
      for (const needle of this.#byPrefix.get(window.readUInt32LE(at)) ?? []) {
        const end = at + needle.bytes.length;
        if (end <= length && needle.bytes.equals(window.subarray(at, end))) yield [needle, at];
      }
    }
  }
}

/** How much of `window` could be filled; the process may have given the mapping back meanwhile. */
function readAt(memory: number, window: Buffer, at: number, end: number): number {
  try {
    return readSync(memory, window, 0, Math.min(window.length, end - at), at);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EIO') return 0;
    throw cause;
  }
}

/** A key as it may lie in memory. */
function formsOf(raw: Buffer): Record<string, Buffer> {
  const text = (encoding: BufferEncoding): Buffer => Buffer.from(raw.toString(encoding), 'latin1');
  const forms: Record<string, Buffer> = {
    raw,
    reversed: Buffer.from(raw).reverse(), // the words of a large integer
    'words of 32 bits': Buffer.from(raw).swap32(),
    'words of 64 bits': Buffer.from(raw).swap64(),
    hex: text('hex'),
    'HEX in capitals': Buffer.from(raw.toString('hex').toUpperCase(), 'latin1'),
    base64: text('base64').subarray(0, -2), // what the next bytes do not change
    base64url: text('base64url').subarray(0, -2),
    'as buffers are inspected': Buffer.from(
      (raw.toString('hex').match(/../g) as string[]).join(' '),
      'latin1',
    ),
    'numbers, as arrays are inspected': Buffer.from([...raw].join(', '), 'latin1'),
    'numbers, as JSON has them': Buffer.from([...raw].join(','), 'latin1'),
    'hex in UTF-16': Buffer.from(raw.toString('hex'), 'utf16le'),
  };
  if (raw.length === 32) {
    forms['padded for HMAC, inside'] = Buffer.from(raw.map((byte) => byte ^ 0x36));
    forms['padded for HMAC, outside'] = Buffer.from(raw.map((byte) => byte ^ 0x5c));
    forms['AES round keys'] = lastRoundKeys(raw);
  }
  return forms;
}

/** The last 32 bytes of AES-256's key schedule (FIPS 197, section 5.2), which tell the key as the first do. */
function lastRoundKeys(key: Buffer): Buffer {
  const words = Array.from({ length: 8 }, (_, i) => key.readUInt32BE(4 * i));
  let rcon = 1;
  for (let i = 8; i < 60; i++) {
    let word = words[i - 1] as number;
    if (i % 8 === 0) {
      word = subWord(((word << 8) | (word >>> 24)) >>> 0) ^ (rcon << 24);
      rcon <<= 1;
    } else if (i % 8 === 4) word = subWord(word);
    words.push(((words[i - 8] as number) ^ word) >>> 0);
  }
  const bytes = Buffer.alloc(32);
  for (const [i, word] of words.slice(52).entries()) bytes.writeUInt32BE(word, 4 * i);
  return bytes;
}

const subWord = (word: number): number =>
  [24, 16, 8, 0].reduce((sum, shift) => sum | ((SBOX[(word >>> shift) & 0xff] as number) << shift), 0) >>> 0;

const SBOX = makeSbox();

/** FIPS 197, section 5.1.1: the inverse in GF(2^8), then an affine map. */
function makeSbox(): Uint8Array {
  const box = new Uint8Array(256);
  let p = 1;
  let q = 1; // always the inverse of p
  do {
    p = (p ^ (p << 1) ^ (p & 0x80 ? 0x11b : 0)) & 0xff; // times 3
    q ^= q << 1;
    q ^= q << 2;
    q ^= q << 4;
    q = (q ^ (q & 0x80 ? 0x09 : 0)) & 0xff; // divided by 3
    const rotated = [1, 2, 3, 4].reduce((sum, n) => sum ^ (((q << n) | (q >> (8 - n))) & 0xff), q);
    box[p] = rotated ^ 0x63;
  } while (p !== 1);
  box[0] = 0x63;
  return box;
}
