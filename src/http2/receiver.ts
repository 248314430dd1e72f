import type { Encoder } from '../hpack/encoder.ts';
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
  writePing,
  writeSettingsAck,
} from './frame.ts';
import { carriesHeaders, type FrameHandler, FrameReader } from './framereader.ts';
import type { Goaway } from './goaway.ts';
import type { Guard } from './guard.ts';
import type { HeaderReceiver } from './headerreceiver.ts';
import type { ConnectionHandler, FrameLog, Role } from './options.ts';
import type { Outbox } from './outbox.ts';
import type { ReceiveWindow } from './receivewindow.ts';
import type { Sender } from './sender.ts';
import { applySettings, MAX_WINDOW, SETTING_LENGTH, type Settings } from './settings.ts';
import type { Stream } from './stream.ts';
import { MAX_STREAM_ID, type Streams } from './streams.ts';

/** What `HTTP/1.1 ...` is when it is read as the header of a frame. */
const HTTP1_LENGTH = 0x48_54_54;
const HTTP1_TYPE = 0x50;
const ANSWERS_IN_HTTP1 = 'it answers in HTTP/1 and speaks no HTTP/2 with prior knowledge (h2c)';

const DEBUG_LENGTH = 128; // octets of a peer's GOAWAY debug data that are looked at

export interface ReceiverOptions {
  readonly role: Role;
  readonly handler: ConnectionHandler;
  readonly headers: HeaderReceiver;
  readonly streams: Streams;
  readonly window: ReceiveWindow;
  readonly sender: Sender;
  readonly encoder: Encoder;
  readonly out: Outbox;
  readonly goaway: Goaway;
  readonly guard: Guard;
  readonly local: Readonly<Settings>;
  /** The peer's settings, which the receiver writes. */
  readonly remote: Settings;
  /** Entries of one SETTINGS frame. */
  readonly settingsEntries: number;
}

/**
 * Reads what the peer sends: preface, then one method a frame type, in the order of RFC 9113 section 6. Breaches
 * throw ConnectionError (section 5.4.1) or end their stream (5.4.2).
 */
export class Receiver implements FrameHandler {
  /** Hears of every frame, while it is set. */
  frameLog: FrameLog | undefined;
  readonly #role: Role;
  readonly #handler: ConnectionHandler;
  readonly #headers: HeaderReceiver;
  readonly #streams: Streams;
  readonly #window: ReceiveWindow;
  readonly #sender: Sender;
  readonly #encoder: Encoder;
  readonly #out: Outbox;
  readonly #goaway: Goaway;
  readonly #guard: Guard;
  readonly #remote: Settings;
  readonly #settingsEntries: number;
  readonly #maxFrameSize: number;
  readonly #frames: FrameReader;
  #prefaceAt: number; // octets of the preface matched
  #settingsReceived = false;
  #settingsAcknowledged = false;

  constructor(options: ReceiverOptions) {
    this.#role = options.role;
    this.#handler = options.handler;
    this.#headers = options.headers;
    this.#streams = options.streams;
    this.#window = options.window;
    this.#sender = options.sender;
    this.#encoder = options.encoder;
    this.#out = options.out;
    this.#goaway = options.goaway;
    this.#guard = options.guard;
    this.#remote = options.remote;
    this.#settingsEntries = options.settingsEntries;
    this.#maxFrameSize = options.local.maxFrameSize;
    this.#frames = new FrameReader(this, this.#maxFrameSize);
    this.#prefaceAt = options.role === 'client' ? PREFACE.length : 0;
  }

  /** The preface has come; a client waits for none. */
  get hasPreface(): boolean {
    return this.#prefaceAt === PREFACE.length;
  }

  /** The peer's first SETTINGS have come. */
  get hasSettings(): boolean {
    return this.#settingsReceived;
  }

  /** The peer has acknowledged ours. */
  get settingsAcknowledged(): boolean {
    return this.#settingsAcknowledged;
  }

  /** A header block has begun and is not complete. */
  get inHeaders(): boolean {
    return this.#headers.openBlock !== undefined || carriesHeaders(this.#frames.partialType);
  }

  /** Reads octets; those of a frame that is not whole are kept. */
  read(chunk: Buffer): void {
    const rest = this.#prefaceAt < PREFACE.length ? this.#readPreface(chunk) : chunk;
    if (rest.length > 0) this.#frames.feed(rest);
  }

