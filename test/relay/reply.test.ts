import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RELAY_ERRORS, RelayError, type RelayErrorCode } from '../../src/relay/errors.ts';
import {
  encodeGrpcMessage,
  grpcErrorHeaders,
  grpcErrorTrailers,
  httpErrorHeaders,
} from '../../src/relay/reply.ts';

const codes = Object.keys(RELAY_ERRORS) as RelayErrorCode[];
const fieldsOf = (list: { fields: readonly { name: string; value: string }[] }) =>
  list.fields.map(({ name, value }) => [name, value]);

describe('grpc-message', () => {
  it.each([
    ['plain text, with "marks"', 'plain text, with "marks"'],
    ['100 %', '100 %25'],
    ['snow ☃', 'snow %E2%98%83'],
    ['two\r\nlines', 'two%0D%0Alines'],
    ['\u007f', '%7F'],
  ])('%j is %s', (text, encoded) => expect(encodeGrpcMessage(text)).toBe(encoded));

  it('is printable ASCII whatever it says, and can be read back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const encoded = encodeGrpcMessage(text);
        expect(encoded).toMatch(/^[\x20-\x7e]*$/);
        expect(decodeURIComponent(encoded)).toBe(Buffer.from(text).toString());
      }),
    );
  });
});

describe('an answer of the sidecar', () => {
  it.each(codes)('%s is trailers-only with its status and code', (code) => {
    expect(fieldsOf(grpcErrorHeaders(new RelayError(code, 'why: 5 %')))).toEqual([
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['grpc-status', String(RELAY_ERRORS[code].grpc)],
      ['grpc-message', 'why: 5 %25'],
      ['hauberk-error', code],
    ]);
  });

  it.each(codes)('%s is an HTTP status for a request that is not gRPC', (code) => {
    const fields = fieldsOf(httpErrorHeaders(new RelayError(code, 'why'), 4));
    expect(fields[0]).toEqual([':status', String(RELAY_ERRORS[code].http)]);
    expect(fields).toContainEqual(['hauberk-error', code]);
    expect(fields).toContainEqual(['content-length', '4']);
    expect(RELAY_ERRORS[code].http).toBeGreaterThanOrEqual(400);
  });

  it('in the middle of a call is trailers without a :status', () => {
    const fields = fieldsOf(grpcErrorTrailers(new RelayError('session-lost', 'gone')));
    expect(fields.every(([name]) => !name?.startsWith(':'))).toBe(true);
    expect(fields).toContainEqual(['grpc-status', '14']);
  });

  it('that limits says when to try again, in the caller’s own terms', () => {
    const error = new RelayError('limited', 'slow down', { retryAfterMs: 1500 });
    expect(fieldsOf(grpcErrorHeaders(error))).toContainEqual(['grpc-retry-pushback-ms', '1500']);
    expect(fieldsOf(grpcErrorTrailers(error))).toContainEqual(['grpc-retry-pushback-ms', '1500']);
    expect(fieldsOf(httpErrorHeaders(error, 0))).toContainEqual(['retry-after', '2']);
  });
});
