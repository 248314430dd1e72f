/**
 * One HTTP/2 connection (RFC 9113), either role: octets in by `receive`, octets out through a ByteSink. No
 * sockets and no timers here: the owner calls `flush` once a turn when `schedule` asked for it, `drained` when
 * the sink has room again, `sweep` about once a second, and ends the transport on `onEnd`.
 *
 * The parts, in the order of a frame's way: FrameReader cuts octets into frames, Receiver and HeaderReceiver
 * read them, Streams and ReceiveWindow keep the books, Sender writes into the Outbox. Guard counts abuse, Goaway
 * knows how far the end has come. This file puts them together and is what owners, and Stream, use.
 */
import { Encoder } from '../hpack/encoder.ts';
import { HpackError } from '../hpack/errors.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import type { ChunkQueue } from './chunkqueue.ts';
import { ConnectionError, ErrorCode, type FloodKind } from './errors.ts';
import { PREFACE, writeSettings, writeWindowUpdate } from './frame.ts';
import { Goaway } from './goaway.ts';
import { Guard } from './guard.ts';
import { HeaderReceiver } from './headerreceiver.ts';
import type { ConnectionHandler, ConnectionLimits, ConnectionOptions, FrameLog, Role } from './options.ts';
import { Outbox } from './outbox.ts';
import { Receiver } from './receiver.ts';
import { ReceiveWindow } from './receivewindow.ts';
import { ResetPacer } from './resetpacer.ts';
import { Sender } from './sender.ts';
import { DEFAULT_WINDOW, initialSettings, type Settings, settingPairs } from './settings.ts';
import type { Stream, StreamHandler } from './stream.ts';
import { Streams } from './streams.ts';

export type { ConnectionHandler, ConnectionLimits, ConnectionOptions, FrameLog } from './options.ts';

/** The debug data by which gRPC clients know that they must send PINGs less often (gRPC proposal A8). */
const TOO_MANY_PINGS = 'too_many_pings';

export class Connection {
  readonly role: Role;
  readonly #handler: ConnectionHandler;
  readonly #monotonic: () => number;
  readonly #limits: ConnectionLimits;
  readonly #out: Outbox;
  readonly #guard: Guard;
  readonly #sender: Sender;
  readonly #window: ReceiveWindow;
  readonly #streams: Streams;
  readonly #goaway: Goaway;
  readonly #headers: HeaderReceiver;
  readonly #receiver: Receiver;
  readonly #startedAt: number;
  #blocksSeen = 0;
  #headersSince: number;
  #ended = false;
  #error: ConnectionError | undefined;

