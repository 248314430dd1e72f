import type { Connection } from './connection.ts';
import { ConnectionError, ErrorCode, StreamError } from './errors.ts';
import { writeRstStream } from './frame.ts';
import type { Guard } from './guard.ts';
import type { ConnectionHandler, Role } from './options.ts';
import type { Outbox } from './outbox.ts';
import type { ReceiveWindow } from './receivewindow.ts';
import { ResetMemory } from './resetmemory.ts';
import type { ResetPacer } from './resetpacer.ts';
import type { Sender } from './sender.ts';
import type { Settings } from './settings.ts';
import { type ResetOrigin, Stream, type StreamHandler } from './stream.ts';
import { StreamTable } from './streamtable.ts';

export const MAX_STREAM_ID = 2 ** 31 - 1;

/** Stands in until the owner of a request has set its own. */
const NO_HANDLER: StreamHandler = {
  onHeaders() {},
  onTrailers() {},
  onData() {},
  onTaken() {},
  onReset() {},
};

const TOO_MANY = new StreamError(ErrorCode.REFUSED_STREAM, 'more streams than we take', 'streams');
const STALLED = new StreamError(
  ErrorCode.CANCEL,
  'no progress while the queue of its connection is full',
  'stalled',
);

export interface StreamsOptions {
  readonly role: Role;
  readonly connection: Connection;
  readonly handler: ConnectionHandler;
  readonly out: Outbox;
  readonly sender: Sender;
  readonly window: ReceiveWindow;
  readonly guard: Guard;
  readonly pacer: ResetPacer;
  readonly local: Readonly<Settings>;
  readonly remote: Readonly<Settings>;
  /** Client role: the identifier of its first stream. */
  readonly firstStreamId: number | undefined;
}