  /** Section 3.4. */
  #readPreface(chunk: Buffer): Buffer {
    const n = Math.min(PREFACE.length - this.#prefaceAt, chunk.length);
    if (chunk.compare(PREFACE, this.#prefaceAt, this.#prefaceAt + n, 0, n) !== 0) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'not the HTTP/2 connection preface');
    }
    this.#prefaceAt += n;
    return chunk.subarray(n);
  }

  onFrame(type: number, flags: number, streamId: number, buf: Buffer, start: number, end: number): boolean {
    this.frameLog?.frame('in', type, flags, streamId, end - start);
    this.#guard.frame();
    const openBlock = this.#headers.openBlock;
    if (openBlock !== undefined && (type !== FrameType.CONTINUATION || streamId !== openBlock)) {
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
        this.#headers.onHeaders(flags, streamId, buf, start, end);
        break;
      case FrameType.PRIORITY:
        this.#onPriority(streamId, start, end);
        break;
      case FrameType.RST_STREAM:
        this.#onRstStream(streamId, buf, start, end);
        break;
      case FrameType.SETTINGS:
        this.#onSettings(flags, streamId, buf, start, end);
        break;
      case FrameType.PUSH_PROMISE:
        // Section 6.6: we never allow push, and a client must not push at all (section 8.4).
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
        this.#headers.onContinuation(flags, buf, start, end);
        break;
      default:
        // Unknown types are ignored (section 4.1).
        this.#guard.unknownFrame();
        break;
    }
    return !this.#out.closed && !this.#guard.overloaded;
  }

  tooLarge(type: number, octets: number): ConnectionError {
    if (!this.#settingsReceived && type !== FrameType.SETTINGS) {
      const isHttp1 = octets === HTTP1_LENGTH && type === HTTP1_TYPE;
      const message = isHttp1 ? ANSWERS_IN_HTTP1 : 'the first frame is not SETTINGS';
      return new ConnectionError(ErrorCode.PROTOCOL_ERROR, message);
    }
    const message = `frame of type ${type} and ${octets} octets is above SETTINGS_MAX_FRAME_SIZE of ${this.#maxFrameSize}`;
    return new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, message);
  }

