import { Decoder } from '../hpack/decoder.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import { ConnectionError, ErrorCode, StreamError } from './errors.ts';
import { Flag, PRIORITY_LENGTH } from './frame.ts';
import type { Goaway } from './goaway.ts';
import type { Guard } from './guard.ts';
import { HeaderBlock } from './headerblock.ts';
import { type Message, type MessageKind, readMessage } from './message.ts';
import type { ConnectionHandler, ConnectionLimits, Role } from './options.ts';
import { RequestShapes } from './requestshapes.ts';
import { DEFAULT_HEADER_TABLE_SIZE, type Settings } from './settings.ts';
import type { Stream } from './stream.ts';
import type { Streams } from './streams.ts';

/**
 * HEADERS and CONTINUATION (RFC 9113 sections 6.2, 6.10): frames become header blocks, blocks become requests,
 * responses and trailers. Every block is decoded, whatever becomes of it: the table must follow (section 4.3).
 */
export class HeaderReceiver {
  readonly #role: Role;
  readonly #handler: ConnectionHandler;
  readonly #streams: Streams;
  readonly #goaway: Goaway;
  readonly #guard: Guard;
  readonly #limits: ConnectionLimits;
  readonly #local: Readonly<Settings>;
  readonly #decoder: Decoder;
  readonly #shapes = new RequestShapes();
  #block: HeaderBlock | undefined;
  #blocks = 0;

