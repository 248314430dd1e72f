import { HandshakeError } from './errors.ts';

/*
 * Until keys exist, everything but CLIENT_HELLO is in frames: type u8 | length u16 | body
 */
export const MESSAGE = 1; // body: a Noise message
export const RETRY = 2; // body: mode u8
export const ALERT = 3; // body: code u8, then what the code calls for

const TYPE_AT = 0; // u8
const LENGTH_AT = 1; // u16
export const FRAME_HEADER = 3;

/** Alert code: the hello's version is unknown; the body's second byte is the highest version spoken. */
export const UNKNOWN_VERSION = 1;

/** A body of RETRY is one byte, of an alert at most this many. */
const RETRY_BODY = 1;
const MAX_ALERT_BODY = 2;

export interface Frame {
  readonly type: number;
  /** A view of the input: valid as long as that is. */
  readonly body: Buffer;
  /** How many bytes it took, header included. */
  readonly length: number;
}

export function encodeFrame(type: number, body: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER + body.length);
  frame[TYPE_AT] = type;
  frame.writeUInt16BE(body.length, LENGTH_AT);
  frame.set(body, FRAME_HEADER);
  return frame;
}

export function retryFrame(mode: number): Buffer {
  return encodeFrame(RETRY, Uint8Array.of(mode));
}

export function alertFrame(code: number, detail: number): Buffer {
  return encodeFrame(ALERT, Uint8Array.of(code, detail));
}

/**
 * The frame that begins at `at`, or undefined while more bytes are needed. Throws HandshakeError `unexpected-frame`
 * for a type that is not in `expected`, `message-too-large` above `maxMessage` bytes of body and `bad-frame` for a
 * RETRY or alert of the wrong size, as soon as the header shows it.
 */
export function decodeFrame(
  bytes: Buffer,
  at: number,
  expected: readonly number[],
  maxMessage: number,
): Frame | undefined {
  if (bytes.length <= at) return undefined;
  const type = bytes[at + TYPE_AT] as number;
  if (!expected.includes(type)) {
    throw new HandshakeError(
      'unexpected-frame',
      `Frame type ${type} came where ${expected.join(' or ')} is due: is the other end a sidecar, or an app?`,
    );
  }
  if (bytes.length - at < FRAME_HEADER) return undefined;
  const size = bytes.readUInt16BE(at + LENGTH_AT);
  if (type === MESSAGE && size > maxMessage) {
    throw new HandshakeError(
      'message-too-large',
      `A Noise message of ${size} bytes; at most ${maxMessage} here`,
    );
  }
  if ((type === RETRY && size !== RETRY_BODY) || (type === ALERT && (size < 1 || size > MAX_ALERT_BODY))) {
    throw new HandshakeError('bad-frame', `Frame type ${type} with a body of ${size} bytes`);
  }
  const length = FRAME_HEADER + size;
  if (bytes.length - at < length) return undefined;
  return { type, body: bytes.subarray(at + FRAME_HEADER, at + length), length };
}

/** What an alert's body says, for the audit log. Alerts are not authenticated: nothing else may depend on them. */
export function describeAlert(body: Buffer): string {
  return body[0] === UNKNOWN_VERSION && body.length === 2
    ? `The peer does not speak this version of HBK; it says that its highest is ${body[1]} (not authenticated)`
    : `The peer sent alert ${body.toString('hex')} (not authenticated)`;
}
