import type { Metadata } from '@grpc/grpc-js';
import { GRPC_STATUS_NAMES } from '../telemetry/grpcstatus.ts';

/** The name of a gRPC status that is not OK. */
export type FailedStatus =
  | 'CANCELLED'
  | 'UNKNOWN'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DATA_LOSS'
  | 'UNAUTHENTICATED';

/** What a {@link CallError} may have besides its status and message. */
export interface CallErrorOptions {
  /** The trailers of the call. */
  readonly metadata?: Metadata | undefined;
  /** The stable code of an error that a sidecar made, as docs/errors.md has them. */
  readonly reason?: string | undefined;
  readonly cause?: unknown;
}

const UNKNOWN = 2;

/** A call that failed. A client's calls reject with it; a handler that throws one answers the call so. */
export class CallError extends Error {
  override readonly name = 'CallError';
  /** The gRPC status, 1 to 16. */
  readonly code: number;
  /** Its name, such as `NOT_FOUND`. */
  readonly status: string;
  /** What the other side, or a sidecar on the way, says of it. */
  readonly details: string;
  /** The `hauberk-error` if a sidecar made the error, such as `limited`; undefined if the called program did. */
  readonly reason: string | undefined;
  /** The trailers. */
  readonly metadata: Metadata | undefined;

  /** `code`: a gRPC status by its number or name; what is none counts as UNKNOWN. */
  constructor(code: number | FailedStatus, details: string, options: CallErrorOptions = {}) {
    const given = typeof code === 'number' ? code : GRPC_STATUS_NAMES.indexOf(code);
    const number = given > 0 && GRPC_STATUS_NAMES[given] !== undefined ? given : UNKNOWN;
    const status = GRPC_STATUS_NAMES[number] as string;
    super(`${status}: ${details}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = number;
    this.status = status;
    this.details = details;
    this.reason = options.reason;
    this.metadata = options.metadata;
  }
}