  constructor(options: ConnectionOptions) {
    const { role, handler, monotonic, limits } = options;
    const local: Settings = { ...initialSettings(), ...options.settings };
    const remote = initialSettings();
    const out = new Outbox(options.sink, () => options.schedule(this));
    const guard = new Guard(limits, monotonic);
    const encoder = new Encoder({ maxTableSize: local.headerTableSize });
    const size = Math.max(options.window, DEFAULT_WINDOW);
    const window = new ReceiveWindow(out, size, local.initialWindowSize, limits);
    const sender = new Sender(out, encoder, remote, guard, monotonic, (stream) => streams.endLocal(stream));
    const streams: Streams = new Streams({
      role,
      connection: this,
      handler,
      out,
      sender,
      window,
      guard,
      pacer: new ResetPacer(limits.ownResets, monotonic),
      local,
      remote,
      firstStreamId: options.firstStreamId,
    });
    const goaway = new Goaway(role, out, streams);
    const headers = new HeaderReceiver(role, handler, streams, goaway, guard, local, limits);
    const { settingsEntries } = limits;
    this.role = role;
    this.#handler = handler;
    this.#monotonic = monotonic;
    this.#limits = limits;
    this.#out = out;
    this.#guard = guard;
    this.#sender = sender;
    this.#window = window;
    this.#streams = streams;
    this.#goaway = goaway;
    this.#headers = headers;
    this.#receiver = new Receiver({
      role,
      handler,
      headers,
      streams,
      window,
      sender,
      encoder,
      out,
      goaway,
      guard,
      local,
      remote,
      settingsEntries,
    });
    this.#startedAt = monotonic();
    this.#headersSince = this.#startedAt;
    this.#begin(local, size);
  }

  #begin(local: Settings, size: number): void {
    if (this.role === 'client') this.#out.bytes(PREFACE, 0, PREFACE.length);
    writeSettings(this.#out, settingPairs(local));
    if (size > DEFAULT_WINDOW) writeWindowUpdate(this.#out, 0, size - DEFAULT_WINDOW);
  }

  // ---- what the owner asks -------------------------------------------------------------------------

  /** Streams open in either direction. */
  get streams(): number {
    return this.#streams.size;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** What ended it; its streams hear of their end when it is set. */
  get error(): ConnectionError | undefined {
    return this.#error;
  }

  /** Either side has sent GOAWAY. */
  get draining(): boolean {
    return this.#goaway.draining;
  }

  /** Client role: a stream may be opened now. */
  get canOpen(): boolean {
    return this.#receiver.hasSettings && !this.#ended && !this.#goaway.draining && this.#streams.canOpen;
  }

  /** Client role: no stream can ever be opened here again. */
  get exhausted(): boolean {
    return this.#ended || this.#goaway.draining || this.#streams.exhausted;
  }

  /** Octets queued for the peer on all streams. */
  get queued(): number {
    return this.#sender.queued;
  }

  /** Octets written since the sink last drained, although it asked to hold back: headers and control frames. */
  get backlog(): number {
    return this.#out.backlog;
  }

  /** Octets received that have not been passed on. */
  get held(): number {
    return this.#window.held;
  }

  /** Who hears of every frame from now on, if anybody; setting it changes nothing else. */
  set frameLog(log: FrameLog | undefined) {
    this.#receiver.frameLog = log;
    this.#out.frameLog = log;
  }

  // ---- octets in -----------------------------------------------------------------------------------

  /** Takes octets from the transport; they are read before it returns. Never throws. */
  receive(chunk: Buffer): void {
    if (this.#ended) return;
    try {
      this.#receiver.read(chunk);
    } catch (error) {
      this.#failWith(error);
      return;
    }
    if (this.#guard.overloaded) this.fail(this.#guard.overload());
  }

  // ---- octets out ----------------------------------------------------------------------------------

  /**
   * Opens a stream (client role; only while `canOpen`). `body` holds octets that came before; if `fin`, they
   * end the stream.
   */
  open(list: HeaderList, fin: boolean, handler: StreamHandler, body?: ChunkQueue): Stream {
    const stream = this.#streams.open(handler);
    if (list.get(':method') === 'HEAD') stream.expectBody(0);
    if (body === undefined || body.length === 0) {
      this.#sender.sendHeaders(stream, list, fin);
      return stream;
    }
    this.#sender.sendHeaders(stream, list, false);
    this.#sender.adopt(stream, body, fin);
    return stream;
  }

  /** For Stream, like the next four. */
  sendHeaders(stream: Stream, list: HeaderList, fin: boolean): void {
    this.#sender.sendHeaders(stream, list, fin);
  }

  sendTrailers(stream: Stream, list: HeaderList): void {
    this.#sender.sendTrailers(stream, list);
  }

  sendData(stream: Stream, buf: Uint8Array, start: number, end: number, fin: boolean): number {
    return this.#sender.sendData(stream, buf, start, end, fin);
  }

  credit(stream: Stream, octets: number): void {
    this.#window.credit(stream, octets);
  }

  resetStream(stream: Stream, code: number): void {
    this.#streams.reset(stream, code);
  }

  /** Writes what this turn gathered. Never throws. */
  flush(): void {
    if (this.#ended) return;
    const out = this.#out;
    try {
      this.#sender.pump();
    } catch (error) {
      this.#failWith(error);
      return;
    }
    out.flush();
    if (this.#ended) return;
    if (this.#guard.overloaded || out.backlog > this.#limits.queueBytes) {
      this.fail(this.#guard.overload());
      return;
    }
    out.endTurn();
    if (this.#goaway.final && this.#streams.size === 0) this.#finish(undefined);
    else if (this.#sender.canPump) out.touch();
  }

  /** Hands over what is gathered, as if the buffer was full; `flush` is still to come. */
  handOver(): void {
    this.#out.flush();
  }

  /** The sink has room again. */
  drained(): void {
    if (this.#ended) return;
    this.#out.drained();
    this.#guard.drained();
    if (this.#sender.canPump) this.#out.touch();
  }

  // ---- the end -------------------------------------------------------------------------------------

  /**
   * Begins a graceful end (section 6.8): GOAWAY with the highest identifier, then, when the PING behind it
   * has come back, GOAWAY with the last stream taken. The connection ends with its last stream.
   */
  drain(debug: string): void {
    if (!this.#ended) this.#goaway.drain(debug);
  }

  /** The second step of `drain`, also for an owner whose peer does not answer the PING in time. */
  finishDrain(): void {
    if (!this.#ended) this.#goaway.finish();
  }

  #failWith(cause: unknown): void {
    if (cause instanceof ConnectionError) this.fail(cause);
    else if (cause instanceof HpackError) {
      this.fail(new ConnectionError(ErrorCode.COMPRESSION_ERROR, cause.message, { cause }));
    } else {
      this.fail(new ConnectionError(ErrorCode.INTERNAL_ERROR, 'internal error', { side: 'local', cause }));
    }
  }

  /** Ends the connection with GOAWAY; nothing is sent after it. */
  fail(error: ConnectionError): void {
    if (this.#ended) return;
    this.#goaway.fatal(error.code, error.kind === 'ping' ? TOO_MANY_PINGS : error.message);
    this.#out.flush();
    this.#finish(error);
  }

  /** Ends at once and orderly: GOAWAY without an error, `debug` saying why. Owners of streams hear of it before. */
  shutDown(debug = 'shutdown'): void {
    if (this.#ended) return;
    this.#streams.shutDown();
    if (this.#ended) return;
    this.#goaway.fatal(ErrorCode.NO_ERROR, debug);
    this.#out.flush();
    this.#finish(undefined);
  }

  /** The transport is gone: streams end, nothing is written. */
  transportClosed(): void {
    this.#finish(undefined);
  }

  #finish(error: ConnectionError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#out.close();
    this.#streams.endAll(error);
    this.#handler.onEnd(error);
  }

  /** Holds the time limits; the owner calls it about once a second. */
  sweep(): void {
    if (this.#ended) return;
    this.#streams.pace();
    const now = this.#monotonic();
    const { prefaceMs, settingsMs, headerBlockMs, stallMs, queueBytes } = this.#limits;
    const age = now - this.#startedAt;
    const receiver = this.#receiver;
    if (!receiver.hasPreface) {
      if (age >= prefaceMs) this.#tooSlow('slow-preface', ErrorCode.PROTOCOL_ERROR, 'no preface', prefaceMs);
    } else if (!(receiver.hasSettings && receiver.settingsAcknowledged) && age >= settingsMs) {
      this.#tooSlow('slow-settings', ErrorCode.SETTINGS_TIMEOUT, 'no SETTINGS or no ACK of ours', settingsMs);
    } else if (now - this.#headersBegan(now) >= headerBlockMs) {
      const what = 'header block incomplete';
      this.#tooSlow('slow-headers', ErrorCode.ENHANCE_YOUR_CALM, what, headerBlockMs);
    } else {
      this.#streams.resetStalled(now, stallMs, queueBytes);
      this.#window.relax();
    }
  }

  /** When a sweep first saw the header block that is not complete; `now` if there is none. */
  #headersBegan(now: number): number {
    const { blocks } = this.#headers;
    if (!this.#receiver.inHeaders || blocks !== this.#blocksSeen) this.#headersSince = now;
    this.#blocksSeen = blocks;
    return this.#headersSince;
  }

  #tooSlow(kind: FloodKind, code: number, what: string, ms: number): void {
    this.fail(new ConnectionError(code, `${what} after ${ms} ms`, { kind }));
  }

  /** For logs: the role and how many streams. */
  toString(): string {
    return `http2 ${this.role}, ${this.#streams.size} streams${this.#ended ? ', ended' : ''}`;
  }
}
