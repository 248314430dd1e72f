/** One kind of traffic, as data: the driver runs any load over any pair. */
export interface Load {
  readonly name: string;
  /** HTTP/2 connections to the first proxy. */
  readonly connections: number;
  /** Calls in flight on each connection. */
  readonly inFlight: number;
  /** Message lengths, without the five bytes of gRPC's prefix. */
  readonly requestBytes: number;
  readonly answerBytes: number;
}

export const LOADS: readonly Load[] = [
  { name: '100B-4x32', connections: 4, inFlight: 32, requestBytes: 100, answerBytes: 100 },
  { name: '100B-1x1', connections: 1, inFlight: 1, requestBytes: 100, answerBytes: 100 },
  { name: '10KiB-4x16', connections: 4, inFlight: 16, requestBytes: 100, answerBytes: 10_240 },
];

const PREFIX = 5; // compressed flag (1), length (4, big-endian)

/** A gRPC length-prefixed message, not compressed. */
export function framed(messageBytes: number): Buffer {
  const body = Buffer.alloc(PREFIX + messageBytes, 0x61);
  body.writeUInt8(0, 0);
  body.writeUInt32BE(messageBytes, 1);
  return body;
}

/** The back end serves each answer as a file; this is its `:path`, and the file's name under the root. */
export const pathOf = (load: Load): string => `/bench.Echo/Answer${load.answerBytes}.grpc`;

/** The `:authority` of every call. */
export const AUTHORITY = 'echo.bench';
