/** Streams of gRPC messages of which nobody holds more than one: what was sent is known by its hash. */
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';

export const MIB = 1024 * 1024;
const PREFIX = 5; // octets in front of a gRPC message

export interface Flow {
  readonly octets: number;
  readonly sha256: string;
}

/** Sends `messages` messages of `size` octets that no compression makes smaller, each followed by `sent`. */
export async function send(
  stream: Duplex,
  messages: number,
  size: number,
  sent?: (octets: number) => void,
): Promise<Flow> {
  const hash = createHash('sha256');
  const noise = createCipheriv('aes-128-ctr', Buffer.alloc(16, messages), Buffer.alloc(16, size));
  const zeros = Buffer.alloc(size);
  let octets = 0;
  for (let i = 0; i < messages; i++) {
    const message = Buffer.allocUnsafeSlow(PREFIX + size);
    message.writeUInt8(0, 0);
    message.writeUInt32BE(size, 1);
    noise.update(zeros).copy(message, PREFIX);
    hash.update(message);
    octets += message.length;
    if (!stream.write(message)) await once(stream, 'drain');
    sent?.(octets);
  }
  return { octets, sha256: hash.digest('hex') };
}

export interface Pace {
  /** Octets a second; as fast as they come if it is left out. */
  readonly rate?: number;
  /** Reads nothing for `ms` after so many octets, then says so. */
  readonly stop?: { readonly after: number; readonly ms: number; readonly resumed?: () => void };
}

/** Reads to the end, no faster than at its pace: what it does not read gives the sender no credit. */
export async function receive(
  stream: Duplex,
  { rate = Number.POSITIVE_INFINITY, stop }: Pace = {},
): Promise<Flow> {
  const hash = createHash('sha256');
  const began = performance.now();
  let octets = 0;
  let left = stop;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    hash.update(chunk);
    octets += chunk.length;
    const early = (octets / rate) * 1000 - (performance.now() - began);
    if (early > 1) await pause(early);
    if (left !== undefined && octets >= left.after) {
      await pause(left.ms);
      left.resumed?.();
      left = undefined;
    }
  }
  return { octets, sha256: hash.digest('hex') };
}
