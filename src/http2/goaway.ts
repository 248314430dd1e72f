import { ConnectionError, ErrorCode } from './errors.ts';
import { writeGoaway, writePing } from './frame.ts';
import type { Role } from './options.ts';
import type { Outbox } from './outbox.ts';
import { MAX_STREAM_ID, type Streams } from './streams.ts';

const DRAIN_PING = Buffer.from('hbkdrain', 'latin1');

/**
 * How a connection says that it ends, and hears it (RFC 9113 section 6.8).
 *
 *     open ──drain──▶ announced (2^31-1, and a PING) ──its ACK, or finish──▶ final (last stream taken)
 *     A client has no streams of the server's to wait for, and is final at once.
 */
export class Goaway {
  readonly #role: Role;
  readonly #out: Outbox;
  readonly #streams: Streams;
  #sent: number | undefined; // last stream named
  #received: number | undefined;

  constructor(role: Role, out: Outbox, streams: Streams) {
    this.#role = role;
    this.#out = out;
    this.#streams = streams;
  }

  /** Either side has sent one. */
  get draining(): boolean {
    return this.#sent !== undefined || this.#received !== undefined;
  }

  /** Nothing more begins on this connection: it may end with its last stream. */
  get final(): boolean {
    return this.#role === 'client' ? this.draining : this.#sent !== undefined && this.#sent !== MAX_STREAM_ID;
  }

  /** False for streams above the one that we named as the last. */
  takes(streamId: number): boolean {
    return this.#sent === undefined || streamId <= this.#sent;
  }

  /** The first step of a graceful end. */
  drain(debug: string): void {
    if (this.#sent !== undefined) return;
    if (this.#role === 'client') {
      this.#write(0, ErrorCode.NO_ERROR, debug);
      return;
    }
    this.#write(MAX_STREAM_ID, ErrorCode.NO_ERROR, debug);
    writePing(this.#out, false, DRAIN_PING, 0);
  }

  /** The second step, if the first has been taken. */
  finish(): void {
    if (this.#sent === MAX_STREAM_ID) this.#write(this.#streams.lastPeerId, ErrorCode.NO_ERROR, '');
  }

  /** An ACK with the opaque octets at buf[at] has come; false if it answers no PING of ours. */
  acknowledged(buf: Buffer, at: number): boolean {
    if (this.#sent !== MAX_STREAM_ID || buf.compare(DRAIN_PING, 0, DRAIN_PING.length, at, at + 8) !== 0) {
      return false;
    }
    this.finish();
    return true;
  }

  /** The last frame of the connection. */
  fatal(code: number, debug: string): void {
    // A later GOAWAY never names a higher stream than an earlier one did.
    this.#write(Math.min(this.#sent ?? MAX_STREAM_ID, this.#streams.lastPeerId), code, debug);
  }

  #write(lastStreamId: number, code: number, debug: string): void {
    this.#sent = lastStreamId;
    writeGoaway(this.#out, lastStreamId, code, debug);
  }

  /** The peer's GOAWAY; returns whether it names fewer streams than before. */
  received(last: number): boolean {
    const before = this.#received;
    if (before !== undefined && last > before) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'GOAWAY raises its last stream');
    }
    this.#received = last;
    return last !== before;
  }
}
