/**
 * The errors that the sidecar itself answers with. One table; docs/errors.md shows it and a test holds the two
 * together. `grpc` is the gRPC status, `http` what a request that is not gRPC gets.
 */
export interface RelayErrorRow {
  readonly grpc: number;
  readonly http: number;
  /** What it means, for docs/errors.md. */
  readonly meaning: string;
}

/** gRPC status codes that the sidecar makes. */
export const GrpcStatus = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  DEADLINE_EXCEEDED: 4,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

export const RELAY_ERRORS = {
  'no-route': { grpc: 14, http: 503, meaning: 'No route of this sidecar matches the call’s `:authority`.' },
  'no-app': { grpc: 14, http: 503, meaning: 'The peer’s sidecar has no local app for the service called.' },
  'peer-unreachable': {
    grpc: 14,
    http: 503,
    meaning: 'No connection to any endpoint of the peer could be made.',
  },
  'peer-unresolved': { grpc: 14, http: 503, meaning: 'The endpoint’s DNS name has no address.' },
  'no-service': {
    grpc: 14,
    http: 503,
    meaning:
      'The controller knows no service, and no pod in the mesh, by the name or address that was called.',
  },
  'no-endpoints': {
    grpc: 14,
    http: 503,
    meaning: 'The controller knows the service, and none of its pods that is in the mesh and ready.',
  },
  'discovery-unavailable': {
    grpc: 14,
    http: 503,
    meaning:
      'Where the service is was never told: the controller could not be reached while the call waited.',
  },
  'too-many-services': {
    grpc: 14,
    http: 503,
    meaning: 'This sidecar holds as many services from discovery as it may, all of them in use.',
  },
  'handshake-refused': {
    grpc: 14,
    http: 503,
    meaning:
      'The handshake with the peer failed: its identity, certificate or protocol was not accepted, or ours was not.',
  },
  'session-lost': { grpc: 14, http: 502, meaning: 'The session ended while the call was under way.' },
  'session-revoked': {
    grpc: 14,
    http: 502,
    meaning: 'An operator ended the session while the call was under way; the peer may come back.',
  },
  'peer-blocked': {
    grpc: 7,
    http: 403,
    meaning: 'An operator has blocked the peer: no session with it until it is allowed again.',
  },
  'sessions-full': {
    grpc: 14,
    http: 503,
    meaning: 'This sidecar holds as many sessions as it may, all of them busy.',
  },
  'app-unreachable': {
    grpc: 14,
    http: 503,
    meaning: 'The app behind the sidecar does not accept connections.',
  },
  'app-lost': {
    grpc: 14,
    http: 502,
    meaning: 'The connection to the app broke while the call was under way.',
  },
  'app-protocol-error': {
    grpc: 13,
    http: 502,
    meaning: 'The other side answered in a way that breaks HTTP/2 or gRPC.',
  },
  'queue-full': { grpc: 14, http: 503, meaning: 'Too many calls wait for a connection or a free stream.' },
  'wait-timeout': {
    grpc: 14,
    http: 503,
    meaning: 'The call waited too long for a connection or a free stream, and was not sent.',
  },
  stalled: {
    grpc: 8,
    http: 503,
    meaning:
      'The other side took nothing of the request for too long, while the queue of its connection was full.',
  },
  draining: { grpc: 14, http: 503, meaning: 'The sidecar is shutting down and takes no new calls.' },
  'deadline-exceeded': { grpc: 4, http: 504, meaning: 'The call’s deadline passed before it was answered.' },
  denied: { grpc: 7, http: 403, meaning: 'No rule under `ingress.allow` lets this peer call this method.' },
  limited: {
    grpc: 8,
    http: 429,
    meaning: 'A request limit is used up; `grpc-retry-pushback-ms` says when to try again.',
  },
  'headers-too-large': { grpc: 8, http: 431, meaning: 'The call’s metadata is above the limit.' },
  'bad-timeout': { grpc: 13, http: 400, meaning: 'The call’s `grpc-timeout` is not a gRPC timeout.' },
  internal: { grpc: 13, http: 500, meaning: 'The sidecar itself failed; its log says how.' },
} as const satisfies Record<string, RelayErrorRow>;

/** A stable code, sent as `hauberk-error`. */
export type RelayErrorCode = keyof typeof RELAY_ERRORS;

/** A failure of the sidecar that a caller gets to see: `message` says what, where and what to do. */
export class RelayError extends Error {
  override readonly name = 'RelayError';
  readonly code: RelayErrorCode;
  /** When to try again, for `limited`. */
  readonly retryAfterMs: number | undefined;

  constructor(code: RelayErrorCode, message: string, options?: { cause?: unknown; retryAfterMs?: number }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }
}

/** For a call that comes, or still waits, when the sidecar ends. */
export function drainingError(): RelayError {
  return new RelayError('draining', 'this sidecar is shutting down; the call was not sent, try another');
}
