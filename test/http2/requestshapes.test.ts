import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HeaderField, headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { StreamError } from '../../src/http2/errors.ts';
import { type Message, readMessage } from '../../src/http2/message.ts';
import { RequestShapes } from '../../src/http2/requestshapes.ts';

/** As a decoder does it: what is in its tables or memos is one object, whenever it comes. */
const tables = new Map<string, HeaderField>();
function field(name: string, value: string): HeaderField {
  const key = `${name}\n${value}`;
  const known = tables.get(key) ?? headerField(name, value);
  if (!known.rule.varying && !known.sensitive) tables.set(key, known);
  return known;
}

const START: ReadonlyArray<[string, string]> = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/shop.Greeter/SayHello'],
  [':authority', 'greeter.shop'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
];

const listOf = (...more: Array<[string, string]>) =>
  HeaderList.of([...START, ...more].map(([name, value]) => field(name, value)));

function outcome(read: () => Message | undefined): unknown {
  try {
    const { plan: _, ...message } = read() ?? {};
    return message;
  } catch (error) {
    if (error instanceof StreamError) return error.message;
    throw error;
  }
}

describe('requests alike', () => {
  it('are read as each by itself would be, whatever came before', () => {
    const value = fc.constantFrom('1S', '20m', '', ' 1S', '1S\r\nx: y', 'a', 'Bearer x');
    const pair = fc.oneof(
      fc.tuple(fc.constantFrom('grpc-timeout', 'traceparent', 'authorization', 'x-custom', 'x-bin'), value),
      fc.constantFrom<[string, string]>(
        [':path', '/shop.Greeter/Other'],
        ['te', 'gzip'],
        ['host', 'greeter.shop'],
        ['host', 'elsewhere'],
        ['content-length', '5'],
        ['content-length', '6'],
        ['connection', 'close'],
        ['Upper', 'case'],
      ),
    );
    fc.assert(
      fc.property(fc.array(fc.array(pair, { maxLength: 4 }), { minLength: 1, maxLength: 30 }), (requests) => {
        const shapes = new RequestShapes();
        for (const more of requests) {
          const list = listOf(...more);
          const read = outcome(() => {
            const known = shapes.match(list);
            if (known !== undefined) return known;
            const message = readMessage(list, 'request');
            shapes.note(list, message);
            return message;
          });
          expect(read).toEqual(outcome(() => readMessage(listOf(...more), 'request')));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('share one message, with a timeout of its own each', () => {
    const shapes = new RequestShapes();
    const first = listOf(['grpc-timeout', '1S'], ['traceparent', 'a']);
    const message = readMessage(first, 'request');
    shapes.note(first, message);
    const second = shapes.match(listOf(['grpc-timeout', '2S'], ['traceparent', 'b']));
    expect(second).toBe(message);
    expect(second?.grpcTimeout).toBe('2S');
    expect(shapes.match(listOf(['traceparent', 'b'], ['grpc-timeout', '2S']))).toBeUndefined();
    expect(shapes.match(listOf(['grpc-timeout', '2S']))).toBeUndefined();
  });

  it('get messages of their own when the memo of HPACK returns their list', () => {
    const shapes = new RequestShapes();
    const first = listOf(['x-custom', 'a']);
    shapes.note(first, readMessage(first, 'request'));
    const again = listOf(['x-custom', 'a']);
    expect(shapes.match(again)).toBeDefined();
    expect(shapes.match(again)).toBeUndefined();
  });

  it('are forgotten beyond eight, and not kept when large', () => {
    const shapes = new RequestShapes();
    const paths = Array.from({ length: 9 }, (_, i) => `/m/${i}`);
    const request = (path: string) =>
      HeaderList.of(START.map(([name, value]) => field(name, name === ':path' ? path : value)));
    for (const path of paths) {
      const list = request(path);
      shapes.note(list, readMessage(list, 'request'));
    }
    expect(paths.map((path) => shapes.match(request(path)) !== undefined)).toEqual([
      false,
      ...Array(8).fill(true),
    ]);
    const large = listOf(['x-custom', 'x'.repeat(2000)]);
    shapes.note(large, readMessage(large, 'request'));
    expect(shapes.match(listOf(['x-custom', 'x'.repeat(2000)]))).toBeUndefined();
  });
});
