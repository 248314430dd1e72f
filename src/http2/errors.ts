/** HTTP/2 error codes, RFC 9113 section 7. */
export const ErrorCode = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;

const NAMES = Object.fromEntries(Object.entries(ErrorCode).map(([name, code]) => [code, name]));

/** The RFC's name of an error code, or its number in hex. */
export function errorName(code: number): string {
  return NAMES[code] ?? `0x${code.toString(16)}`;
}

/** Which end of the connection caused an error. */
export type Side = 'local' | 'remote';

/**
 * A connection error (RFC 9113 section 5.4.1): the whole connection ends with GOAWAY. `kind` names an
 * abuse limit that was crossed, for the audit. `side` is `local` for a failure of our own, with its `cause`.
 */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  readonly code: number;
  readonly side: Side;
  readonly kind: FloodKind | undefined;

  constructor(code: number, message: string, options?: { kind?: FloodKind; side?: Side; cause?: unknown }) {
    super(
      `${errorName(code)}: ${message}`,
      options?.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
    this.side = options?.side ?? 'remote';
    this.kind = options?.kind;
  }
}

/**
 * A stream error (RFC 9113 section 5.4.2): only this stream ends, with RST_STREAM. `kind` is for audit and metrics.
 */
export class StreamError extends Error {
  override readonly name = 'StreamError';
  readonly code: number;
  readonly kind: FloodKind;

  constructor(code: number, message: string, kind: FloodKind = 'malformed') {
    super(`${errorName(code)}: ${message}`);
    this.code = code;
    this.kind = kind;
  }
}

/** Limits against abuse, as the audit and the metrics name them: what ends a connection, and what only a stream. */
export const CONNECTION_FLOODS = [
  'rapid-reset',
  'provoked-reset',
  'ping',
  'settings',
  'priority',
  'goaway',
  'empty-frame',
  'unknown-frame',
  'window-update',
  'closed-stream',
  'frames',
  'continuation',
  'header-list',
  'control-queue',
  'slow-preface',
  'slow-settings',
  'slow-headers',
  'peer-memory',
] as const;
export const STREAM_FLOODS = ['malformed', 'streams', 'stalled', 'interim'] as const;
export type FloodKind = (typeof CONNECTION_FLOODS | typeof STREAM_FLOODS)[number];
