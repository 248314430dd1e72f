import hpack from 'hpack.js';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { Connection, type ConnectionHandler, type ConnectionLimits } from '../../src/http2/connection.ts';
import type { ConnectionError, StreamError } from '../../src/http2/errors.ts';
import type { Message } from '../../src/http2/message.ts';
import type { Settings } from '../../src/http2/settings.ts';
import type { ByteSink } from '../../src/http2/sink.ts';
import type { ResetOrigin, Stream, StreamHandler } from '../../src/http2/stream.ts';

/**
 * A mock peer: raw frames in, raw frames out, by a plain codec that shares nothing with src/http2, and HPACK by
 * hpack.js. Numbers are written out, as they stand in RFC 9113.
 */
export const T = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;
export const END_STREAM = 0x1;
export const ACK = 0x1;
export const END_HEADERS = 0x4;
export const PADDED = 0x8;
export const PRIORITY = 0x20;

/** Error codes, RFC 9113 section 7. */
export const E = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export interface PeerFrame {
  type: number;
  flags: number;
  id: number;
  payload: Buffer;
}

export const u32 = (value: number): Buffer => {
  const buf = Buffer.alloc(4);
  buf.writeUInt32BE(value >>> 0);
  return buf;
};

/** A frame, with a true length unless `length` lies. */
export function frame(
  type: number,
  flags: number,
  id: number,
  payload: Uint8Array | string = '',
  length?: number,
): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : Buffer.from(payload);
  const head = Buffer.alloc(9);
  head.writeUIntBE(length ?? body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, body]);
}

export const settings = (...pairs: Array<[id: number, value: number]>): Buffer =>
  frame(
    T.SETTINGS,
    0,
    0,
    Buffer.concat(pairs.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id & 255]), u32(value)]))),
  );
export const settingsAck = (): Buffer => frame(T.SETTINGS, ACK, 0);
export const windowUpdate = (id: number, increment: number): Buffer =>
  frame(T.WINDOW_UPDATE, 0, id, u32(increment));
export const rst = (id: number, code: number): Buffer => frame(T.RST_STREAM, 0, id, u32(code));
export const ping = (opaque = 'opaque!!', flags = 0): Buffer => frame(T.PING, flags, 0, opaque);
export const goaway = (last: number, code: number, debug = ''): Buffer =>
  frame(T.GOAWAY, 0, 0, Buffer.concat([u32(last), u32(code), Buffer.from(debug, 'latin1')]));
export const data = (id: number, octets: Uint8Array | string, flags = 0): Buffer =>
  frame(T.DATA, flags, id, octets);
export const headers = (id: number, block: Uint8Array, flags = END_HEADERS): Buffer =>
  frame(T.HEADERS, flags, id, block);

export type Fields = ReadonlyArray<readonly [name: string, value: string]>;

/** A header block of literals without indexing, raw (RFC 7541 section 6.2.2). */
export function block(fields: Fields): Buffer {
  const text = (value: string): Buffer => {
    const octets = Buffer.from(value, 'latin1');
    const { length } = octets;
    if (length < 127) return Buffer.concat([Buffer.from([length]), octets]);
    const rest: number[] = [];
    let left = length - 127;
    for (; left >= 128; left = Math.floor(left / 128)) rest.push((left % 128) + 128);
    return Buffer.concat([Buffer.from([127, ...rest, left]), octets]);
  };
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

export const REQUEST: Fields = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/shop.Greeter/SayHello'],
  [':authority', 'greeter'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
];
export const RESPONSE: Fields = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];
export const TRAILERS: Fields = [['grpc-status', '0']];

export const list = (fields: Fields): HeaderList =>
  HeaderList.of(fields.map(([name, value]) => headerField(name, value)));

export const LIMITS: ConnectionLimits = {
  framesPerSecond: 2_000_000,
  floodFrames: 200,
  floodWindowMs: 10_000,
  resetBurst: 1000,
  resets: { maxRatio: 0.5 },
  controlQueue: 1000,
  continuationFrames: 8,
  headerBlockBytes: 65_536,
  headerFields: 128,
  interimResponses: 16,
  ownResets: { burst: 800, perSecond: 400, waiting: 2048 },
  settingsEntries: 32,
  queueBytes: 16_777_216,
  stallMs: 60_000,
  prefaceMs: 5000,
  settingsMs: 5000,
  headerBlockMs: 10_000,
  maxStreamWindow: 4_194_304,
};