/** The streams of a connection: their identifiers, and how they begin and end (RFC 9113 section 5.1). */
export class Streams {
  readonly #options: StreamsOptions;
  readonly #out: Outbox;
  readonly #sender: Sender;
  readonly #window: ReceiveWindow;
  readonly #pacer: ResetPacer;
  readonly #isClient: boolean;
  readonly #ownParity: 0 | 1;
  readonly #table = new StreamTable();
  readonly #resets = new ResetMemory();
  #nextId: number;
  #lastPeerId = 0; // highest stream the peer has opened
  #gapFrom = 0; // newest range of identifiers that the peer has left out; of older ones we say closed
  #gapTo = 0;
  #ownStreams = 0;
  #peerStreams = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
    this.#out = options.out;
    this.#sender = options.sender;
    this.#window = options.window;
    this.#pacer = options.pacer;
    this.#isClient = options.role === 'client';
    this.#ownParity = this.#isClient ? 1 : 0;
    this.#nextId = options.firstStreamId ?? (this.#isClient ? 1 : 2);
  }

  get size(): number {
    return this.#table.size;
  }

  /** The highest stream that the peer has opened. */
  get lastPeerId(): number {
    return this.#lastPeerId;
  }

  /** It is time for another connection: all identifiers of ours are used up, or too many of our resets wait. */
  get exhausted(): boolean {
    return this.#nextId > MAX_STREAM_ID || this.#pacer.behind;
  }

  /** The peer's SETTINGS_MAX_CONCURRENT_STREAMS and the identifiers let us open one more. */
  get canOpen(): boolean {
    return this.#ownStreams < this.#options.remote.maxConcurrentStreams && !this.exhausted;
  }

  find(streamId: number): Stream | undefined {
    return this.#table.get(streamId);
  }

  /** The stream has not been opened yet (section 5.1.1). */
  isIdle(streamId: number): boolean {
    return this.#isOwn(streamId) ? streamId >= this.#nextId : streamId > this.#lastPeerId;
  }

  /**
   * DATA or HEADERS came for a stream that has no object, being idle or closed. Returns if that may happen: the
   * peer had not yet seen our reset, or our GOAWAY.
   */
  checkClosed(streamId: number, frame: 'DATA' | 'HEADERS', octets: number, fin: boolean): void {
    if (this.isIdle(streamId)) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `${frame} on idle stream ${streamId}`);
    }
    if (this.#resets.has(streamId)) {
      if (frame === 'HEADERS') this.#options.guard.lateFrame();
      else if (!this.#resets.accept(streamId, octets)) {
        throw new ConnectionError(
          ErrorCode.FLOW_CONTROL_ERROR,
          `DATA beyond the window of stream ${streamId}, which was reset`,
        );
      }
      if (fin && this.#pacer.peerEnded(streamId)) this.#settled(1);
      return;
    }
    if (streamId >= this.#gapFrom && streamId <= this.#gapTo && !this.#isOwn(streamId)) {
      // Section 5.1.1: it was left out when a higher one was opened.
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `${frame} on stream ${streamId}, out of order`);
    }
    throw new ConnectionError(ErrorCode.STREAM_CLOSED, `${frame} on closed stream ${streamId}`);
  }

  #isOwn(streamId: number): boolean {
    return (streamId & 1) === this.#ownParity;
  }

  // ---- the beginning -------------------------------------------------------------------------------

  open(handler: StreamHandler): Stream {
    const stream = this.#create(this.#nextId, handler, false);
    this.#options.guard.streamOpened();
    this.#nextId += 2;
    this.#ownStreams++;
    return stream;
  }

  /** Notes that the peer has opened this stream and, by that, all idle ones below. */
  notePeerId(streamId: number): void {
    if (streamId > this.#lastPeerId + 2) {
      this.#gapFrom = this.#lastPeerId + 1;
      this.#gapTo = streamId - 1;
    }
    this.#lastPeerId = streamId;
    this.#options.guard.streamOpened();
  }

  /** The peer's stream is not looked at: it came after our GOAWAY (section 6.8). */
  ignore(streamId: number): void {
    this.#resets.add(streamId, this.#options.local.initialWindowSize);
    // Only a peer that has not seen our GOAWAY does so, and not for long.
    this.#options.guard.provokedReset();
  }

  /** A stream for a request; undefined if there are too many, and it has been refused (section 5.1.2). */
  accept(streamId: number): Stream | undefined {
    if (this.#peerStreams < this.#options.local.maxConcurrentStreams) {
      this.#peerStreams++;
      return this.#create(streamId, NO_HANDLER, true);
    }
    this.#writeReset(streamId, ErrorCode.REFUSED_STREAM, this.#options.local.initialWindowSize);
    this.#options.handler.onStreamError(streamId, TOO_MANY);
    this.#options.guard.provokedReset();
    return undefined;
  }

  #create(streamId: number, handler: StreamHandler, headersReceived: boolean): Stream {
    const { connection, remote } = this.#options;
    const stream = new Stream(
      connection,
      streamId,
      handler,
      remote.initialWindowSize,
      this.#window.initial,
      headersReceived,
    );
    this.#table.add(stream);
    this.#window.opened(stream);
    return stream;
  }

  // ---- the end, by END_STREAM ----------------------------------------------------------------------

  /** We have sent END_STREAM. */
  endLocal(stream: Stream): void {
    if (stream.closed) return;
    stream.endLocal();
    if (stream.remoteClosed) this.#complete(stream);
    // The answer is complete: the rest of the request is not wanted (section 8.1).
    else if (!this.#isClient) this.reset(stream, ErrorCode.NO_ERROR);
  }

  /** The peer has sent END_STREAM, and the owner has heard of it. */
  endRemote(stream: Stream): void {
    if (!stream.closed && stream.localClosed) this.#complete(stream);
  }

  #complete(stream: Stream): void {
    this.#remove(stream);
    this.#window.ended(stream);
    this.#afterRemove(stream);
  }

  // ---- the end, before its time --------------------------------------------------------------------

  /** Ends a stream with RST_STREAM. Of one that is over, it gives up what is held. */
  reset(stream: Stream, code: number): void {
    if (stream.closed) {
      this.#window.abandon(stream);
      return;
    }
    if (this.#isClient && !this.#pacer.take()) {
      this.#pacer.wait(stream.id, code, stream.localClosed);
      this.#remember(stream.id, stream.receiveWindow);
      this.#ownStreams++; // the peer still counts it
    } else this.#writeReset(stream.id, code, stream.receiveWindow);
    this.#cut(stream);
  }

  /** Sends resets that had to wait and need wait no longer. */
  pace(): void {
    this.#settled(this.#pacer.release((streamId, code) => writeRstStream(this.#out, streamId, code)));
  }

  /** Streams whose reset had waited are over at the peer, too. */
  #settled(streams: number): void {
    if (streams === 0) return;
    this.#ownStreams -= streams;
    this.#options.handler.onRoom();
  }

  #remember(streamId: number, window: number): void {
    this.#resets.add(streamId, Math.max(window, this.#options.local.initialWindowSize));
  }

  /** `window`: what the peer may have sent on it by now. */
  #writeReset(streamId: number, code: number, window: number): void {
    this.#remember(streamId, window);
    writeRstStream(this.#out, streamId, code);
    // A client's resets are of its own streams: no peer can make it owe more of them than it has opened.
    if (!this.#isClient && !this.#out.writable) this.#options.guard.controlQueued();
  }

  /** The peer has ended it with RST_STREAM. */
  resetByPeer(stream: Stream, code: number): void {
    this.#cut(stream);
    const refused = this.#isClient && code === ErrorCode.REFUSED_STREAM;
    stream.handler.onReset(stream, code, refused ? 'refused' : 'remote');
    // Counted when the owner has heard of it, limit or not.
    if (!this.#isClient && !stream.excused) this.#options.guard.peerReset();
  }

  /** RST_STREAM came for a stream that is over. */
  resetLate(streamId: number): void {
    this.#options.guard.lateFrame();
    if (this.#pacer.peerReset(streamId)) this.#settled(1);
  }

  /** The peer broke a rule of this stream. */
  fail(stream: Stream, error: StreamError): void {
    this.#resetFor(stream, error, error.kind === 'header-list' ? 'oversize' : 'local');
    this.#options.guard.provokedReset();
  }

  #resetFor(stream: Stream, error: StreamError, origin: ResetOrigin): void {
    this.reset(stream, error.code);
    stream.handler.onReset(stream, error.code, origin);
    // Its owner may have ended the connection.
    if (!this.#out.closed) this.#options.handler.onStreamError(stream.id, error);
  }

  /** The peer's GOAWAY says that it has not looked at our streams above `last`, and will not. */
  refuseAbove(last: number): void {
    this.#settled(this.#pacer.peerRefused(last));
    for (const stream of this.#table.list()) {
      if (stream.id <= last || stream.closed || !this.#isOwn(stream.id)) continue;
      this.#cut(stream);
      stream.handler.onReset(stream, ErrorCode.REFUSED_STREAM, 'refused');
    }
  }

  /** Ends streams that have made no progress for `stallMs` while too much waits on this connection. */
  resetStalled(now: number, stallMs: number, queueBytes: number): void {
    const stalled = this.#window.stalled(() => this.#table.list(), now, stallMs);
    if (this.#sender.queued > queueBytes) {
      for (const stream of this.#table.list()) {
        if (stream.queued > 0 && stream.progressAt <= now - stallMs) stalled.push(stream);
      }
    }
    for (const stream of new Set(stalled)) {
      if (!stream.closed || stream.held > 0) this.#resetFor(stream, STALLED, 'stalled');
    }
  }

  /** The connection will be over: the owners' last chance to answer. */
  shutDown(): void {
    for (const stream of this.#table.list()) {
      if (!stream.closed) stream.handler.onShutDown?.(stream);
    }
  }

  /** The connection is over. */
  endAll(error: ConnectionError | undefined): void {
    for (const stream of this.#table.list()) {
      if (stream.closed) continue;
      this.#cut(stream);
      stream.handler.onReset(stream, error?.code ?? ErrorCode.CANCEL, 'connection');
    }
  }

  #cut(stream: Stream): void {
    if (stream.closed) return;
    this.#remove(stream);
    this.#window.ended(stream);
    this.#window.abandon(stream);
    const dropped = this.#sender.drop(stream);
    if (dropped > 0) stream.handler.onTaken(stream, dropped);
    this.#afterRemove(stream);
  }

  #remove(stream: Stream): void {
    stream.close();
    this.#table.delete(stream.id);
    if (this.#isOwn(stream.id)) this.#ownStreams--;
    else this.#peerStreams--;
    // A connection that drains ends with its last stream.
    if (this.#table.size === 0) this.#out.touch();
  }

  #afterRemove(stream: Stream): void {
    if (this.#isClient && this.#isOwn(stream.id) && !this.#out.closed) this.#options.handler.onRoom();
  }

  /** The peer has acknowledged SETTINGS of ours; false if there were none to acknowledge. */
  acknowledged(): boolean {
    return this.#window.acknowledged(() => this.#table.list());
  }

  /**
   * A changed SETTINGS_INITIAL_WINDOW_SIZE moves the window of every stream, also below zero (section 6.9.2).
   * False if one leaves its range.
   */
  moveSendWindows(octets: number): boolean {
    for (const stream of this.#table.list()) {
      if (!stream.moveSendWindow(octets)) return false;
      this.#sender.wake(stream);
    }
    return true;
  }
}
