import { AUTHORITY, framed, type Load, pathOf } from '../load.ts';
import { DATA, END_HEADERS, END_STREAM, FRAME_HEADER, frameHeader, HEADERS, writeStreamId } from './frame.ts';

// HPACK (RFC 7541). What is the same in all calls enters the server's dynamic table with the first call of a
// connection and is an index from then on; what differs is a literal without indexing, as tracing libraries and
// deadlines make it.
const METHOD_POST = 3; // static table
const SCHEME_HTTP = 6;
const NAME_PATH = 4;
const NAME_AUTHORITY = 1;
const NAME_CONTENT_TYPE = 31;
const NEW_NAME = 0;
const FIRST_DYNAMIC = 62;

const INDEXED = 0x80; // 6.1
const INCREMENTAL = 0x40; // 6.2.1
const WITHOUT_INDEXING = 0x00; // 6.2.2

const TIMEOUT_DIGITS = 8; // all that gRPC allows
const LEAST_TIMEOUT = 20_000_000; // microseconds: no call of a measurement takes that long
const TIMEOUTS = 10 ** TIMEOUT_DIGITS - LEAST_TIMEOUT;
const TRACE_DIGITS = 32;
const SPAN_DIGITS = 16;
const COUNTED_DIGITS = 8; // the last ones of each id; those before them are the run's

interface Template {
  readonly octets: Buffer;
  /** Offsets of what differs in each call. */
  readonly timeout: number;
  readonly trace: number;
  readonly span: number;
}

/** The frames of one unary call, made ahead but for its stream id and its unique fields. */
export class RequestFrames {
  /** Octets of DATA payload, which take of the server's windows. */
  readonly bodyLength: number;
  readonly #first: Template;
  readonly #later: Template;
  readonly #dataAtFromEnd: number;

  /** `run` is a number that no other run has. */
  constructor(load: Load, run: number) {
    const body = framed(load.request);
    this.bodyLength = body.length;
    this.#dataAtFromEnd = FRAME_HEADER + body.length;
    const fixed = [
      field(INCREMENTAL, NAME_PATH, ':path', pathOf(load)),
      field(INCREMENTAL, NAME_AUTHORITY, ':authority', AUTHORITY),
      field(INCREMENTAL, NAME_CONTENT_TYPE, 'content-type', 'application/grpc'),
      field(INCREMENTAL, NEW_NAME, 'te', 'trailers'),
      field(INCREMENTAL, NEW_NAME, 'user-agent', 'bench/1'),
    ];
    // The newest entry of the dynamic table has the lowest index.
    const indices = fixed.map((_, at) => Buffer.of(INDEXED | (FIRST_DYNAMIC + fixed.length - 1 - at)));
    this.#first = template(Buffer.concat(fixed), body, run);
    this.#later = template(Buffer.concat(indices), body, run);
  }

  /** The most that `write` writes. */
  get longest(): number {
    return this.#first.octets.length;
  }

  /** Writes HEADERS and DATA with END_STREAM; returns where they end. `call` is below 2^32 and never comes again. */
  write(into: Buffer, start: number, streamId: number, call: number): number {
    const { octets, timeout, trace, span } = streamId === 1 ? this.#first : this.#later;
    const end = start + octets.length;
    into.set(octets, start);
    writeStreamId(into, start, streamId);
    writeStreamId(into, end - this.#dataAtFromEnd, streamId);
    writeDecimal(into, start + timeout, LEAST_TIMEOUT + (call % TIMEOUTS));
    writeHex(into, start + trace, call);
    writeHex(into, start + span, call);
    return end;
  }
}

function template(fixed: Buffer, body: Buffer, run: number): Template {
  const ids = (digits: number) => run.toString(16).padStart(digits - COUNTED_DIGITS, '1');
  const zeros = '0'.repeat(COUNTED_DIGITS);
  const start = Buffer.of(INDEXED | METHOD_POST, INDEXED | SCHEME_HTTP);
  const timeout = field(WITHOUT_INDEXING, NEW_NAME, 'grpc-timeout', `${'0'.repeat(TIMEOUT_DIGITS)}u`);
  const traceparent = field(
    WITHOUT_INDEXING,
    NEW_NAME,
    'traceparent',
    `00-${ids(TRACE_DIGITS)}${zeros}-${ids(SPAN_DIGITS)}${zeros}-01`,
  );
  const block = Buffer.concat([start, fixed, timeout, traceparent]);
  const headers = frameHeader(block.length, HEADERS, END_HEADERS);
  const octets = Buffer.concat([headers, block, frameHeader(body.length, DATA, END_STREAM), body]);
  const blockEnd = headers.length + block.length;
  const spanEnd = blockEnd - '-01'.length;
  return {
    octets,
    timeout: blockEnd - traceparent.length - TIMEOUT_DIGITS - 'u'.length,
    trace: spanEnd - SPAN_DIGITS - '-'.length - COUNTED_DIGITS,
    span: spanEnd - COUNTED_DIGITS,
  };
}

/** A literal, strings raw and shorter than 127. */
function field(kind: number, nameIndex: number, name: string, value: string): Buffer {
  const text = (string: string) => Buffer.from(`${String.fromCharCode(string.length)}${string}`, 'latin1');
  return Buffer.concat([
    Buffer.of(kind | nameIndex),
    nameIndex === NEW_NAME ? text(name) : Buffer.alloc(0),
    text(value),
  ]);
}

const DIGITS = Buffer.from('0123456789abcdef');

function writeDecimal(into: Buffer, at: number, value: number): void {
  let rest = value;
  for (let i = at + TIMEOUT_DIGITS - 1; i >= at; i--) {
    const tenth = Math.floor(rest / 10);
    into[i] = DIGITS[rest - tenth * 10];
    rest = tenth;
  }
}

function writeHex(into: Buffer, at: number, value: number): void {
  let rest = value;
  for (let i = at + COUNTED_DIGITS - 1; i >= at; i--) {
    into[i] = DIGITS[rest & 0xf];
    rest >>>= 4;
  }
}
