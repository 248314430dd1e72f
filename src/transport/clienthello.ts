import { HandshakeError } from './errors.ts';
import { alertFrame, UNKNOWN_VERSION } from './frame.ts';
import { RESUMPTION } from './mode.ts';
import { TICKET_ID_LENGTH } from './ticket.ts';

/*
 * CLIENT_HELLO opens a connection, in one write with message 1, and again after a RETRY:
 *
 *   "HBK1" | version u8 | mode u8 | offered-modes u16 | reserved u32 | mode 2 only: ticket_id[16]
 */
const MAGIC = Buffer.from('HBK1', 'latin1');
const VERSION_AT = 4; // u8
const MODE_AT = 5; // u8
const OFFERED_AT = 6; // u16, bit n = mode n
const RESERVED_AT = 8; // u32, zero
const HELLO_LENGTH = 12;

/** The only version there is, and so the highest spoken. */
export const VERSION = 1;

export interface ClientHello {
  readonly mode: number;
  /** Bit n stands for mode n; bits of unknown modes mean nothing. */
  readonly offered: number;
  /** How many bytes it took. */
  readonly length: number;
  /** ticket_id, in mode 2: a view of the input. */
  readonly ticket?: Buffer;
}

/** A CLIENT_HELLO; in mode 2 with the ticket's 16 bytes. */
export function encodeClientHello(mode: number, offered: number, ticket?: Uint8Array): Buffer {
  const hello = Buffer.alloc(HELLO_LENGTH + (ticket?.length ?? 0));
  MAGIC.copy(hello);
  hello[VERSION_AT] = VERSION;
  hello[MODE_AT] = mode;
  hello.writeUInt16BE(offered, OFFERED_AT);
  if (ticket !== undefined) hello.set(ticket, HELLO_LENGTH);
  return hello;
}

/**
 * The CLIENT_HELLO at the start of `bytes`, or undefined while more are needed. Throws HandshakeError as soon as
 * the bytes that are there cannot begin one: `not-hauberk`, `unknown-version` (with the alert to send), `bad-hello`.
 */
export function decodeClientHello(bytes: Buffer): ClientHello | undefined {
  for (let i = 0; i < Math.min(bytes.length, MAGIC.length); i++) {
    if (bytes[i] !== MAGIC[i]) throw new HandshakeError('not-hauberk', describeStranger(bytes));
  }
  if (bytes.length <= VERSION_AT) return undefined;
  const version = bytes[VERSION_AT];
  if (version !== VERSION) {
    throw new HandshakeError(
      'unknown-version',
      `The peer speaks HBK version ${version}, this sidecar at most version ${VERSION}: upgrade the older one`,
      { alert: alertFrame(UNKNOWN_VERSION, VERSION) },
    );
  }
  if (bytes.length < HELLO_LENGTH) return undefined;
  const mode = bytes[MODE_AT] as number;
  const offered = bytes.readUInt16BE(OFFERED_AT);
  const reserved = bytes.readUInt32BE(RESERVED_AT);
  if (reserved !== 0) {
    throw new HandshakeError('bad-hello', `CLIENT_HELLO: the reserved field is ${reserved}, not 0`);
  }
  if (mode > 15 || (offered & (1 << mode)) === 0) {
    throw new HandshakeError(
      'bad-hello',
      `CLIENT_HELLO: mode ${mode} is not among the offered modes (bits 0x${offered.toString(16)})`,
    );
  }
  if (mode !== RESUMPTION.id) return { mode, offered, length: HELLO_LENGTH };
  const length = HELLO_LENGTH + TICKET_ID_LENGTH;
  if (bytes.length < length) return undefined;
  return { mode, offered, length, ticket: bytes.subarray(HELLO_LENGTH, length) };
}

/** Names what a stranger seems to speak, from its first bytes. */
function describeStranger(bytes: Buffer): string {
  const seen = bytes.subarray(0, 16);
  const likely =
    bytes[0] === 0x16
      ? 'TLS'
      : /^(GET|POST|PUT|HEAD|PRI|CONNECT|OPTIONS)\b/.test(seen.toString('latin1'))
        ? 'HTTP'
        : 'something else';
  return `The first bytes are not a CLIENT_HELLO but ${likely} (hex ${seen.toString('hex')}): only sidecars may connect to the mesh port`;
}
