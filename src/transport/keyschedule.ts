import type { CryptoProvider } from '../crypto/provider.ts';
import { Secret } from '../crypto/secret.ts';

const SESSION_ID = Buffer.from('HBK1 session id', 'latin1');
const SESSION_KEY = Buffer.from('HBK1 session key', 'latin1');
const RESUME = Buffer.from('HBK1 resume', 'latin1');
const UUID_LENGTH = 16;
const PSK_LENGTH = 32;
const SESSION_KEY_LENGTH = 32;

/** What a full handshake (modes 0 and 1) founds; both ends derive the same. */
export interface SessionKeys {
  /** A UUID of version 8, lower case. */
  readonly id: string;
  /** 32 bytes; whoever gets this wipes it. */
  readonly key: Secret;
}

/** Derives the session from the exporter secret, which it wipes, and the final handshake hash H. */
export function deriveSession(crypto: CryptoProvider, exporter: Secret, H: Uint8Array): SessionKeys {
  const prk = exporter.bytes;
  const id = crypto.hkdfExpand(prk, Buffer.concat([SESSION_ID, H]), UUID_LENGTH);
  const key = crypto.hkdfExpand(prk, Buffer.concat([SESSION_KEY, H]), SESSION_KEY_LENGTH);
  exporter.wipe();
  return { id: uuid8(id), key: new Secret(key) };
}

/** The PSK of a ticket of the session with this key; the caller wipes it. */
export function resumptionPsk(crypto: CryptoProvider, sessionKey: Secret, ticketId: Uint8Array): Secret {
  return new Secret(crypto.hkdfExpand(sessionKey.bytes, Buffer.concat([RESUME, ticketId]), PSK_LENGTH));
}

/** RFC 9562, section 5.8: version 8, variant 10. */
function uuid8(bytes: Buffer): string {
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