/** What an owner heard, in order. */
export type Heard =
  | { what: 'request'; id: number; fields: Fields; fin: boolean }
  | { what: 'oversize'; id: number; fin: boolean }
  | { what: 'headers'; id: number; status: number; fin: boolean }
  | { what: 'data'; id: number; octets: string; fin: boolean }
  | { what: 'trailers'; id: number; fields: Fields }
  | { what: 'taken'; id: number; n: number }
  | { what: 'reset'; id: number; code: number; origin: ResetOrigin }
  | { what: 'stream-error'; id: number; code: number }
  | { what: 'goaway'; last: number; code: number; debug: string }
  | { what: 'ready' }
  | { what: 'end'; code: number | undefined; kind: string | undefined };

const fieldsOf = (of: HeaderList): Fields => of.fields.map(({ name, value }) => [name, value] as const);

/** The owner of a connection and of its streams: writes down what it hears; `react` may do more. */
export class Owner implements ConnectionHandler, StreamHandler {
  readonly heard: Heard[] = [];
  readonly streams = new Map<number, Stream>();
  react: (event: Heard, stream: Stream | undefined) => void = () => {};
  /** Returns credit for DATA at once. */
  credits = true;
  ends = 0;
  rooms = 0;
  error: ConnectionError | undefined;

  #note(event: Heard, stream?: Stream): void {
    this.heard.push(event);
    this.react(event, stream);
  }

  /** Returns what was heard since the last call. */
  take(): Heard[] {
    return this.heard.splice(0);
  }

  onRequest(stream: Stream, of: HeaderList, _message: Message, fin: boolean): void {
    stream.handler = this;
    this.streams.set(stream.id, stream);
    this.#note({ what: 'request', id: stream.id, fields: fieldsOf(of), fin }, stream);
  }

  onOversizeRequest(stream: Stream, fin: boolean): void {
    stream.handler = this;
    this.streams.set(stream.id, stream);
    this.#note({ what: 'oversize', id: stream.id, fin }, stream);
  }

  onReady(): void {
    this.#note({ what: 'ready' });
  }

  onRoom(): void {
    this.rooms++;
  }

  onGoaway(last: number, code: number, debug: string): void {
    this.#note({ what: 'goaway', last, code, debug });
  }

  onStreamError(id: number, error: StreamError): void {
    this.#note({ what: 'stream-error', id, code: error.code });
  }

  onEnd(error: ConnectionError | undefined): void {
    this.ends++;
    this.error = error;
    this.#note({ what: 'end', code: error?.code, kind: error?.kind });
  }

  onHeaders(stream: Stream, _list: HeaderList, message: Message, fin: boolean): void {
    this.#note({ what: 'headers', id: stream.id, status: message.status, fin }, stream);
  }

  onTrailers(stream: Stream, of: HeaderList): void {
    this.#note({ what: 'trailers', id: stream.id, fields: fieldsOf(of) }, stream);
  }

  onData(stream: Stream, buf: Buffer, start: number, end: number, fin: boolean): void {
    if (this.credits) stream.credit(end - start);
    this.#note({ what: 'data', id: stream.id, octets: buf.toString('latin1', start, end), fin }, stream);
  }

  onTaken(stream: Stream, n: number): void {
    this.#note({ what: 'taken', id: stream.id, n }, stream);
  }

  onReset(stream: Stream, code: number, origin: ResetOrigin): void {
    this.#note({ what: 'reset', id: stream.id, code, origin }, stream);
  }
}

/** Collects what a connection writes. */
class PeerSink implements ByteSink {
  readonly headroom = 3;
  readonly capacity: number;
  writable = true;
  readonly written: Buffer[] = [];

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  acquire(): Buffer {
    return Buffer.alloc(this.headroom + this.capacity);
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    if (start < this.headroom || end - start > this.capacity) throw new Error('write out of range');
    this.written.push(Buffer.from(buffer.subarray(start, end)));
    return this.writable;
  }
}

