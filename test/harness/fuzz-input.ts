/** Inputs that nobody should send, the same ones for the same seed. */
import { PREFACE } from '../../src/http2/frame.ts';

/** A small generator of pseudo-random numbers (mulberry32): repeatable, and good enough to break parsers. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to below - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  }

  chance(of: number): boolean {
    return this.below(of) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  bytes(length: number): Buffer {
    const out = Buffer.allocUnsafe(length);
    for (let i = 0; i < length; i++) out[i] = this.below(256);
    return out;
  }
}

/** Numbers at which lengths and counters go wrong. */
const EDGES = [0, 1, 0x7f, 0x80, 0xfe, 0xff];

type Mutation = (random: Random, bytes: Buffer) => Buffer;

const MUTATIONS: readonly Mutation[] = [
  function flip(random, bytes) {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    return bytes;
  },
  function edge(random, bytes) {
    bytes[random.below(bytes.length)] = random.pick(EDGES);
    return bytes;
  },
  function overwrite(random, bytes) {
    const at = random.below(bytes.length);
    random.bytes(Math.min(1 + random.below(16), bytes.length - at)).copy(bytes, at);
    return bytes;
  },
  function remove(random, bytes) {
    const at = random.below(bytes.length);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(12))]);
  },
  function insert(random, bytes) {
    const at = random.below(bytes.length);
    return Buffer.concat([bytes.subarray(0, at), random.bytes(1 + random.below(12)), bytes.subarray(at)]);
  },
  function repeat(random, bytes) {
    const at = random.below(bytes.length);
    const end = Math.min(bytes.length, at + 1 + random.below(64));
    return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at, end), bytes.subarray(end)]);
  },
  function truncate(random, bytes) {
    return bytes.subarray(0, random.below(bytes.length));
  },
];

/** A copy of one of the samples with one to four changes. */
export function mutated(random: Random, samples: readonly Buffer[]): Buffer {
  let bytes = Buffer.from(random.pick(samples));
  for (let n = random.below(4); n >= 0 && bytes.length > 0; n--) {
    bytes = Buffer.from(random.pick(MUTATIONS)(random, bytes));
  }
  return bytes;
}

/** Whatever. */
export function noise(random: Random): Buffer {
  return random.bytes(1 + random.below(random.chance(8) ? 8_192 : 256));
}

/** One HTTP/2 frame whose header is well-formed, and nothing else: type, flags, stream and payload are anything. */
function frame(random: Random, headerBlocks: readonly Buffer[]): Buffer {
  const type = random.below(random.chance(8) ? 256 : 10);
  const streamId = random.pick([0, 1, 1, 3, 5, 7, 2, 0x7fffffff]);
  let payload = random.bytes(random.pick([0, 4, 5, 6, 8, 12, random.below(200)]));
  if (type === 1 && !random.chance(4)) payload = Buffer.from(random.pick(headerBlocks));
  if (type === 4 && !random.chance(4)) payload = settings(random);
  const head = Buffer.alloc(9);
  // Now and then a length that is not that of the payload.
  head.writeUIntBE(random.chance(16) ? random.below(70_000) : payload.length, 0, 3);
  head[3] = type;
  head[4] = random.chance(3) ? random.below(256) : random.pick([0, 1, 4, 5]);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

function settings(random: Random): Buffer {
  const entries = Array.from({ length: random.below(5) }, () => {
    const entry = Buffer.alloc(6);
    entry.writeUInt16BE(random.below(10));
    entry.writeUInt32BE(random.pick([0, 1, 100, 16_384, 65_535, 0x7fffffff, 0x80000000, 0xffffffff]), 2);
    return entry;
  });
  return Buffer.concat(entries);
}

export const EMPTY_SETTINGS = Buffer.from('000000040000000000', 'hex');

/** A connection that begins as HTTP/2 does and goes on with frames of every kind; a server's without preface. */
export function frames(random: Random, headerBlocks: readonly Buffer[], role: 'client' | 'server'): Buffer {
  const begin = role === 'client' ? [PREFACE, EMPTY_SETTINGS] : [EMPTY_SETTINGS];
  const more = Array.from({ length: 1 + random.below(24) }, () => frame(random, headerBlocks));
  return Buffer.concat([...begin, ...more]);
}

/** The header blocks in one direction of a recorded HTTP/2 connection. */
export function headerBlocksOf(bytes: Buffer): Buffer[] {
  const blocks: Buffer[] = [];
  let at = bytes.subarray(0, PREFACE.length).equals(PREFACE) ? PREFACE.length : 0;
  while (at + 9 <= bytes.length) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (bytes[at + 3] === 1 && ((bytes[at + 4] as number) & 0x28) === 0)
      blocks.push(bytes.subarray(at + 9, end));
    at = end;
  }
  return blocks;
}
