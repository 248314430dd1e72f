/**
 * One HTTP/2 connection (RFC 9113), either role: octets in by `receive`, octets out through a ByteSink. No
 * sockets and no timers here: the owner calls `flush` once a turn when `schedule` asked for it, `drained` when
 * the sink has room again, `sweep` about once a second, and ends the transport on `onEnd`.
 *
 * Reading order: receive -> onFrame -> one method a frame type -> the owner's handlers; then what owners call
 * through Stream; then the end of streams and of the connection.
 */
import { Decoder } from '../hpack/decoder.ts';
import { Encoder } from '../hpack/encoder.ts';
import { HpackError } from '../hpack/errors.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import type { ChunkQueue } from './chunkqueue.ts';
import { ConnectionError, ErrorCode, StreamError } from './errors.ts';
import {
  Flag,
  FrameType,
  GOAWAY_MIN_LENGTH,
  PING_LENGTH,
  PREFACE,
  PRIORITY_LENGTH,
  RST_STREAM_LENGTH,
  WINDOW_UPDATE_LENGTH,
  writeGoaway,
  writeHeaders,
  writePing,
  writeRstStream,
  writeSettings,
  writeSettingsAck,
  writeWindowUpdate,
} from './frame.ts';
import { carriesHeaders, type FrameHandler, FrameReader } from './framereader.ts';
import { Guard, type GuardLimits } from './guard.ts';
import { HeaderBlock } from './headerblock.ts';
import { type Message, readMessage } from './message.ts';
import { Outbox } from './outbox.ts';
import { ResetMemory } from './resetmemory.ts';
import { Sender } from './sender.ts';
import {
  applySettings,
  DEFAULT_WINDOW,
  initialSettings,
  MAX_WINDOW,
  SETTING_LENGTH,
  type Settings,
  settingPairs,
} from './settings.ts';
import type { ByteSink } from './sink.ts';
import { Stream, type StreamHandler } from './stream.ts';

/** What the owner of a connection hears of it. */
export interface ConnectionHandler {
  /** Server role: a request. The owner sets `stream.handler` before it returns, or resets the stream. */
  onRequest(stream: Stream, list: HeaderList, message: Message, fin: boolean): void;
  /** Server role: a request whose header list crossed our limit. The owner answers or resets the stream. */
  onOversizeRequest(stream: Stream, fin: boolean): void;
  /** The peer's first SETTINGS have come: client role may open streams. */
  onReady(): void;
  /** Client role: `canOpen` may have become true. */
  onRoom(): void;
  /** The peer will take no stream above `lastStreamId`. */
  onGoaway(lastStreamId: number, code: number, debug: string): void;
  /** A stream broke a rule; only that stream ended. */
  onStreamError(streamId: number, error: StreamError): void;
  /** The connection is over and everything is written: the owner closes the transport. Exactly once. */
  onEnd(error: ConnectionError | undefined): void;
}

/** Limits of one connection; sizes in octets, times in ms. */
export interface ConnectionLimits extends GuardLimits {
  /** Frames of one header block. */
  continuationFrames: number;
  /** Octets of one header block as sent. */
  headerBlockBytes: number;
  /** Header fields of one list. */
  headerFields: number;
  /** Entries of one SETTINGS frame. */
  settingsEntries: number;
  /** Octets received here and not yet passed on, above which connection credit is withheld. */
  queueBytes: number;
  /** How long a stream may have octets queued without progress while the queue is full. */
  stallMs: number;
  prefaceMs: number;
  settingsMs: number;
  headerBlockMs: number;
  /** What a stream's window may grow to. */
  maxStreamWindow: number;
}

export interface ConnectionOptions {
  role: 'client' | 'server';
  sink: ByteSink;
  handler: ConnectionHandler;
  monotonic: () => number;
  /** Asks the owner to call `flush` before this turn of the event loop ends. */
  schedule: (connection: Connection) => void;
  /** Our settings, where they differ from the RFC's initial values. */
  settings: Partial<Settings>;
  /** The connection's receive window. */
  window: number;
  limits: ConnectionLimits;
}

const MAX_STREAM_ID = 2 ** 31 - 1;

/** Stands in until the owner of a request has set its own. */
const NO_HANDLER: StreamHandler = {
  onHeaders() {},
  onTrailers() {},
  onData() {},
  onTaken() {},
  onReset() {},
};

export class Connection implements FrameHandler {
  readonly role: 'client' | 'server';
  readonly #handler: ConnectionHandler;
  readonly #schedule: (connection: Connection) => void;
  readonly #monotonic: () => number;
  readonly #limits: ConnectionLimits;
  readonly #out: Outbox;
  readonly #sender: Sender;
  readonly #reader: FrameReader;
  readonly #decoder: Decoder;
  readonly #encoder: Encoder;
  readonly #guard: Guard;
  readonly #local: Settings;
  readonly #remote: Settings = initialSettings();
  readonly #streams = new Map<number, Stream>();
  readonly #resets = new ResetMemory();