export interface PeerOptions {
  /** The role of the connection under test; the mock plays the other. */
  role?: 'client' | 'server';
  limits?: Partial<ConnectionLimits>;
  settings?: Partial<Settings>;
  window?: number;
  capacity?: number;
  /** Leaves out preface, SETTINGS and their ACK. */
  raw?: boolean;
  /** The mock's SETTINGS. */
  announce?: Array<[id: number, value: number]>;
}

/** A connection under test, its owner, and the mock peer at its other end. */
export class Http2Peer {
  readonly owner = new Owner();
  readonly sink: PeerSink;
  readonly connection: Connection;
  now = 1000;
  /** How often the connection asked for a flush that it has not had. */
  scheduled = 0;
  #unread = Buffer.alloc(0);
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 65_536 } });

  constructor(options: PeerOptions = {}) {
    const role = options.role ?? 'server';
    this.sink = new PeerSink(options.capacity ?? 65_536);
    this.connection = new Connection({
      role,
      sink: this.sink,
      handler: this.owner,
      monotonic: () => this.now,
      schedule: () => {
        this.scheduled++;
      },
      settings: { ...(role === 'client' ? { enablePush: false } : {}), ...options.settings },
      window: options.window ?? 65_535,
      limits: { ...LIMITS, ...options.limits },
    });
    this.#decompressor.on('error', (error) => {
      throw error;
    });
    if (options.raw === true) return;
    if (role === 'server') this.write(PREFACE);
    this.write(settings(...(options.announce ?? [])), settingsAck());
    this.frames();
    this.owner.take();
  }

  /** Gives the connection octets, in one piece each, without a turn of the event loop. */
  write(...chunks: Buffer[]): void {
    for (const chunk of chunks) this.connection.receive(chunk);
  }

  /** The end of a turn: the connection writes what it has. */
  turn(): void {
    if (this.scheduled > 1) throw new Error('asked for two flushes in one turn');
    while (this.scheduled > 0) {
      this.scheduled = 0;
      this.connection.flush();
    }
  }

  /** The sink has room again. */
  drain(): void {
    this.sink.writable = true;
    this.connection.drained();
  }

  /** Ends the turn and returns the frames written since the last call. */
  frames(): PeerFrame[] {
    this.turn();
    this.#unread = Buffer.concat([this.#unread, ...this.sink.written.splice(0)]);
    if (this.#unread.subarray(0, PREFACE.length).equals(PREFACE)) this.#unread = this.#unread.subarray(24);
    const frames: PeerFrame[] = [];
    while (this.#unread.length >= 9) {
      const length = this.#unread.readUIntBE(0, 3);
      if (this.#unread.length < 9 + length) break;
      frames.push({
        type: this.#unread.readUInt8(3),
        flags: this.#unread.readUInt8(4),
        id: this.#unread.readUInt32BE(5),
        payload: this.#unread.subarray(9, 9 + length),
      });
      this.#unread = this.#unread.subarray(9 + length);
    }
    return frames;
  }

  /** Ends the turn and exchanges what it wrote with the mock's own answer: ACKs of SETTINGS and PINGs. */
  framesOf(type: number): PeerFrame[] {
    return this.frames().filter((found) => found.type === type);
  }

  /** Decodes a header block, in the order in which the connection sent them. */
  fields(payload: Buffer): Fields {
    this.#decompressor.write(payload);
    this.#decompressor.execute((error) => {
      if (error !== null) throw error;
    });
    const found: Array<[string, string]> = [];
    for (let field = this.#decompressor.read(); field !== null; field = this.#decompressor.read()) {
      found.push([field.name, field.value]);
    }
    return found;
  }

  /** The code of the GOAWAY that ended the connection; undefined if it lives or ended without error. */
  goawayCode(): number | undefined {
    const last = this.framesOf(T.GOAWAY).at(-1);
    return last?.payload.readUInt32BE(4);
  }

  /** Sends a whole request and returns its stream. */
  request(id: number, flags = END_HEADERS | END_STREAM, fields: Fields = REQUEST): Stream {
    this.write(headers(id, block(fields), flags));
    const stream = this.owner.streams.get(id);
    if (stream === undefined) throw new Error(`no request on stream ${id}`);
    return stream;
  }

  /** Client role: opens a stream. */
  open(fields: Fields = REQUEST, fin = false): Stream {
    return this.connection.open(list(fields), fin, this.owner);
  }
}
