import type { HeaderList } from '../hpack/headerlist.ts';
import { ChunkQueue } from './chunkqueue.ts';
import type { Connection } from './connection.ts';
import type { Message } from './message.ts';
import { MAX_WINDOW } from './settings.ts';

/**
 * Who ended a stream before its time.
 * `remote`: the peer sent RST_STREAM. `local`: the peer broke a rule of this stream and we reset it; `oversize`: that
 * one, by a header list above our limit. `stalled`:
 * octets waited for too long while the connection was full, and we reset it. `connection`: the connection went
 * away. `refused`: the peer surely did not process it (REFUSED_STREAM, or an identifier above GOAWAY's last), so
 * that it may be tried elsewhere.
 */
export type ResetOrigin = 'remote' | 'local' | 'oversize' | 'stalled' | 'connection' | 'refused';

/** What the owner of a stream hears of it. The octets of onData are valid until it returns. */
export interface StreamHandler {
  /** A response's headers; `fin` ends the peer's side (trailers-only). 1xx come here too, never with fin. */
  onHeaders(stream: Stream, list: HeaderList, message: Message, fin: boolean): void;
  onTrailers(stream: Stream, list: HeaderList, message: Message): void;
  /**
   * DATA without its padding. The owner returns stream credit with `stream.credit(n)` once the octets have
   * gone on, also after the stream has ended; connection credit is returned by the connection itself.
   */
  onData(stream: Stream, buf: Buffer, start: number, end: number, fin: boolean): void;
  /** `n` octets that `send` had queued have been written, or dropped with the stream: they are held no longer. */
  onTaken(stream: Stream, n: number): void;
  /** We are about to end the connection: what is answered now still goes out. onReset follows if the stream is open. */
  onShutDown?(stream: Stream): void;
  /**
   * The stream is over before both sides have ended it; or, if it had ended, `stalled` asks the owner to give up
   * what has not been passed on. Nothing comes after.
   */
  onReset(stream: Stream, code: number, origin: ResetOrigin): void;
}

/**
 * One HTTP/2 stream (RFC 9113 section 5.1). Owners use the methods of the first part; the rest is the books that
 * the parts of a connection keep here: Streams its state, Sender and ReceiveWindow its flow control.
 *
 *        open ──END_STREAM from the peer──▶ half-closed (remote) ──our END_STREAM──▶ closed
 *          └────our END_STREAM───▶ half-closed (local) ──END_STREAM from the peer──▶ closed
 *          RST_STREAM from either side closes at once. Idle and reserved streams have no object.
 */
export class Stream {
  readonly connection: Connection;
  readonly id: number;
  handler: StreamHandler;

  #remoteClosed = false;
  #localClosed = false;
  #closed = false;
  #headersReceived: boolean;
  #interim = 0;
  #bodyLeft = -1; // octets of body still to come by content-length, or -1
  #sendWindow: number;
  #receiveWindow: number;
  #receiveSize: number; // what the window is filled up to
  #unreturned = 0;
  #held = 0;
  #passedOn = 0;
  #queue: ChunkQueue | undefined;
  #finQueued = false;
  #trailersQueued: HeaderList | undefined;
  #progressAt = 0;
  #waiting = false;
  #excused = false;

  /** `headersReceived`: it begins with the peer's headers, being the peer's request. */
  constructor(
    connection: Connection,
    id: number,
    handler: StreamHandler,
    sendWindow: number,
    receiveWindow: number,
    headersReceived: boolean,
  ) {
    this.connection = connection;
    this.id = id;
    this.handler = handler;
    this.#sendWindow = sendWindow;
    this.#receiveWindow = receiveWindow;
    this.#receiveSize = receiveWindow;
    this.#headersReceived = headersReceived;
  }

  // ---- for the owner -------------------------------------------------------------------------------

  /** Sends headers; `fin` ends our side. Only before any data. */
  sendHeaders(list: HeaderList, fin: boolean): void {
    this.connection.sendHeaders(this, list, fin);
  }

  /** Sends trailers, behind the data that is queued; ends our side. */
  sendTrailers(list: HeaderList): void {
    this.connection.sendTrailers(this, list);
  }

  /**
   * Sends the octets [start, end) of `buf`, which are written or copied before it returns. Returns how many
   * are done with (written, or dropped because our side has ended); `onTaken` tells of the others later.
   */
  send(buf: Uint8Array, start: number, end: number, fin: boolean): number {
    return this.connection.sendData(this, buf, start, end, fin);
  }

  /** The owner has passed on `n` octets of this stream: the peer may send as many more. */
  credit(n: number): void {
    this.connection.credit(this, n);
  }

  /**
   * Ends the stream with RST_STREAM; what was queued is dropped. The handler hears no more but of that, by
   * onTaken. On a stream that has ended it only gives up what has not been passed on.
   */
  reset(code: number): void {
    this.connection.resetStream(this, code);
  }

  /** In onReset: the peer had a reason to reset it, so that it is not counted as abuse. */
  excuse(): void {
    this.#excused = true;
  }

  get excused(): boolean {
    return this.#excused;
  }

  /** Octets queued and not yet written. */
  get queued(): number {
    return this.#queue === undefined ? 0 : this.#queue.length;
  }