  #nextId: number;
  #lastPeerId = 0; // highest stream the peer has opened
  #peerStreams = 0;
  #ownStreams = 0;

  #receiveWindow: number;
  readonly #receiveSize: number;
  #unreturned = 0;
  #held = 0; // octets on all streams that their owners have not passed on

  #block: HeaderBlock | undefined;
  #blockSince = 0;
  #prefaceAt = 0; // octets of the preface matched
  #settingsReceived = false;
  #unackedSettings = 0;
  readonly #startedAt: number;
  #scheduled = false;
  #goawaySent: number | undefined; // last stream id named
  #goawayReceived: number | undefined;
  #ended = false;

  constructor(options: ConnectionOptions) {
    this.role = options.role;
    this.#handler = options.handler;
    this.#schedule = options.schedule;
    this.#monotonic = options.monotonic;
    this.#limits = options.limits;
    this.#local = { ...initialSettings(), ...options.settings };
    this.#out = new Outbox(options.sink);
    this.#sender = new Sender(this.#out, (stream) => this.#queueEmptied(stream));
    this.#reader = new FrameReader(this, this.#local.maxFrameSize);
    this.#decoder = new Decoder({
      maxTableSize: this.#local.headerTableSize,
      maxListSize: this.#local.maxHeaderListSize,
      maxFields: options.limits.headerFields,
    });
    this.#encoder = new Encoder({ maxTableSize: this.#local.headerTableSize });
    this.#guard = new Guard(options.limits, options.monotonic);
    this.#nextId = options.role === 'client' ? 1 : 2;
    this.#startedAt = options.monotonic();
    this.#receiveSize = Math.max(options.window, DEFAULT_WINDOW);
    this.#receiveWindow = this.#receiveSize;
    this.#begin();
  }

  #begin(): void {
    if (this.role === 'client') {
      this.#out.bytes(PREFACE, 0, PREFACE.length);
      this.#prefaceAt = PREFACE.length;
    }
    writeSettings(this.#out, settingPairs(this.#local));
    this.#unackedSettings++;
    if (this.#receiveSize > DEFAULT_WINDOW) {
      writeWindowUpdate(this.#out, 0, this.#receiveSize - DEFAULT_WINDOW);
    }
    this.#touch();
  }

  // ---- what the owner asks -------------------------------------------------------------------------

  /** Streams open in either direction. */
  get streams(): number {
    return this.#streams.size;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Either side has sent GOAWAY. */
  get draining(): boolean {
    return this.#goawaySent !== undefined || this.#goawayReceived !== undefined;
  }

  /** Client role: a stream may be opened now. */
  get canOpen(): boolean {
    return (
      this.#settingsReceived &&
      !this.#ended &&
      !this.draining &&
      this.#ownStreams < this.#remote.maxConcurrentStreams &&
      this.#nextId <= MAX_STREAM_ID
    );
  }

  /** Client role: no stream can ever be opened here again. */
  get exhausted(): boolean {
    return this.#ended || this.draining || this.#nextId > MAX_STREAM_ID;
  }

  /** Octets queued for the peer on all streams. */
  get queued(): number {
    return this.#sender.queued;
  }

  /**
   * Opens a stream (client role; only while `canOpen`). `body` holds octets that came before; if `fin`, they
   * end the stream.
   */
  open(list: HeaderList, fin: boolean, handler: StreamHandler, body?: ChunkQueue): Stream {
    const stream = new Stream(
      this,
      this.#nextId,
      handler,
      this.#remote.initialWindowSize,
      this.#local.initialWindowSize,
    );
    this.#nextId += 2;
    this.#ownStreams++;
    this.#streams.set(stream.id, stream);
    this.#guard.streamOpened();
    if (body === undefined || body.length === 0) {
      this.sendHeaders(stream, list, fin);
      return stream;
    }
    this.sendHeaders(stream, list, false);
    stream.queue = body;
    stream.finQueued = fin;
    this.#sender.adopt(stream, this.#monotonic());
    this.#touch();
    return stream;
  }

  // ---- octets in -----------------------------------------------------------------------------------

  /** Takes octets from the transport; they are read before it returns. */
  receive(chunk: Buffer): void {
    if (this.#ended) return;
    try {
      const rest = this.#prefaceAt < PREFACE.length ? this.#readPreface(chunk) : chunk;
      if (rest.length > 0) this.#reader.feed(rest);
    } catch (error) {
      this.#failWith(error);
    }
  }

  #readPreface(chunk: Buffer): Buffer {
    const n = Math.min(PREFACE.length - this.#prefaceAt, chunk.length);
    if (chunk.compare(PREFACE, this.#prefaceAt, this.#prefaceAt + n, 0, n) !== 0) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'not the HTTP/2 connection preface');
    }
    this.#prefaceAt += n;
    return chunk.subarray(n);
  }

  onFrame(type: number, flags: number, streamId: number, buf: Buffer, start: number, end: number): boolean {
    if (this.#block !== undefined && (type !== FrameType.CONTINUATION || streamId !== this.#block.streamId)) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'header block interrupted by another frame');
    }
    if (!this.#settingsReceived && (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0)) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'the first frame is not SETTINGS');
    }
    switch (type) {
      case FrameType.DATA:
        this.#onData(flags, streamId, buf, start, end);
        break;
      case FrameType.HEADERS:
        this.#onHeaders(flags, streamId, buf, start, end);
        break;
      case FrameType.PRIORITY:
        this.#onPriority(streamId, buf, start, end);
        break;
      case FrameType.RST_STREAM:
        this.#onRstStream(streamId, buf, start, end);
        break;
      case FrameType.SETTINGS:
        this.#onSettings(flags, streamId, buf, start, end);
        break;
      case FrameType.PUSH_PROMISE:
        // We never allow push, so that neither role may be sent one (section 8.4).
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'PUSH_PROMISE although push is off');
      case FrameType.PING:
        this.#onPing(flags, streamId, buf, start, end);
        break;
      case FrameType.GOAWAY:
        this.#onGoaway(streamId, buf, start, end);
        break;
      case FrameType.WINDOW_UPDATE:
        this.#onWindowUpdate(streamId, buf, start, end);
        break;
      case FrameType.CONTINUATION:
        this.#onContinuation(flags, buf, start, end);
        break;
      default:
        // Unknown types are ignored (section 4.1).
        break;
    }
    return !this.#ended;
  }

  /** Section 6.1. */
  #onData(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'DATA on stream 0');
    const octets = end - start; // padding counts too
    this.#receiveWindow -= octets;
    if (this.#receiveWindow < 0) {
      throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'DATA beyond the connection window');
    }
    let bodyEnd = end;
    if ((flags & Flag.PADDED) !== 0) {
      const padding = octets > 0 ? (buf[start] as number) : 0;
      if (octets === 0 || padding >= octets) {
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'padding longer than the DATA frame');
      }
      start += 1;
      bodyEnd -= padding;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      this.#returnCredit(octets);
      this.#onClosedStream(streamId, 'DATA');
      return;
    }
    stream.receiveWindow -= octets;
    if (stream.receiveWindow < 0) {
      this.#returnCredit(octets);
      this.#streamError(
        stream,
        new StreamError(ErrorCode.FLOW_CONTROL_ERROR, 'DATA beyond the stream window'),
      );
      return;
    }
    if (stream.remoteClosed || (!stream.headersReceived && this.role === 'client')) {
      this.#returnCredit(octets);
      const code = stream.remoteClosed ? ErrorCode.STREAM_CLOSED : ErrorCode.PROTOCOL_ERROR;
      this.#streamError(stream, new StreamError(code, 'DATA where none may come'));
      return;
    }
    const body = bodyEnd - start;
    const fin = (flags & Flag.END_STREAM) !== 0;
    if (body === 0 && !fin) this.#guard.emptyFrame();
    else this.#guard.progress();
    stream.held += body;
    this.#held += body;
    this.#returnCredit(octets);
    if (body < octets) this.#streamCredit(stream, octets - body);
    if (stream.bodyLeft >= 0 && !this.#countBody(stream, body, fin)) return;
    if (fin) stream.remoteClosed = true;
    stream.handler.onData(stream, buf, start, bodyEnd, fin);
    if (fin) this.#maybeClose(stream);
  }

  /** Holds a body against its content-length (section 8.1.1); false after a stream error. */
  #countBody(stream: Stream, octets: number, fin: boolean): boolean {
    stream.bodyLeft -= octets;
    if (stream.bodyLeft >= 0 && !(fin && stream.bodyLeft > 0)) return true;
    this.#streamError(stream, new StreamError(ErrorCode.PROTOCOL_ERROR, 'body unlike its content-length'));
    return false;
  }

  /** Section 6.2. */
  #onHeaders(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'HEADERS on stream 0');
    let from = start;
    let to = end;
    if ((flags & Flag.PADDED) !== 0) {
      if (from === to)
        throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'HEADERS without its pad length');
      to -= buf[from++] as number;
    }
    let selfDependent = false;
    if ((flags & Flag.PRIORITY) !== 0) {
      if (from + PRIORITY_LENGTH > end) {
        throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'HEADERS without its priority fields');
      }
      selfDependent = (buf.readUInt32BE(from) & 0x7fffffff) === streamId;
      from += PRIORITY_LENGTH;
    }
    if (to < from)
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'padding longer than the HEADERS frame');
    this.#guard.progress();
    const fin = (flags & Flag.END_STREAM) !== 0;
    if (selfDependent) this.#selfDependency(streamId);
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.#onBlock(streamId, buf, from, to, fin);
      return;
    }
    const { continuationFrames, headerBlockBytes } = this.#limits;
    this.#block = new HeaderBlock(streamId, fin, continuationFrames, headerBlockBytes);
    this.#blockSince = this.#monotonic();
    this.#block.add(buf, from, to);
  }

  /** RFC 7540 section 5.3.1; RFC 9113 dropped priorities, and peers may still check for it. */
  #selfDependency(streamId: number): void {
    const stream = this.#streams.get(streamId);
    const error = new StreamError(ErrorCode.PROTOCOL_ERROR, 'stream depends on itself');
    if (stream !== undefined) this.#streamError(stream, error);
    else throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'stream depends on itself');
  }

  /** Section 6.10. */
  #onContinuation(flags: number, buf: Buffer, start: number, end: number): void {
    const block = this.#block;
    if (block === undefined)
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'CONTINUATION without HEADERS');
    block.add(buf, start, end);
    if ((flags & Flag.END_HEADERS) === 0) return;
    this.#block = undefined;
    const whole = block.join();
    this.#onBlock(block.streamId, whole, 0, whole.length, block.endStream);
  }

  /** A whole header block. It is decoded whatever becomes of it: the table must follow (section 4.3). */
  #onBlock(streamId: number, buf: Buffer, start: number, end: number, fin: boolean): void {
    const list = this.#decoder.decode(buf, start, end);
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (this.role === 'server' && (streamId & 1) === 1 && streamId > this.#lastPeerId) {
        this.#onNewRequest(streamId, list, fin);
      } else {
        this.#onClosedStream(streamId, 'HEADERS');
      }
      return;
    }
    if (stream.remoteClosed) {
      this.#streamError(stream, new StreamError(ErrorCode.STREAM_CLOSED, 'HEADERS after END_STREAM'));
      return;
    }
    try {
      this.#onMessage(stream, list, fin);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#streamError(stream, error);
    }
  }

  #onNewRequest(streamId: number, list: HeaderList, fin: boolean): void {
    this.#lastPeerId = streamId;
    this.#guard.streamOpened();
    if (this.#goawaySent !== undefined && streamId > this.#goawaySent) {
      this.#resets.add(streamId);
      return;
    }
    if (this.#peerStreams >= this.#local.maxConcurrentStreams) {
      this.#refuse(streamId);
      return;
    }
    const stream = new Stream(
      this,
      streamId,
      NO_HANDLER,
      this.#remote.initialWindowSize,
      this.#local.initialWindowSize,
    );
    this.#peerStreams++;
    this.#streams.set(streamId, stream);
    stream.headersReceived = true;
    if (fin) stream.remoteClosed = true;
    if (list.oversize) {
      this.#handler.onOversizeRequest(stream, fin);
      return;
    }
    try {
      const message = readMessage(list, 'request');
      this.#expectBody(stream, message, fin);
      this.#handler.onRequest(stream, list, message, fin);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#streamError(stream, error);
    }
  }

  #refuse(streamId: number): void {
    writeRstStream(this.#out, streamId, ErrorCode.REFUSED_STREAM);
    this.#resets.add(streamId);
    this.#guard.provokedReset();
    this.#countControl();
    this.#touch();
  }

  #expectBody(stream: Stream, message: Message, fin: boolean): void {
    const length = message.contentLength;
    if (length < 0) return;
    if (fin && length > 0) throw new StreamError(ErrorCode.PROTOCOL_ERROR, 'content-length without a body');
    if (!fin) stream.bodyLeft = length;
  }

  #onMessage(stream: Stream, list: HeaderList, fin: boolean): void {
    if (list.oversize) throw new StreamError(ErrorCode.ENHANCE_YOUR_CALM, 'header list above our limit');
    if (stream.headersReceived) {
      if (!fin) throw new StreamError(ErrorCode.PROTOCOL_ERROR, 'trailers without END_STREAM');
      const message = readMessage(list, 'trailers');
      if (stream.bodyLeft > 0)
        throw new StreamError(ErrorCode.PROTOCOL_ERROR, 'body unlike its content-length');
      stream.remoteClosed = true;
      stream.handler.onTrailers(stream, list, message);
      this.#maybeClose(stream);
      return;
    }
    const message = readMessage(list, 'response');
    if (message.status < 200) {
      if (fin) throw new StreamError(ErrorCode.PROTOCOL_ERROR, 'an interim response ends the stream');
      stream.handler.onHeaders(stream, list, message, false);
      return;
    }
    stream.headersReceived = true;
    if (fin) stream.remoteClosed = true;
    // A content-length without a body is right in answers to HEAD and in 304 (RFC 9110 section 8.6).
    else if (message.contentLength >= 0) stream.bodyLeft = message.contentLength;
    stream.handler.onHeaders(stream, list, message, fin);
    if (fin) this.#maybeClose(stream);
  }

  /** A frame for a stream that has no object: idle, or closed (section 5.1). */
  #onClosedStream(streamId: number, frame: string): void {
    if (this.#isIdle(streamId)) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `${frame} on idle stream ${streamId}`);
    }
    // What the peer sent before it saw our reset, or our GOAWAY, is no error.
    if (this.#resets.has(streamId)) return;
    throw new ConnectionError(ErrorCode.STREAM_CLOSED, `${frame} on closed stream ${streamId}`);
  }

  #isIdle(streamId: number): boolean {
    const own = (streamId & 1) === (this.role === 'client' ? 1 : 0);
    return own ? streamId >= this.#nextId : streamId > this.#lastPeerId;
  }

  /** Section 6.3: ignored, but for its form. */
  #onPriority(streamId: number, buf: Buffer, start: number, end: number): void {
    this.#guard.priority();
    if (streamId === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'PRIORITY on stream 0');
    const stream = this.#streams.get(streamId);
    if (end - start !== PRIORITY_LENGTH) {
      const error = new StreamError(ErrorCode.FRAME_SIZE_ERROR, 'PRIORITY is not 5 octets');
      if (stream !== undefined) this.#streamError(stream, error);
      else throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'PRIORITY is not 5 octets');
      return;
    }
    if (stream !== undefined && (buf.readUInt32BE(start) & 0x7fffffff) === streamId)
      this.#selfDependency(streamId);
  }

  /** Section 6.4. */
  #onRstStream(streamId: number, buf: Buffer, start: number, end: number): void {
    if (end - start !== RST_STREAM_LENGTH) {
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'RST_STREAM is not 4 octets');
    }
    if (streamId === 0 || this.#isIdle(streamId)) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'RST_STREAM on an idle stream');
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    const code = buf.readUInt32BE(start);
    this.#remove(stream);
    // The guard counts after the stream is gone: its owner must hear of the reset, limit or not.
    const refused = code === ErrorCode.REFUSED_STREAM && this.role === 'client';
    stream.handler.onReset(stream, code, refused ? 'refused' : 'remote');
    if (this.role === 'server') this.#guard.peerReset();
  }

  /** Section 6.5. */
  #onSettings(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    const length = end - start;
    if (streamId !== 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'SETTINGS on a stream');
    if ((flags & Flag.ACK) !== 0) {
      if (length !== 0) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'SETTINGS ACK with a payload');
      if (this.#unackedSettings > 0) this.#unackedSettings--;
      return;
    }
    if (length % SETTING_LENGTH !== 0) {
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'SETTINGS is not a multiple of 6 octets');
    }
    if (length / SETTING_LENGTH > this.#limits.settingsEntries) {
      throw new ConnectionError(
        ErrorCode.ENHANCE_YOUR_CALM,
        `SETTINGS of more than ${this.#limits.settingsEntries} entries`,
        'settings',
      );
    }
    this.#guard.settings();
    const windowBefore = this.#remote.initialWindowSize;
    applySettings(this.#remote, buf, start, end);
    if (this.role === 'client' && this.#remote.enablePush && length > 0)
      this.#refusePushSetting(buf, start, end);
    this.#encoder.setPeerTableSize(this.#remote.headerTableSize);
    this.#shiftWindows(this.#remote.initialWindowSize - windowBefore);
    writeSettingsAck(this.#out);
    this.#countControl();
    const first = !this.#settingsReceived;
    this.#settingsReceived = true;
    this.#touch();
    if (first) this.#handler.onReady();
    else if (this.role === 'client') this.#handler.onRoom();
  }

  /** A server must not offer push to us (section 6.5.2). */
  #refusePushSetting(buf: Buffer, start: number, end: number): void {
    for (let at = start; at < end; at += SETTING_LENGTH) {
      if (buf.readUInt16BE(at) === 0x2 && buf.readUInt32BE(at + 2) === 1) {
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'a server sent SETTINGS_ENABLE_PUSH 1');
      }
    }
  }

  /** A changed initial window moves the window of every stream, also below zero (section 6.9.2). */
  #shiftWindows(delta: number): void {
    if (delta === 0) return;
    for (const stream of this.#streams.values()) {
      stream.sendWindow += delta;
      if (stream.sendWindow > MAX_WINDOW) {
        throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'SETTINGS move a stream window above 2^31-1');
      }
      this.#sender.wake(stream);
    }
  }

  /** Section 6.7. */
  #onPing(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    if (end - start !== PING_LENGTH)
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'PING is not 8 octets');
    if (streamId !== 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'PING on a stream');
    if ((flags & Flag.ACK) !== 0) {
      this.#onPingAck(buf.readUInt32BE(start));
      return;
    }
    this.#guard.ping();
    writePing(this.#out, true, buf, start);
    this.#countControl();
    this.#touch();
  }

  /** Section 6.8. */
  #onGoaway(streamId: number, buf: Buffer, start: number, end: number): void {
    if (streamId !== 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'GOAWAY on a stream');
    if (end - start < GOAWAY_MIN_LENGTH)
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'GOAWAY below 8 octets');
    const last = buf.readUInt32BE(start) & MAX_STREAM_ID;
    const code = buf.readUInt32BE(start + 4);
    if (this.#goawayReceived !== undefined && last > this.#goawayReceived) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'GOAWAY raises its last stream');
    }
    this.#goawayReceived = last;
    const debug = buf.toString(
      'latin1',
      start + GOAWAY_MIN_LENGTH,
      Math.min(end, start + GOAWAY_MIN_LENGTH + 128),
    );
    this.#handler.onGoaway(last, code, debug);
    for (const stream of [...this.#streams.values()]) {
      const own = (stream.id & 1) === (this.role === 'client' ? 1 : 0);
      if (!own || stream.id <= last || stream.closed) continue;
      this.#remove(stream);
      stream.handler.onReset(stream, ErrorCode.REFUSED_STREAM, 'refused');
    }
    this.#endIfDrained();
  }

  /** Section 6.9. */
  #onWindowUpdate(streamId: number, buf: Buffer, start: number, end: number): void {
    if (end - start !== WINDOW_UPDATE_LENGTH) {
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'WINDOW_UPDATE is not 4 octets');
    }
    const increment = buf.readUInt32BE(start) & MAX_WINDOW;
    if (streamId === 0) {
      if (increment === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0');
      if (!this.#sender.grow(increment)) {
        throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'connection window above 2^31-1');
      }
      this.#touch();
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (this.#isIdle(streamId)) {
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE on an idle stream');
      }
      return;
    }
    if (increment === 0) {
      this.#streamError(stream, new StreamError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0'));
      return;
    }
    stream.sendWindow += increment;
    if (stream.sendWindow > MAX_WINDOW) {
      this.#streamError(stream, new StreamError(ErrorCode.FLOW_CONTROL_ERROR, 'stream window above 2^31-1'));
      return;
    }
    this.#sender.wake(stream);
    this.#touch();
  }

  // ---- credit --------------------------------------------------------------------------------------

  /** Gives connection credit back in bulk, unless too much is held: stalled streams must not take all. */
  #returnCredit(octets: number): void {
    this.#unreturned += octets;
    if (this.#unreturned * 2 < this.#receiveSize || this.#held > this.#limits.queueBytes) return;
    writeWindowUpdate(this.#out, 0, this.#unreturned);
    this.#receiveWindow += this.#unreturned;
    this.#unreturned = 0;
    this.#touch();
  }

  credit(stream: Stream, octets: number): void {
    if (octets === 0) return;
    stream.held -= octets;
    this.#held -= octets;
    if (this.#unreturned * 2 >= this.#receiveSize) this.#returnCredit(0);
    if (stream.closed) return;
    this.#streamCredit(stream, octets);
  }

  #streamCredit(stream: Stream, octets: number): void {
    stream.unreturned += octets;
    if (stream.remoteClosed || stream.unreturned * 2 < stream.receiveSize) return;
    // The far side has taken all there was, so a larger window would be used: double it.
    if (stream.held === 0 && stream.receiveSize < this.#limits.maxStreamWindow && this.#mayGrow()) {
      const size = Math.min(stream.receiveSize * 2, this.#limits.maxStreamWindow);
      stream.unreturned += size - stream.receiveSize;
      stream.receiveSize = size;
    }
    writeWindowUpdate(this.#out, stream.id, stream.unreturned);
    stream.receiveWindow += stream.unreturned;
    stream.unreturned = 0;
    this.#touch();
  }

  #mayGrow(): boolean {
    return this.#held * 4 <= this.#limits.queueBytes;
  }

  // ---- octets out ----------------------------------------------------------------------------------

  sendHeaders(stream: Stream, list: HeaderList, fin: boolean): void {
    if (stream.closed || stream.localClosed) return;
    this.#writeHeaders(stream, list, fin);
    if (fin) this.#localEnd(stream);
  }

  sendTrailers(stream: Stream, list: HeaderList): void {
    if (stream.closed || stream.localClosed || stream.trailersQueued !== undefined) return;
    if (stream.queued > 0) {
      stream.trailersQueued = list;
      return;
    }
    this.#writeHeaders(stream, list, true);
    this.#localEnd(stream);
  }

  #writeHeaders(stream: Stream, list: HeaderList, fin: boolean): void {
    const encoder = this.#encoder;
    const length = encoder.encode(list);
    writeHeaders(this.#out, stream.id, encoder.block, length, fin, this.#remote.maxFrameSize);
    this.#touch();
  }

  sendData(stream: Stream, buf: Uint8Array, start: number, end: number, fin: boolean): number {
    if (stream.closed || stream.localClosed) return end - start;
    const written = this.#sender.send(
      stream,
      buf,
      start,
      end,
      fin,
      this.#remote.maxFrameSize,
      this.#monotonic,
    );
    this.#touch();
    if (fin && written === end - start && stream.queued === 0) this.#localEnd(stream);
    return written;
  }

  /** The last queued octet of a stream has been written. */
  #queueEmptied(stream: Stream): void {
    const trailers = stream.trailersQueued;
    if (trailers !== undefined) {
      stream.trailersQueued = undefined;
      this.#writeHeaders(stream, trailers, true);
    } else if (!stream.finQueued) {
      return;
    }
    stream.finQueued = false;
    this.#localEnd(stream);
  }

  #localEnd(stream: Stream): void {
    stream.localClosed = true;
    if (stream.remoteClosed) {
      this.#remove(stream);
      this.#endIfDrained();
    } else if (this.role === 'server') {
      // The answer is complete: the rest of the request is not wanted (section 8.1).
      this.resetStream(stream, ErrorCode.NO_ERROR);
    }
  }

  #touch(): void {
    if (this.#scheduled || this.#ended) return;
    this.#scheduled = true;
    this.#schedule(this);
  }

  /** Writes what this turn gathered. */
  flush(): void {
    this.#scheduled = false;
    if (this.#ended) return;
    try {
      if (this.#sender.canPump) this.#sender.pump(this.#remote.maxFrameSize, this.#monotonic());
      this.#out.flush();
    } catch (error) {
      this.#failWith(error);
    }
  }

  /** The sink has room again. */
  drained(): void {
    if (this.#ended) return;
    this.#out.drained();
    this.#guard.drained();
    this.#touch();
  }

  #countControl(): void {
    if (!this.#out.writable) this.#guard.controlQueued();
  }

  // ---- the end of a stream -------------------------------------------------------------------------

  resetStream(stream: Stream, code: number): void {
    if (stream.closed) return;
    writeRstStream(this.#out, stream.id, code);
    this.#countControl();
    this.#resets.add(stream.id);
    this.#remove(stream);
    this.#touch();
    this.#endIfDrained();
  }

  /** The peer broke a rule of this stream. */
  #streamError(stream: Stream, error: StreamError): void {
    this.resetStream(stream, error.code);
    this.#handler.onStreamError(stream.id, error);
    stream.handler.onReset(stream, error.code, 'local');
    this.#guard.provokedReset();
  }

  #maybeClose(stream: Stream): void {
    if (stream.closed || !stream.localClosed || !stream.remoteClosed) return;
    this.#remove(stream);
    this.#endIfDrained();
  }

  #remove(stream: Stream): void {
    if (stream.closed) return;
    stream.closed = true;
    stream.localClosed = true;
    stream.remoteClosed = true;
    if (stream.queue !== undefined) this.#sender.drop(stream);
    if (stream.held > 0) {
      this.#held -= stream.held;
      stream.held = 0;
      if (this.#unreturned * 2 >= this.#receiveSize) this.#returnCredit(0);
    }
    this.#streams.delete(stream.id);
    if ((stream.id & 1) === (this.role === 'client' ? 1 : 0)) {
      this.#ownStreams--;
      if (this.role === 'client' && !this.#ended) this.#handler.onRoom();
    } else {
      this.#peerStreams--;
    }
  }

  // ---- the end of the connection -------------------------------------------------------------------

  /**
   * Begins a graceful end (section 6.8): GOAWAY with the highest identifier, then, when the PING behind it
   * has come back, GOAWAY with the last stream taken. The connection ends with its last stream.
   */
  drain(debug: string): void {
    if (this.#ended || this.#goawaySent !== undefined) return;
    if (this.role === 'client') {
      this.#goawaySent = 0;
      writeGoaway(this.#out, 0, ErrorCode.NO_ERROR, debug);
    } else {
      this.#goawaySent = MAX_STREAM_ID;
      writeGoaway(this.#out, MAX_STREAM_ID, ErrorCode.NO_ERROR, debug);
      writePing(this.#out, false, DRAIN_PING, 0);
    }
    this.#touch();
    this.#endIfDrained();
  }

  #onPingAck(opaque: number): void {
    if (this.#goawaySent === MAX_STREAM_ID && opaque === DRAIN_PING.readUInt32BE(0)) this.finishDrain();
  }

  /** The second step of `drain`, also for an owner whose peer does not answer the PING in time. */
  finishDrain(): void {
    if (this.#ended || this.#goawaySent !== MAX_STREAM_ID) return;
    this.#goawaySent = this.#lastPeerId;
    writeGoaway(this.#out, this.#lastPeerId, ErrorCode.NO_ERROR, '');
    this.#touch();
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (this.#streams.size > 0 || this.#ended) return;
    const done =
      this.role === 'client'
        ? this.draining
        : this.#goawaySent !== undefined && this.#goawaySent !== MAX_STREAM_ID;
    if (!done) return;
    this.#out.flush();
    this.#finish(undefined);
  }

  #failWith(error: unknown): void {
    if (error instanceof ConnectionError) this.fail(error);
    else if (error instanceof HpackError)
      this.fail(new ConnectionError(ErrorCode.COMPRESSION_ERROR, error.message));
    else throw error;
  }

  /** Ends the connection with GOAWAY; nothing is sent after it. */
  fail(error: ConnectionError): void {
    if (this.#ended) return;
    writeGoaway(this.#out, this.#lastPeerId, error.code, error.message);
    this.#out.flush();
    this.#finish(error);
  }

  /** Ends at once and orderly: GOAWAY without an error. Owners of streams hear of it before. */
  shutDown(): void {
    if (this.#ended) return;
    writeGoaway(this.#out, this.#lastPeerId, ErrorCode.NO_ERROR, 'shutdown');
    this.#out.flush();
    this.#finish(undefined);
  }

  /** The transport is gone: streams end, nothing is written. */
  transportClosed(): void {
    if (!this.#ended) this.#finish(undefined);
  }

  #finish(error: ConnectionError | undefined): void {
    this.#ended = true;
    this.#out.close();
    for (const stream of [...this.#streams.values()]) {
      this.#remove(stream);
      stream.handler.onReset(stream, error?.code ?? ErrorCode.CANCEL, 'connection');
    }
    this.#handler.onEnd(error);
  }

  /** Holds the time limits; the owner calls it about once a second. */
  sweep(): void {
    if (this.#ended) return;
    const now = this.#monotonic();
    const { prefaceMs, settingsMs, headerBlockMs, stallMs, queueBytes } = this.#limits;
    const age = now - this.#startedAt;
    if (this.#prefaceAt < PREFACE.length) {
      if (age >= prefaceMs) this.#tooSlow('slow-preface', ErrorCode.PROTOCOL_ERROR, 'no preface', prefaceMs);
      return;
    }
    if ((!this.#settingsReceived || this.#unackedSettings > 0) && age >= settingsMs) {
      this.#tooSlow('slow-settings', ErrorCode.SETTINGS_TIMEOUT, 'no SETTINGS or no ACK of ours', settingsMs);
      return;
    }
    if (this.#block === undefined && !carriesHeaders(this.#reader.partialType)) this.#blockSince = now;
    else if (now - this.#blockSince >= headerBlockMs) {
      this.#tooSlow('slow-headers', ErrorCode.ENHANCE_YOUR_CALM, 'header block incomplete', headerBlockMs);
      return;
    }
    if (this.#sender.queued > queueBytes) this.#resetStalled(now - stallMs);
  }

  #tooSlow(
    kind: 'slow-preface' | 'slow-settings' | 'slow-headers',
    code: number,
    what: string,
    ms: number,
  ): void {
    this.fail(new ConnectionError(code, `${what} after ${ms} ms`, kind));
  }

  #resetStalled(before: number): void {
    for (const stream of [...this.#streams.values()]) {
      if (stream.queued === 0 || stream.progressAt > before) continue;
      this.resetStream(stream, ErrorCode.CANCEL);
      const error = new StreamError(
        ErrorCode.CANCEL,
        'no progress while the queue of its connection is full',
      );
      this.#handler.onStreamError(stream.id, error);
      stream.handler.onReset(stream, ErrorCode.CANCEL, 'local');
    }
  }

  /** For logs: the role and how many streams. */
  toString(): string {
    return `http2 ${this.role}, ${this.#streams.size} streams${this.#ended ? ', ended' : ''}`;
  }
}

const DRAIN_PING = Buffer.from('hbkdrain', 'latin1');
