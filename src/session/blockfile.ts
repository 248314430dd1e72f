import { createHash } from 'node:crypto';
import { IdentityError } from '../identity/errors.ts';
import { readChecked, writeOwnerOnly } from '../identity/files.ts';
import { parseSpiffeId } from '../identity/spiffeid.ts';
import { BlockError } from './errors.ts';

/** A peer that an operator has blocked. */
export interface BlockedPeer {
  /** Its SPIFFE ID. */
  readonly peer: string;
  /** ISO 8601, UTC, milliseconds. */
  readonly since: string;
  readonly reason: string;
}

/*
 * The file that keeps blocks over restarts: a line of JSON each, UTF-8, every line ended by a line feed.
 *
 *     {"hauberk":"blocked peers","version":1}
 *     {"peer":"spiffe://...","since":"2026-01-02T03:04:05.678Z","reason":"..."}     one for each peer
 *     {"peers":1,"sha256":"..."}                                                    of all octets above
 *
 * It is read as strictly as it is written: a file that is not byte for byte what would be written is damaged.
 */
const HEADER = JSON.stringify({ hauberk: 'blocked peers', version: 1 });

export const MAX_BLOCKED = 10_000;
export const MAX_REASON = 256; // characters
/** More than the largest file that is written. */
const MAX_BYTES = 64 * 1024 * 1024;

const CURE =
  'restore it from a copy; if no peer has to stay blocked, remove it, and block again whoever must be';

const FILE_KIND = {
  what: 'a file of blocked peers',
  maxBytes: MAX_BYTES,
  secret: false,
  guarded: true,
  cure: CURE,
};

/** The file of blocked peers. */
export class BlockFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Reads it; a file that does not exist is made. Throws BlockError. */
  async read(): Promise<BlockedPeer[]> {
    let bytes: Buffer;
    try {
      bytes = await readChecked(this.path, FILE_KIND);
    } catch (cause) {
      if (!(cause instanceof IdentityError)) throw cause;
      if (cause.code === 'missing-file') {
        await this.write([]);
        return [];
      }
      throw new BlockError('file-unreadable', cause.message, { cause });
    }
    return parseBlocks(bytes, this.path);
  }

  /** Replaces it at once and whole, and durably; mode 0600. Throws BlockError `not-written`. */
  async write(peers: readonly BlockedPeer[]): Promise<void> {
    try {
      await writeOwnerOnly(this.path, formatBlocks(peers), true);
    } catch (cause) {
      if (!(cause instanceof IdentityError)) throw cause;
      throw new BlockError('not-written', cause.message, { cause });
    }
  }
}

export function formatBlocks(peers: readonly BlockedPeer[]): string {
  const lines = [HEADER, ...peers.map(lineOf), ''].join('\n');
  return `${lines}${footerOf(peers.length, lines)}\n`;
}

function lineOf({ peer, since, reason }: BlockedPeer): string {
  return JSON.stringify({ peer, since, reason });
}

function footerOf(peers: number, above: string): string {
  return JSON.stringify({ peers, sha256: createHash('sha256').update(above).digest('hex') });
}

/** Throws BlockError `file-damaged`, naming file, line and cure. */
export function parseBlocks(bytes: Buffer, file: string): BlockedPeer[] {
  const damaged = (line: number, what: string): BlockError =>
    new BlockError('file-damaged', `${file}: line ${line}: ${what}; ${CURE}`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw damaged(lineOfBadOctet(bytes), 'this is not UTF-8');
  }
  const lines = text.split('\n');
  const last = lines.length - 1; // of the line behind the footer, which is empty
  if (lines[0] !== HEADER) throw damaged(1, `expected ${HEADER}`);
  if (last < 2 || lines[last] !== '') throw damaged(lines.length, 'the file is cut off');
  const peers = new Map<string, BlockedPeer>();
  for (let at = 1; at < last - 1; at++) {
    const entry = entryOf(lines[at] as string);
    if (typeof entry === 'string') throw damaged(at + 1, entry);
    if (peers.has(entry.peer)) throw damaged(at + 1, `${entry.peer} is there twice`);
    peers.set(entry.peer, entry);
  }
  const above = lines.slice(0, last - 1).join('\n');
  if (lines[last - 1] !== footerOf(peers.size, `${above}\n`)) {
    throw damaged(last, 'the checksum does not fit what is above: a line is missing, or was changed');
  }
  return [...peers.values()];
}

/** An entry, or what is wrong with it. */
function entryOf(line: string): BlockedPeer | string {
  let value: Partial<Record<keyof BlockedPeer, unknown>> | null;
  try {
    value = JSON.parse(line);
  } catch {
    return 'this is not JSON';
  }
  const { peer, since, reason } = value ?? {};
  if (typeof peer !== 'string' || typeof since !== 'string' || typeof reason !== 'string') {
    return 'expected peer, since and reason';
  }
  const entry = { peer, since, reason };
  if (lineOf(entry) !== line) return 'expected peer, since and reason, and nothing else';
  const time = new Date(since);
  if (Number.isNaN(time.getTime()) || time.toISOString() !== since) return 'since is no time';
  return wrongPeer(peer) ?? wrongReason(reason) ?? entry;
}

/** What is wrong with the SPIFFE ID of a peer to block. */
export function wrongPeer(peer: string): string | undefined {
  try {
    if (parseSpiffeId(peer).path !== '') return undefined;
    return 'a peer has a SPIFFE ID with a path, such as spiffe://shop.example/ns/shop/sa/web';
  } catch (cause) {
    if (cause instanceof IdentityError) return cause.message;
    throw cause;
  }
}

/** What is wrong with the reason that an operator gives. */
export function wrongReason(reason: string): string | undefined {
  if (reason.length >= 1 && reason.length <= MAX_REASON && !/[\p{Cc}\p{Cs}\u2028\u2029]/u.test(reason)) {
    return undefined;
  }
  return `a reason has 1 to ${MAX_REASON} characters and no control characters`;
}

function lineOfBadOctet(bytes: Buffer): number {
  let line = 1;
  for (let at = 0; at < bytes.length; ) {
    const feed = bytes.indexOf(0x0a, at);
    const end = feed < 0 ? bytes.length : feed + 1;
    const octets = bytes.subarray(at, end);
    if (!Buffer.from(octets.toString('utf8')).equals(octets)) return line;
    at = end;
    line++;
  }
  return line;
}
