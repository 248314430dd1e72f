import type { HeaderList } from '../hpack/headerlist.ts';
import { ChunkQueue } from './chunkqueue.ts';
import type { Connection } from './connection.ts';
import type { Message } from './message.ts';

/**
 * Who ended a stream before its time.
 * `remote`: the peer sent RST_STREAM. `local`: the peer broke a rule of this stream and we reset it.
 * `connection`: the connection went away. `refused`: the peer surely did not process it (REFUSED_STREAM, or
 * an identifier above GOAWAY's last), so that it may be tried elsewhere.
 */
export type ResetOrigin = 'remote' | 'local' | 'connection' | 'refused';

/** What the owner of a stream hears of it. The octets of onData are valid until it returns. */
export interface StreamHandler {
  /** A response's headers; `fin` ends the peer's side (trailers-only). 1xx come here too, never with fin. */
  onHeaders(stream: Stream, list: HeaderList, message: Message, fin: boolean): void;
  onTrailers(stream: Stream, list: HeaderList, message: Message): void;
  /**
   * DATA without its padding. The owner returns stream credit with `stream.credit(n)` once the octets have
   * gone on; connection credit is returned by the connection itself.
   */
  onData(stream: Stream, buf: Buffer, start: number, end: number, fin: boolean): void;
  /** `n` octets that `send` had queued have been written. */
  onTaken(stream: Stream, n: number): void;
  /** The stream is over before both sides have ended it. Nothing comes after. */
  onReset(stream: Stream, code: number, origin: ResetOrigin): void;
}

/**
 * One HTTP/2 stream (RFC 9113 section 5.1), which Connection drives.
 *
 *        open ──END_STREAM from the peer──▶ half-closed (remote) ──our END_STREAM──▶ closed
 *          └────our END_STREAM───▶ half-closed (local) ──END_STREAM from the peer──▶ closed
 *          RST_STREAM from either side closes at once. Idle and reserved streams have no object.
 *
 * Fields below are the connection's to write; owners use the methods.
 */
export class Stream {
  readonly connection: Connection;
  readonly id: number;
  handler: StreamHandler;

  /** Octets that the peer lets us send; negative after it shrank its window (section 6.9.2). */
  sendWindow: number;
  /** Octets that the peer may still send. */
  receiveWindow: number;
  /** What `receiveWindow` is filled up to; doubles while the far side drains. */
  receiveSize: number;
  /** Octets passed on by the owner and not yet given back in a WINDOW_UPDATE. */
  unreturned = 0;
  /** Octets received that the owner has not yet passed on. */
  held = 0;

  /** The peer has sent END_STREAM. */
  remoteClosed = false;
  /** We have sent END_STREAM. */
  localClosed = false;
  /** Nothing more goes either way. */
  closed = false;
  /** The peer's (final) headers have come. */
  headersReceived = false;
  /** Octets of body still to come by content-length, or -1. */
  bodyLeft = -1;

  /** DATA that waits for a window or for the sink. */
  queue: ChunkQueue | undefined;
  /** END_STREAM goes out behind the queue. */
  finQueued = false;
  /** Trailers go out behind the queue. */
  trailersQueued: HeaderList | undefined;
  /** The stream stands in the connection's list of those that can send. */
  ready = false;
  /** Monotonic ms of the last octet sent, for streams that have some queued. */
  progressAt = 0;

  constructor(
    connection: Connection,
    id: number,
    handler: StreamHandler,
    sendWindow: number,
    receive: number,
  ) {
    this.connection = connection;
    this.id = id;
    this.handler = handler;
    this.sendWindow = sendWindow;
    this.receiveWindow = receive;
    this.receiveSize = receive;
  }

  /** Octets queued and not yet written. */
  get queued(): number {
    return this.queue === undefined ? 0 : this.queue.length;
  }

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
   * were written; `onTaken` tells of the others later.
   */
  send(buf: Uint8Array, start: number, end: number, fin: boolean): number {
    return this.connection.sendData(this, buf, start, end, fin);
  }

  /** The owner has passed on `n` octets of this stream: the peer may send as many more. */
  credit(n: number): void {
    this.connection.credit(this, n);
  }

  /** Ends the stream with RST_STREAM; what was queued is dropped. The handler hears no more. */
  reset(code: number): void {
    this.connection.resetStream(this, code);
  }

  enqueue(buf: Uint8Array, start: number, end: number): void {
    this.queue ??= new ChunkQueue();
    this.queue.push(buf, start, end);
  }
}
