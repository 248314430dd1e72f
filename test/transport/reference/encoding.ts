import type { TestIdentity } from './identities.ts';
import { type Mode, PROTOCOLS, type Role, sha256, u16 } from './noise.ts';

/*
 * What HBK/1 sends around and inside the Noise messages: docs/protocol.md sections 2 to 6.
 */

const text = (words: string): Buffer => Buffer.from(words, 'latin1');
const tlv = (type: number, value: Uint8Array): Buffer =>
  Buffer.concat([Buffer.of(type), u16(value.length), value]);

export function clientHello(mode: number, offered: number, ticketId?: Buffer): Buffer {
  return Buffer.concat([
    text('HBK1'),
    Buffer.of(1, mode),
    u16(offered),
    Buffer.alloc(4),
    ticketId ?? Buffer.alloc(0),
  ]);
}

export const messageFrame = (message: Buffer): Buffer => tlv(1, message);
export const retryFrame = (mode: Mode): Buffer => tlv(2, Buffer.of(mode));

export function prologue(mode: Mode, hello: Buffer, earlier: readonly Buffer[]): Buffer {
  const hash = earlier.length === 0 ? Buffer.alloc(0) : sha256(...earlier);
  return Buffer.concat([text(`HBK1/1\0${PROTOCOLS[mode]}\0`), hello, hash]);
}

export function signedData(signer: Role, h: Buffer, staticPublic: Buffer, leaf: Buffer): Buffer {
  return Buffer.concat([
    Buffer.alloc(64, 0x20),
    text(`HBK1 identity, ${signer}\0`),
    h,
    staticPublic,
    sha256(leaf),
  ]);
}

export function identityPayload(
  identity: TestIdentity,
  signature: Buffer,
  expectedPeer: string | undefined,
  maxRecord: number | undefined,
  instance: Buffer | undefined,
): Buffer {
  const parts = [
    tlv(0x81, Buffer.concat(identity.chain.flatMap((der) => [u16(der.length), der]))),
    tlv(0x82, u16(identity.algorithm)),
    tlv(0x83, signature),
  ];
  if (expectedPeer !== undefined) parts.push(tlv(0x84, text(expectedPeer)));
  if (maxRecord !== undefined) parts.push(tlv(0x05, u16(maxRecord)));
  if (instance !== undefined) parts.push(tlv(0x06, instance));
  return Buffer.concat(parts);
}
