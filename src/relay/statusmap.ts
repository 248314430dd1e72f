/**
 * The gRPC status that a client makes of an answer without `grpc-status`, for counting and the audit. What goes to the
 * caller is the answer as it was: its own library does the same.
 */
import { ErrorCode } from '../http2/errors.ts';
import type { ResetOrigin } from '../http2/stream.ts';
import { GrpcStatus } from './errors.ts';

/** Of an HTTP status ("HTTP to gRPC Status Code Mapping"). */
export function statusOfHttp(status: number): number {
  switch (status) {
    case 400:
      return GrpcStatus.INTERNAL;
    case 401:
      return GrpcStatus.UNAUTHENTICATED;
    case 403:
      return GrpcStatus.PERMISSION_DENIED;
    case 404:
      return GrpcStatus.UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return GrpcStatus.UNAVAILABLE;
    default:
      return GrpcStatus.UNKNOWN;
  }
}

/** Of RST_STREAM's error code ("gRPC over HTTP/2", HTTP2 Transport Mapping). */
export function statusOfReset(code: number): number {
  switch (code) {
    case ErrorCode.REFUSED_STREAM:
      return GrpcStatus.UNAVAILABLE;
    case ErrorCode.CANCEL:
      return GrpcStatus.CANCELLED;
    case ErrorCode.ENHANCE_YOUR_CALM:
      return GrpcStatus.RESOURCE_EXHAUSTED;
    case ErrorCode.INADEQUATE_SECURITY:
      return GrpcStatus.PERMISSION_DENIED;
    default:
      return GrpcStatus.INTERNAL;
  }
}

/** What the audit says of a call whose own side ended it; undefined if its caller has cancelled it. */
export function errorOfCaller(origin: ResetOrigin): string | undefined {
  switch (origin) {
    case 'remote':
      return undefined;
    case 'stalled':
      return 'stalled';
    case 'oversize':
      return 'headers-too-large';
    default:
      return 'caller-lost';
  }
}
