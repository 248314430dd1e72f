import { createHash, hash } from 'node:crypto';
import { HASH_LENGTH } from './lengths.ts';
import { unmovedBuffer, wipe } from './secret.ts';

/*
 * One call of OpenSSL a hash. createHash and createHmac make an object each that the collector has to finalize, and
 * with OpenSSL 3.5 (Node 24) createHmac looks its algorithm up every time: 10 us instead of 1.6.
 */

const BLOCK_LENGTH = 64; // bytes
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;

/** Where the parts of a message are joined, and wiped once they are hashed. Longer messages are streamed. */
const SCRATCH = unmovedBuffer(4096);
const OUTER = unmovedBuffer(BLOCK_LENGTH + HASH_LENGTH);

/** SHA-256 of the parts joined. */
export function sha256(...parts: readonly Uint8Array[]): Buffer {
  const [only] = parts;
  return only !== undefined && parts.length === 1 ? hash('sha256', only, 'buffer') : joined(parts, 0);
}

/** RFC 2104 with SHA-256, of the parts joined. */
export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
  const short = key.length > BLOCK_LENGTH ? sha256(key) : key;
  pad(SCRATCH, short, INNER_PAD);
  const inner = joined(parts, BLOCK_LENGTH);
  pad(OUTER, short, OUTER_PAD);
  OUTER.set(inner, BLOCK_LENGTH);
  const mac = hash('sha256', OUTER, 'buffer');
  wipe(OUTER);
  wipe(inner);
  if (short !== key) wipe(short);
  return mac;
}

function pad(block: Buffer, key: Uint8Array, mask: number): void {
  for (let i = 0; i < key.length; i++) block[i] = (key[i] as number) ^ mask;
  block.fill(mask, key.length, BLOCK_LENGTH);
}

/** SHA-256 of the first `prefix` bytes of SCRATCH and the parts after them. */
function joined(parts: readonly Uint8Array[], prefix: number): Buffer {
  let end = prefix;
  for (const part of parts) end += part.length;
  if (end > SCRATCH.length) return streamed(parts, prefix);
  let at = prefix;
  for (const part of parts) {
    SCRATCH.set(part, at);
    at += part.length;
  }
  const digest = hash('sha256', SCRATCH.subarray(0, end), 'buffer');
  SCRATCH.fill(0, 0, end);
  return digest;
}

function streamed(parts: readonly Uint8Array[], prefix: number): Buffer {
  const stream = createHash('sha256').update(SCRATCH.subarray(0, prefix));
  SCRATCH.fill(0, 0, prefix);
  for (const part of parts) stream.update(part);
  return stream.digest();
}
