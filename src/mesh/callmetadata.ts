/** A call's metadata as header lists, and back ("gRPC over HTTP/2"). */
import type { Metadata } from '@grpc/grpc-js';
import { type HeaderField, headerField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';
import { formatTimeout } from '../relay/timeout.ts';
import type { Grpc } from './grpctypes.ts';

const METHOD = headerField(':method', 'POST');
const SCHEME = headerField(':scheme', 'http');
const TE = headerField('te', 'trailers');
const CONTENT_TYPE = headerField('content-type', 'application/grpc');
const ACCEPT = headerField('grpc-accept-encoding', 'identity');

/** What a call says of itself; metadata cannot. */
const RESERVED: ReadonlySet<string> = new Set([
  'te',
  'content-type',
  'grpc-timeout',
  'grpc-encoding',
  'grpc-accept-encoding',
  'user-agent',
  'host',
]);

export interface Request {
  readonly path: string;
  readonly authority: string;
  readonly userAgent: string;
  /** Until the deadline; Infinity if there is none. */
  readonly leftMs: number;
}

/** The headers of a request. Throws if the metadata cannot be sent. */
export function requestHeaders(request: Request, metadata: Metadata): HeaderList {
  const { path, authority, userAgent, leftMs } = request;
  const fields: HeaderField[] = [
    METHOD,
    SCHEME,
    headerField(':path', path),
    headerField(':authority', authority),
    TE,
    CONTENT_TYPE,
    ACCEPT,
    headerField('user-agent', userAgent),
  ];
  if (leftMs !== Number.POSITIVE_INFINITY) {
    fields.push(headerField('grpc-timeout', formatTimeout(Math.max(1, leftMs))));
  }
  for (const [name, values] of Object.entries(metadata.toHttp2Headers())) {
    if (values === undefined || RESERVED.has(name)) continue;
    for (const value of Array.isArray(values) ? values : [values]) {
      fields.push(headerField(name, String(value)));
    }
  }
  return HeaderList.of(fields);
}

/** The metadata of an answer's headers or trailers. */
export function metadataOf(grpc: Grpc, list: HeaderList): Metadata {
  const headers: Record<string, string | string[]> = {};
  for (const { name, value } of list.fields) {
    if (name.startsWith(':')) continue;
    const known = headers[name];
    if (known === undefined) headers[name] = value;
    else if (Array.isArray(known)) known.push(value);
    else headers[name] = [known, value];
  }
  return grpc.Metadata.fromHttp2Headers(headers);
}

/** Takes a status's own fields out of trailers; returns what it says. */
export function takeStatusMessage(trailers: Metadata): string {
  const [message] = trailers.get('grpc-message');
  trailers.remove('grpc-status');
  trailers.remove('grpc-message');
  return message === undefined ? '' : percentDecoded(String(message));
}

/** What is not well encoded stays as it is. */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
