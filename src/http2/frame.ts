/**
 * HTTP/2 frames, RFC 9113 sections 4 and 6: layout constants first, then one writer a frame type. The
 * parsers are the cases of Connection, which reads fields where they lie; nothing is allocated for a frame.
 */
import type { Viewed } from '../octets/view.ts';
import type { Outbox } from './outbox.ts';
import { SETTING_LENGTH } from './settings.ts';

export const FRAME_HEADER = 9; // octets: length u24, type u8, flags u8, stream identifier u31

export const FrameType = {
  DATA: 0x0,
  HEADERS: 0x1,
  PRIORITY: 0x2,
  RST_STREAM: 0x3,
  SETTINGS: 0x4,
  PUSH_PROMISE: 0x5,
  PING: 0x6,
  GOAWAY: 0x7,
  WINDOW_UPDATE: 0x8,
  CONTINUATION: 0x9,
} as const;

const NAMES = Object.fromEntries(Object.entries(FrameType).map(([name, type]) => [type, name]));

/** The RFC's name of a frame type, or its number in hex. */
export function frameName(type: number): string {
  return NAMES[type] ?? `0x${type.toString(16)}`;
}

export const Flag = {
  END_STREAM: 0x1, // DATA, HEADERS
  ACK: 0x1, // SETTINGS, PING
  END_HEADERS: 0x4, // HEADERS, CONTINUATION
  PADDED: 0x8, // DATA, HEADERS
  PRIORITY: 0x20, // HEADERS
} as const;

const FLAG_NAMES: ReadonlyArray<readonly [type: number, flag: number, name: string]> = [
  [FrameType.DATA, Flag.END_STREAM, 'END_STREAM'],
  [FrameType.DATA, Flag.PADDED, 'PADDED'],
  [FrameType.HEADERS, Flag.END_STREAM, 'END_STREAM'],
  [FrameType.HEADERS, Flag.END_HEADERS, 'END_HEADERS'],
  [FrameType.HEADERS, Flag.PADDED, 'PADDED'],
  [FrameType.HEADERS, Flag.PRIORITY, 'PRIORITY'],
  [FrameType.SETTINGS, Flag.ACK, 'ACK'],
  [FrameType.PING, Flag.ACK, 'ACK'],
  [FrameType.CONTINUATION, Flag.END_HEADERS, 'END_HEADERS'],
];

/** The RFC's names of a frame's flags, with `|` between them; those that the type does not define in hex. */
export function flagNames(type: number, flags: number): string {
  const known = FLAG_NAMES.filter(([of, flag]) => of === type && (flags & flag) !== 0);
  const rest = known.reduce((left, [, flag]) => left & ~flag, flags);
  const names = known.map(([, , name]) => name);
  return (rest === 0 ? names : [...names, `0x${rest.toString(16)}`]).join('|');
}

/** The client's connection preface, section 3.4. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export const PRIORITY_LENGTH = 5; // octets: exclusive bit and dependency u32, weight u8
export const RST_STREAM_LENGTH = 4; // octets: error code u32
export const PING_LENGTH = 8; // octets, opaque
export const GOAWAY_MIN_LENGTH = 8; // octets: last stream identifier u32, error code u32, then debug data
export const WINDOW_UPDATE_LENGTH = 4; // octets: increment u31

/** Section 6.4. */
export function writeRstStream(out: Outbox, streamId: number, code: number): void {
  out.frameHeader(RST_STREAM_LENGTH, FrameType.RST_STREAM, 0, streamId);
  out.u32(code);
}

/** Section 6.5. */
export function writeSettings(out: Outbox, pairs: ReadonlyArray<readonly [number, number]>): void {
  out.frameHeader(pairs.length * SETTING_LENGTH, FrameType.SETTINGS, 0, 0);
  for (const [id, value] of pairs) {
    out.u16(id);
    out.u32(value);
  }
}

/** Section 6.5.3. */
export function writeSettingsAck(out: Outbox): void {
  out.frameHeader(0, FrameType.SETTINGS, Flag.ACK, 0);
}

/** Section 6.7: the 8 opaque octets at `buf[at]`. */
export function writePing(out: Outbox, ack: boolean, buf: Uint8Array, at: number): void {
  out.frameHeader(PING_LENGTH, FrameType.PING, ack ? Flag.ACK : 0, 0);
  out.bytes(buf, at, at + PING_LENGTH);
}

/** Section 6.8. */
export function writeGoaway(out: Outbox, lastStreamId: number, code: number, debug: string): void {
  const data = Buffer.from(debug, 'utf8');
  out.frameHeader(GOAWAY_MIN_LENGTH + data.length, FrameType.GOAWAY, 0, 0);
  out.u32(lastStreamId);
  out.u32(code);
  out.bytes(data, 0, data.length);
}

/** Section 6.9. */
export function writeWindowUpdate(out: Outbox, streamId: number, increment: number): void {
  out.frameHeader(WINDOW_UPDATE_LENGTH, FrameType.WINDOW_UPDATE, 0, streamId);
  out.u32(increment);
}

/** Section 6.1: the octets [start, end) of `buf`, without padding. */
export function writeData(
  out: Outbox,
  streamId: number,
  buf: Uint8Array,
  start: number,
  end: number,
  endStream: boolean,
): void {
  out.frameHeader(end - start, FrameType.DATA, endStream ? Flag.END_STREAM : 0, streamId);
  out.bytes(buf, start, end);
}

/** Sections 6.2 and 6.10: the octets [0, length) of `block`, split where the peer's frame size demands. */
export function writeHeaders(
  out: Outbox,
  streamId: number,
  { octets, view }: Viewed,
  length: number,
  endStream: boolean,
  maxFrameSize: number,
): void {
  let at = Math.min(length, maxFrameSize);
  const flags = (endStream ? Flag.END_STREAM : 0) | (at === length ? Flag.END_HEADERS : 0);
  out.frameHeader(at, FrameType.HEADERS, flags, streamId);
  out.bytes(octets, 0, at, view);
  while (at < length) {
    const next = Math.min(length, at + maxFrameSize);
    out.frameHeader(next - at, FrameType.CONTINUATION, next === length ? Flag.END_HEADERS : 0, streamId);
    out.bytes(octets, at, next, view);
    at = next;
  }
}