  constructor(
    role: Role,
    handler: ConnectionHandler,
    streams: Streams,
    goaway: Goaway,
    guard: Guard,
    local: Readonly<Settings>,
    limits: ConnectionLimits,
  ) {
    this.#role = role;
    this.#handler = handler;
    this.#streams = streams;
    this.#goaway = goaway;
    this.#guard = guard;
    this.#limits = limits;
    this.#local = local;
    this.#decoder = new Decoder({
      maxTableSize: DEFAULT_HEADER_TABLE_SIZE,
      maxListSize: local.maxHeaderListSize,
      maxFields: limits.headerFields,
    });
    // A larger table may be used before its ACK is here; a smaller one is not before.
    if (local.headerTableSize > DEFAULT_HEADER_TABLE_SIZE) this.settingsAcknowledged();
  }

  /** The peer knows our settings. */
  settingsAcknowledged(): void {
    this.#decoder.setMaxTableSize(this.#local.headerTableSize);
  }

  /** The stream whose header block is not complete; only its CONTINUATION may come. */
  get openBlock(): number | undefined {
    return this.#block?.streamId;
  }

  /** Header blocks that were complete. */
  get blocks(): number {
    return this.#blocks;
  }

  onHeaders(flags: number, streamId: number, buf: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'HEADERS on stream 0');
    let from = start;
    let to = end;
    if ((flags & Flag.PADDED) !== 0) {
      if (from === to)
        throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'HEADERS without its pad length');
      to -= buf[from++] as number;
    }
    if ((flags & Flag.PRIORITY) !== 0) {
      if (from + PRIORITY_LENGTH > end) {
        throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'HEADERS without its priority fields');
      }
      from += PRIORITY_LENGTH;
    }
    if (to < from)
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'padding longer than the HEADERS frame');
    this.#guard.progress();
    const fin = (flags & Flag.END_STREAM) !== 0;
    const { continuationFrames, headerBlockBytes } = this.#limits;
    if ((flags & Flag.END_HEADERS) !== 0 && to - from <= headerBlockBytes) {
      this.#onBlock(streamId, buf, from, to, fin);
      return;
    }
    this.#block = new HeaderBlock(streamId, fin, continuationFrames, headerBlockBytes);
    this.#block.add(buf, from, to);
  }

  onContinuation(flags: number, buf: Buffer, start: number, end: number): void {
    const block = this.#block;
    if (block === undefined)
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'CONTINUATION without HEADERS');
    block.add(buf, start, end);
    if ((flags & Flag.END_HEADERS) === 0) return;
    this.#block = undefined;
    const whole = block.join();
    this.#onBlock(block.streamId, whole, 0, whole.length, block.endStream);
  }

  #onBlock(streamId: number, buf: Buffer, start: number, end: number, fin: boolean): void {
    this.#blocks++;
    const list = this.#decoder.decode(buf, start, end);
    const stream = this.#streams.find(streamId);
    if (stream !== undefined) this.#onMore(stream, list, fin);
    else if (this.#role === 'server' && (streamId & 1) === 1 && this.#streams.isIdle(streamId)) {
      this.#onRequest(streamId, list, fin);
    } else this.#streams.checkClosed(streamId, 'HEADERS', 0, fin);
  }

  // ---- requests ------------------------------------------------------------------------------------

  #onRequest(streamId: number, list: HeaderList, fin: boolean): void {
    this.#streams.notePeerId(streamId);
    if (!this.#goaway.takes(streamId)) {
      this.#streams.ignore(streamId);
      return;
    }
    const stream = this.#streams.accept(streamId);
    if (stream === undefined) return;
    if (fin) stream.endRemote();
    if (list.oversize) {
      this.#handler.onOversizeRequest(stream, fin);
      return;
    }
    const message = this.#shapes.match(list) ?? this.#readRequest(stream, list);
    if (message === undefined || !this.#expectBody(stream, message.contentLength, fin)) return;
    this.#handler.onRequest(stream, list, message, fin);
  }

  // ---- what comes on a stream that there is --------------------------------------------------------

  #onMore(stream: Stream, list: HeaderList, fin: boolean): void {
    if (stream.remoteClosed) {
      this.#fail(stream, ErrorCode.STREAM_CLOSED, 'HEADERS after END_STREAM');
    } else if (list.oversize) {
      const message = 'header list above our limit';
      this.#streams.fail(stream, new StreamError(ErrorCode.ENHANCE_YOUR_CALM, message, 'header-list'));
    } else if (stream.headersReceived) this.#onTrailers(stream, list, fin);
    else this.#onResponse(stream, list, fin);
  }

  #onTrailers(stream: Stream, list: HeaderList, fin: boolean): void {
    if (!fin) {
      this.#fail(stream, ErrorCode.PROTOCOL_ERROR, 'trailers without END_STREAM');
      return;
    }
    const message = this.#read(stream, list, 'trailers');
    if (message === undefined || !this.#countBody(stream, 0, true)) return;
    stream.endRemote();
    stream.handler.onTrailers(stream, list, message);
    this.#streams.endRemote(stream);
  }

  #onResponse(stream: Stream, list: HeaderList, fin: boolean): void {
    const message = this.#read(stream, list, 'response');
    if (message === undefined) return;
    const { status } = message;
    if (status < 200) {
      const most = this.#limits.interimResponses;
      if (fin) this.#fail(stream, ErrorCode.PROTOCOL_ERROR, 'an interim response ends the stream');
      else if (stream.countInterim() > most) {
        const message = `more than ${most} interim responses`;
        this.#streams.fail(stream, new StreamError(ErrorCode.PROTOCOL_ERROR, message, 'interim'));
      } else stream.handler.onHeaders(stream, list, message, false);
      return;
    }
    stream.receivedHeaders();
    // These have no body, whatever length they tell (section 8.1.1).
    if (stream.bodyless || status === 204 || status === 304) stream.expectBody(0);
    else if (!this.#expectBody(stream, message.contentLength, fin)) return;
    if (fin) stream.endRemote();
    stream.handler.onHeaders(stream, list, message, fin);
    if (fin) this.#streams.endRemote(stream);
  }

  #readRequest(stream: Stream, list: HeaderList): Message | undefined {
    const isNew = list.derived === null;
    const message = this.#read(stream, list, 'request');
    if (message !== undefined && isNew) this.#shapes.note(list, message);
    return message;
  }

  /** Undefined if the list is malformed: then the stream has ended. */
  #read(stream: Stream, list: HeaderList, kind: MessageKind): Message | undefined {
    try {
      return readMessage(list, kind);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#streams.fail(stream, error);
      return undefined;
    }
  }

  #expectBody(stream: Stream, contentLength: number, fin: boolean): boolean {
    if (contentLength >= 0) stream.expectBody(contentLength);
    return !fin || this.#countBody(stream, 0, true);
  }

  /** Holds a body against its content-length (section 8.1.1); false after a stream error. */
  #countBody(stream: Stream, octets: number, last: boolean): boolean {
    if (stream.countBody(octets, last)) return true;
    this.#fail(stream, ErrorCode.PROTOCOL_ERROR, 'body unlike its content-length');
    return false;
  }

  #fail(stream: Stream, code: number, message: string): void {
    this.#streams.fail(stream, new StreamError(code, message));
  }
}
