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
  /** A `traceparent` and a `grpc-timeout` that no other call has; made by our own generator, for h2load cannot. */
  readonly unique: boolean;
  /** Sidecars run with limits, metrics and call audit on (pairs that know of these), else as by default. */
  readonly observed: boolean;
}

const PLAIN = { unique: false, observed: false } as const;

export const LOADS: readonly Load[] = [
  { name: '100B-4x32', connections: 4, inFlight: 32, requestBytes: 100, answerBytes: 100, ...PLAIN },
  {
    ...{ name: 'unique-4x32', connections: 4, inFlight: 32, requestBytes: 100, answerBytes: 100 },
    ...{ unique: true, observed: true },
  },
  { name: '100B-1x1', connections: 1, inFlight: 1, requestBytes: 100, answerBytes: 100, ...PLAIN },
  { name: '10KiB-4x16', connections: 4, inFlight: 16, requestBytes: 100, answerBytes: 10_240, ...PLAIN },
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