  /** Section 6.1. */
  #onData(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'DATA on stream 0');
    const octets = end - start; // padding counts too
    if (!this.#window.accept(octets)) {
      throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'DATA beyond the connection window');
    }
    let to = end;
    if ((flags & Flag.PADDED) !== 0) {
      if (octets === 0) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'DATA without its pad length');
      const padding = buf[start++] as number;
      if (padding >= octets)
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'padding longer than the DATA frame');
      to -= padding;
    }
    const fin = (flags & Flag.END_STREAM) !== 0;
    const body = to - start;
    if (body === 0 && !fin) this.#guard.emptyFrame();
    const stream = this.#streams.find(streamId);
    if (stream === undefined) {
      this.#window.discard(octets);
      this.#streams.checkClosed(streamId, 'DATA', octets, fin);
      return;
    }
    if (!this.#mayHaveData(stream, octets)) {
      this.#window.discard(octets);
      return;
    }
    this.#window.deliver(stream, octets, body);
    if (!stream.countBody(body, fin)) {
      this.#streams.fail(stream, new StreamError(ErrorCode.PROTOCOL_ERROR, 'body unlike its content-length'));
      return;
    }
    // A frame that says nothing goes no further, or its flood would.
    if (body === 0 && !fin) return;
    this.#guard.progress();
    if (fin) stream.endRemote();
    stream.handler.onData(stream, buf, start, to, fin);
    if (fin) this.#streams.endRemote(stream);
  }

  /** False after a stream error. */
  #mayHaveData(stream: Stream, octets: number): boolean {
    let error: StreamError;
    if (stream.remoteClosed) error = new StreamError(ErrorCode.STREAM_CLOSED, 'DATA after END_STREAM');
    else if (!stream.headersReceived)
      error = new StreamError(ErrorCode.PROTOCOL_ERROR, 'DATA before HEADERS');
    else if (stream.accept(octets)) return true;
    else error = new StreamError(ErrorCode.FLOW_CONTROL_ERROR, 'DATA beyond the stream window');
    this.#streams.fail(stream, error);
    return false;
  }

  /** Section 6.3: ignored, but for its form; the rest went with RFC 7540 (section 5.3.2). */
  #onPriority(streamId: number, start: number, end: number): void {
    this.#guard.priority();
    if (streamId === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'PRIORITY on stream 0');
    if (end - start === PRIORITY_LENGTH) return;
    const stream = this.#streams.find(streamId);
    if (stream !== undefined) {
      this.#streams.fail(stream, new StreamError(ErrorCode.FRAME_SIZE_ERROR, 'PRIORITY is not 5 octets'));
    } else throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'PRIORITY is not 5 octets');
  }

  /** Section 6.4. */
  #onRstStream(streamId: number, buf: Buffer, start: number, end: number): void {
    if (end - start !== RST_STREAM_LENGTH) {
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'RST_STREAM is not 4 octets');
    }
    if (streamId === 0 || this.#streams.isIdle(streamId)) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'RST_STREAM on an idle stream');
    }
    const stream = this.#streams.find(streamId);
    if (stream === undefined) this.#streams.resetLate(streamId);
    else this.#streams.resetByPeer(stream, buf.readUInt32BE(start));
  }

  /** Section 6.5. */
  #onSettings(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    const length = end - start;
    if (streamId !== 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'SETTINGS on a stream');
    if ((flags & Flag.ACK) !== 0) {
      if (length !== 0) throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'SETTINGS ACK with a payload');
      this.#onSettingsAck();
      return;
    }
    if (length % SETTING_LENGTH !== 0) {
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'SETTINGS is not a multiple of 6 octets');
    }
    this.#guard.settings();
    if (length / SETTING_LENGTH > this.#settingsEntries) {
      const message = `SETTINGS of more than ${this.#settingsEntries} entries`;
      throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, message, { kind: 'settings' });
    }
    const remote = this.#remote;
    const windowBefore = remote.initialWindowSize;
    // Each size in turn: the encoder has to tell the smallest (RFC 7541 section 4.2).
    applySettings(remote, this.#role, buf, start, end, (octets) => this.#encoder.setPeerTableSize(octets));
    const moved = remote.initialWindowSize - windowBefore;
    if (moved !== 0 && !this.#streams.moveSendWindows(moved)) {
      throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'SETTINGS move a stream window above 2^31-1');
    }
    writeSettingsAck(this.#out);
    this.#countControl();
    const first = !this.#settingsReceived;
    this.#settingsReceived = true;
    if (first) this.#handler.onReady();
    else if (this.#role === 'client') this.#handler.onRoom();
  }

  /** Ours are sent at the beginning; those that come later move windows only. */
  #onSettingsAck(): void {
    if (!this.#streams.acknowledged()) {
      this.#guard.settings();
    } else if (!this.#settingsAcknowledged) {
      this.#settingsAcknowledged = true;
      this.#headers.settingsAcknowledged();
    }
  }

  /** Section 6.7. */
  #onPing(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    if (end - start !== PING_LENGTH)
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'PING is not 8 octets');
    if (streamId !== 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'PING on a stream');
    if ((flags & Flag.ACK) !== 0) {
      if (!this.#goaway.acknowledged(buf, start)) this.#guard.ping();
      return;
    }
    this.#guard.ping();
    writePing(this.#out, true, buf, start);
    this.#countControl();
  }

  /** Section 6.8. */
  #onGoaway(streamId: number, buf: Buffer, start: number, end: number): void {
    if (streamId !== 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'GOAWAY on a stream');
    if (end - start < GOAWAY_MIN_LENGTH)
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'GOAWAY below 8 octets');
    this.#guard.goaway();
    const last = buf.readUInt32BE(start) & MAX_STREAM_ID;
    const fewer = this.#goaway.received(last);
    const from = start + GOAWAY_MIN_LENGTH;
    const debug = buf.toString('latin1', from, Math.min(end, from + DEBUG_LENGTH));
    this.#handler.onGoaway(last, buf.readUInt32BE(start + 4), debug.replace(/[^\x20-\x7e]/g, '?'));
    if (fewer) this.#streams.refuseAbove(last);
    // The connection ends with its last stream, and there may be none.
    this.#out.touch();
  }

  /** Section 6.9. */
  #onWindowUpdate(streamId: number, buf: Buffer, start: number, end: number): void {
    if (end - start !== WINDOW_UPDATE_LENGTH) {
      throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'WINDOW_UPDATE is not 4 octets');
    }
    this.#guard.windowUpdate();
    const increment = buf.readUInt32BE(start) & MAX_WINDOW;
    if (streamId === 0) {
      if (increment === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0');
      if (!this.#sender.grow(increment)) {
        throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, 'connection window above 2^31-1');
      }
      return;
    }
    const stream = this.#streams.find(streamId);
    if (stream === undefined) {
      if (this.#streams.isIdle(streamId)) {
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE on an idle stream');
      }
    } else if (increment === 0) {
      this.#streams.fail(stream, new StreamError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0'));
    } else if (stream.moveSendWindow(increment)) {
      this.#sender.wake(stream);
    } else {
      const message = 'stream window above 2^31-1';
      this.#streams.fail(stream, new StreamError(ErrorCode.FLOW_CONTROL_ERROR, message));
    }
  }

  #countControl(): void {
    if (!this.#out.writable) this.#guard.controlQueued();
  }
}
