// As much of HTTP/2's framing as the generator needs (RFC 9113, section 4.1 and 6).

export const FRAME_HEADER = 9; // octets
const STREAM_ID = 5; // offset

export const DATA = 0x0;
export const HEADERS = 0x1;
export const PRIORITY = 0x2;
export const RST_STREAM = 0x3;
export const SETTINGS = 0x4;
export const PING = 0x6;
export const GOAWAY = 0x7;
export const WINDOW_UPDATE = 0x8;
export const ACK = 0x1;
export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;
export const PADDED = 0x8;
export const HAS_PRIORITY = 0x20;
export const HEADER_TABLE_SIZE = 0x1;
export const MAX_CONCURRENT_STREAMS = 0x3;
export const INITIAL_WINDOW_SIZE = 0x4;

/** On stream 0; `writeStreamId` gives another. */
export function frameHeader(length: number, type: number, flags: number): Buffer {
  const header = Buffer.alloc(FRAME_HEADER);
  header.writeUIntBE(length, 0, 3);
  header[3] = type;
  header[4] = flags;
  return header;
}

export function writeStreamId(into: Buffer, frameAt: number, streamId: number): void {
  into.writeUInt32BE(streamId, frameAt + STREAM_ID);
}
