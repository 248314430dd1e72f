/** gRPC messages in one direction of a call. */
export interface Messages {
  readonly count: number;
  /** Length of each, without the five bytes of gRPC's prefix. */
  readonly bytes: number;
}

/** One kind of traffic, as data: the driver runs any load over any pair. */
export interface Load {
  readonly name: string;
  /** HTTP/2 connections to the first proxy. */
  readonly connections: number;
  /** Calls in flight on each connection. */
  readonly inFlight: number;
  /** What is sent and what is answered in a call. The answer begins when the request has ended. */
  readonly request: Messages;
  readonly answer: Messages;
  /** `own` gives each call a `traceparent` and a `grpc-timeout` that no other call has, which h2load cannot. */
  readonly generator: 'h2load' | 'own';
  /** Calls begin at this pace, whatever has become of those before; else one when one ends. For `own` only. */
  readonly callsPerSecond?: number;
  /** Sidecars run with limits, metrics and call audit on (pairs that know of these), else as by default. */
  readonly observed: boolean;
}

const MIB = 2 ** 20;
const SMALL: Messages = { count: 1, bytes: 100 };
const STREAM: Messages = { count: 32, bytes: MIB };

const KIB: Messages = { count: 1, bytes: 1024 };

const PLAIN = { request: SMALL, answer: SMALL, generator: 'h2load', observed: false } as const;
const OBSERVED = { ...PLAIN, generator: 'own', observed: true } as const;

export const LOADS: readonly Load[] = [
  { name: '100B-4x32', connections: 4, inFlight: 32, ...PLAIN },
  { name: 'unique-4x32', connections: 4, inFlight: 32, ...OBSERVED },
  { name: '100B-1x1', connections: 1, inFlight: 1, ...PLAIN },
  { name: '10KiB-4x16', connections: 4, inFlight: 16, ...PLAIN, answer: { count: 1, bytes: 10_240 } },
  { name: '1MiB-stream-up', connections: 1, inFlight: 1, ...PLAIN, request: STREAM },
  { name: '1MiB-stream-down', connections: 1, inFlight: 1, ...PLAIN, answer: STREAM },
  { name: 'conns-1000', connections: 1000, inFlight: 1, ...PLAIN, generator: 'own' },
  {
    ...{ name: 'paced-1000', connections: 4, inFlight: 32, ...OBSERVED },
    ...{ request: KIB, answer: KIB, callsPerSecond: 1000 },
  },
];

const PREFIX = 5; // compressed flag (1), length (4, big-endian)

/** gRPC length-prefixed messages, not compressed. */
export function framed({ count, bytes }: Messages): Buffer {
  const one = Buffer.alloc(PREFIX + bytes, 0x61);
  one.writeUInt8(0, 0);
  one.writeUInt32BE(bytes, 1);
  return Buffer.alloc(count * one.length, one);
}

/** It is measured by its octets, not by its calls. */
export const isStream = ({ request, answer }: Load): boolean => request.count > 1 || answer.count > 1;

/** MiB of messages in a call, both ways. */
export const mibPerCall = ({ request, answer }: Load): number =>
  (request.count * request.bytes + answer.count * answer.bytes) / MIB;

/** The back end serves each answer as a file; this is its `:path`, and the file's name under the root. */
export const pathOf = ({ answer }: Load): string => `/bench.Echo/Answer${answer.count}x${answer.bytes}.grpc`;

/** The `:authority` of every call. */
export const AUTHORITY = 'echo.bench';
