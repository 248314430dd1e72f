import type { HandshakeConfig, RecordsConfig } from '../config/config.ts';
import { MAX_KEY_BYTES, MAX_KEY_RECORDS, MAX_LENGTH } from './record.ts';

/** Limits of design section 5. Sizes in bytes, times in milliseconds. */
export type HandshakeLimits = HandshakeConfig;

export interface RecordLimits extends RecordsConfig {
  /** A receiver refuses a key's record of this number (the first is number 1), and a sender does not seal it. */
  readonly maxKeyRecords: number;
  /** A sender seals nothing more under a key that has sealed this many bytes. */
  readonly maxKeyBytes: number;
  /** A KEY_UPDATE that follows another after fewer records than this ... */
  readonly keyUpdateRecords: number;
  /** ... and in less than this time is a flood. */
  readonly keyUpdateMs: number;
  /** More PINGs than this, or more records that carry nothing, ... */
  readonly idleRecords: number;
  /** ... in this time are a flood. */
  readonly idleWindowMs: number;
  /** Largest value of a record's length field that this end accepts, announced in TLV 0x05. */
  readonly maxLength: number;
  /** Bytes waiting for the kernel from which on SecureChannel.write asks its owner to wait. */
  readonly backlog: number;
  /** More than this many wait only if the peer takes nothing of what it makes us answer: it is cut off. */
  readonly maxBacklog: number;
}

export interface TransportLimits {
  readonly handshake: HandshakeLimits;
  readonly records: RecordLimits;
}

export const DEFAULT_HANDSHAKE_LIMITS: HandshakeLimits = {
  connectTimeoutMs: 5_000,
  firstFrameTimeoutMs: 2_000,
  timeoutMs: 5_000,
  maxFirstMessageSize: 1_536,
  maxMessageSize: 16_384,
  maxHalfOpen: 256,
  maxHalfOpenPerAddress: 16,
  ratePerAddress: 50,
  burstPerAddress: 100,
  maxEventLoopLagMs: 50,
  staticKeyLifetimeMs: 12 * 3_600_000,
};

export const DEFAULT_RECORD_LIMITS: RecordLimits = {
  timeoutMs: 10_000,
  closeTimeoutMs: 5_000,
  heartbeatMs: 0,
  heartbeatTimeoutMs: 10_000,
  rekeyRecords: 2 ** 20,
  rekeyBytes: 32 * 2 ** 30,
  rekeyAfterMs: 3_600_000,
  maxRecordsPerSecond: 200_000,
  maxKeyRecords: MAX_KEY_RECORDS,
  maxKeyBytes: MAX_KEY_BYTES,
  keyUpdateRecords: 2 ** 10,
  keyUpdateMs: 1_000,
  idleRecords: 200,
  idleWindowMs: 10_000,
  maxLength: MAX_LENGTH,
  backlog: 256 * 1024,
  maxBacklog: 16 * 1024 * 1024,
};

/** What callers give: everything left out has its default. */
export interface LimitOverrides {
  readonly handshake?: Partial<HandshakeLimits>;
  readonly records?: Partial<RecordLimits>;
}

export function transportLimits(overrides: LimitOverrides = {}): TransportLimits {
  return {
    handshake: { ...DEFAULT_HANDSHAKE_LIMITS, ...overrides.handshake },
    records: { ...DEFAULT_RECORD_LIMITS, ...overrides.records },
  };
}
