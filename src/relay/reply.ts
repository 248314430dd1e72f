/** Answers and trailers that the sidecar makes itself. */
import { type HeaderField, headerField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';
import { RELAY_ERRORS, type RelayError } from './errors.ts';

const STATUS_200 = headerField(':status', '200');
const GRPC_TYPE = headerField('content-type', 'application/grpc');
const TEXT_TYPE = headerField('content-type', 'text/plain; charset=utf-8');

/** Percent-encodes a grpc-message: UTF-8, everything but printable ASCII and `%` itself (gRPC over HTTP/2). */
export function encodeGrpcMessage(text: string): string {
  let out = '';
  for (const octet of Buffer.from(text, 'utf8')) {
    if (octet >= 0x20 && octet <= 0x7e && octet !== 0x25) out += String.fromCharCode(octet);
    else out += `%${octet.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}

function statusFields(error: RelayError): HeaderField[] {
  const fields = [
    headerField('grpc-status', String(RELAY_ERRORS[error.code].grpc)),
    headerField('grpc-message', encodeGrpcMessage(error.message)),
    headerField(ERROR, error.code),
  ];
  if (error.retryAfterMs !== undefined) {
    fields.push(headerField('grpc-retry-pushback-ms', String(error.retryAfterMs)));
  }
  return fields;
}

const ERROR = 'hauberk-error';

/** An answer without messages by which a sidecar tells that its app is not there: the call was given to nobody. */
export const saysUndelivered = (list: HeaderList): boolean => list.get(ERROR) === 'app-unreachable';

/** What an app answers, without what only its sidecar may say. */
export const withoutError = (list: HeaderList): HeaderList =>
  HeaderList.of(list.fields.filter(({ name }) => name !== ERROR));

/** A trailers-only gRPC answer: HTTP 200, and the status in the same headers. */
export function grpcErrorHeaders(error: RelayError): HeaderList {
  return HeaderList.of([STATUS_200, GRPC_TYPE, ...statusFields(error)]);
}

/** Trailers that end a gRPC call whose headers have gone out already. */
export function grpcErrorTrailers(error: RelayError): HeaderList {
  return HeaderList.of(statusFields(error));
}

/** An answer to a request that is not gRPC. */
export function httpErrorHeaders(error: RelayError, bodyLength: number): HeaderList {
  const fields = [
    headerField(':status', String(RELAY_ERRORS[error.code].http)),
    TEXT_TYPE,
    headerField('content-length', String(bodyLength)),
    headerField(ERROR, error.code),
  ];
  if (error.retryAfterMs !== undefined) {
    fields.push(headerField('retry-after', String(Math.ceil(error.retryAfterMs / 1000))));
  }
  return HeaderList.of(fields);
}