  // ---- state, which Streams moves ------------------------------------------------------------------

  /** The peer has sent END_STREAM. */
  get remoteClosed(): boolean {
    return this.#remoteClosed;
  }

  /** We have sent END_STREAM. */
  get localClosed(): boolean {
    return this.#localClosed;
  }

  /** Nothing more goes either way. */
  get closed(): boolean {
    return this.#closed;
  }

  endRemote(): void {
    this.#remoteClosed = true;
  }

  endLocal(): void {
    this.#localClosed = true;
  }

  close(): void {
    this.#closed = true;
    this.#localClosed = true;
    this.#remoteClosed = true;
  }

  /** The peer's request, or its final response, has come. */
  get headersReceived(): boolean {
    return this.#headersReceived;
  }

  receivedHeaders(): void {
    this.#headersReceived = true;
  }

  /** Counts an interim response and says how many there were. */
  countInterim(): number {
    return ++this.#interim;
  }

  /** The message has a body of just so many octets (section 8.1.1). */
  expectBody(octets: number): void {
    this.#bodyLeft = octets;
  }

  /** The message has no body: it answers HEAD. */
  get bodyless(): boolean {
    return this.#bodyLeft === 0;
  }

  /** Counts octets of body; false if there are more or fewer than were to be expected. */
  countBody(octets: number, last: boolean): boolean {
    if (this.#bodyLeft < 0) return true;
    this.#bodyLeft -= octets;
    return last ? this.#bodyLeft === 0 : this.#bodyLeft >= 0;
  }

  // ---- receiving, which ReceiveWindow counts -------------------------------------------------------

  /** DATA of `octets` has come; false if that is beyond the window. */
  accept(octets: number): boolean {
    this.#receiveWindow -= octets;
    return this.#receiveWindow >= 0;
  }

  /** What the peer may still send. */
  get receiveWindow(): number {
    return this.#receiveWindow;
  }

  /** What the window is filled up to. */
  get receiveSize(): number {
    return this.#receiveSize;
  }

  /** SETTINGS have moved the windows of all streams (section 6.9.2); this one may be below zero now. */
  moveReceiveWindow(octets: number): void {
    this.#receiveWindow += octets;
    this.#receiveSize += octets;
  }

  /** Octets received that the owner has not yet passed on. */
  get held(): number {
    return this.#held;
  }

  /** Octets passed on so far. */
  get passedOn(): number {
    return this.#passedOn;
  }

  hold(octets: number): void {
    this.#held += octets;
  }

  /** Returns how many of `octets` were held until now. */
  release(octets: number): number {
    const released = Math.min(octets, this.#held);
    this.#held -= released;
    this.#passedOn += released;
    return released;
  }

  /** Owes the peer `octets` of credit more; true if it is time to pay. */
  owe(octets: number): boolean {
    this.#unreturned += octets;
    return !this.#remoteClosed && this.#unreturned * 2 >= this.#receiveSize;
  }

  /** Pays what is owed, and more if the window is to be larger than it was. */
  refill(size: number): number {
    const increment = this.#unreturned + size - this.#receiveSize;
    this.#receiveSize = size;
    this.#receiveWindow += increment;
    this.#unreturned = 0;
    return increment;
  }

  // ---- sending, which Sender does ------------------------------------------------------------------

  /** Octets that the peer lets us send; negative after it shrank its window (section 6.9.2). */
  get sendWindow(): number {
    return this.#sendWindow;
  }

  /** False if the window leaves its range. */
  moveSendWindow(octets: number): boolean {
    this.#sendWindow += octets;
    return this.#sendWindow <= MAX_WINDOW;
  }

  /** DATA that waits for a window or for the sink. */
  get queue(): ChunkQueue | undefined {
    return this.#queue;
  }

  /** Copies octets behind those that wait. */
  enqueue(buf: Uint8Array, start: number, end: number): void {
    this.#queue ??= new ChunkQueue();
    this.#queue.push(buf, start, end);
  }

  /** Takes over octets that came before the stream was opened. */
  adopt(queue: ChunkQueue): void {
    this.#queue = queue;
  }

  /** END_STREAM goes out with the last octet that waits; with trailers, behind it. */
  endQueue(trailers: HeaderList | undefined): void {
    this.#finQueued = true;
    this.#trailersQueued = trailers;
  }

  /** Our side ends with what waits. */
  get finQueued(): boolean {
    return this.#finQueued;
  }

  get trailersQueued(): HeaderList | undefined {
    return this.#trailersQueued;
  }

  /** Returns how many octets waited. */
  dropQueue(): number {
    const dropped = this.queued;
    this.#queue = undefined;
    this.#finQueued = false;
    this.#trailersQueued = undefined;
    return dropped;
  }

  /** Monotonic ms of the last octet sent, while some are queued. */
  get progressAt(): number {
    return this.#progressAt;
  }

  progress(now: number): void {
    this.#progressAt = now;
  }

  /** Stands in the Sender's list of streams that can send. */
  get waiting(): boolean {
    return this.#waiting;
  }

  setWaiting(waiting: boolean): void {
    this.#waiting = waiting;
  }
}
