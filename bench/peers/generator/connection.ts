import { connect, type Socket } from 'node:net';
import { Decoder } from '../../../src/hpack/decoder.ts';
import type { HeaderList } from '../../../src/hpack/headerlist.ts';
import { BenchError } from '../errors.ts';
import {
  ACK,
  DATA,
  END_HEADERS,
  END_STREAM,
  FRAME_HEADER,
  frameHeader,
  GOAWAY,
  HAS_PRIORITY,
  HEADER_TABLE_SIZE,
  HEADERS,
  INITIAL_WINDOW_SIZE,
  MAX_CONCURRENT_STREAMS,
  PADDED,
  PING,
  PRIORITY,
  RST_STREAM,
  SETTINGS,
  WINDOW_UPDATE,
} from './frame.ts';
import type { RequestFrames } from './request.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const LARGEST_FRAME = 16_384; // the default, which we leave
const WINDOW = 2 ** 30;
const READ_BUFFER = Buffer.allocUnsafeSlow(65_536); // of all connections: what is read is used up at once
const HELD = READ_BUFFER.length + FRAME_HEADER + LARGEST_FRAME;
const WRITE_BUFFER = 16_384;

const DEFAULT_TABLE_SIZE = 4_096;
const DEFAULT_WINDOW = 65_535;

/** Calls that may be between the oldest in flight and the newest, for each that is to be in flight. */
const SLOTS_A_CALL = 256;
const IDLE = 0;
const SENT = 1;
const ANSWERED = 2; // with 200 and gRPC's content type
const WRONG = 3;

/** What comes of the calls of a connection; times are milliseconds of `performance.now()`. */
export interface Caller {
  /** A call ended. Right means 200, exactly the expected message and `grpc-status: 0`. */
  ended(connection: Connection, right: boolean, startedAt: number, now: number): void;
  /** The connection can do no more. */
  failed(error: Error): void;
}

export interface ConnectionOptions {
  readonly port: number;
  readonly request: RequestFrames;
  /** The whole body that every call must get. */
  readonly answer: Buffer;
  /** Calls that are expected to be in flight at a time. */
  readonly inFlight: number;
  readonly caller: Caller;
}

/** As much of an HTTP/2 client as measuring takes: plaintext, known requests, answers that are checked in full. */
export class Connection {
  readonly #socket: Socket;
  readonly #caller: Caller;
  readonly #request: RequestFrames;
  readonly #answer: Buffer;
  readonly #decoder = new Decoder();
  /** A frame's beginning until its rest comes. */
  #held: Buffer = Buffer.alloc(0);
  #heldLength = 0;

  #out: Buffer = Buffer.allocUnsafeSlow(WRITE_BUFFER);
  #outLength = 0;
  readonly #freeOut: Buffer[] = [];

  #now = 0;
  #nextStreamId = 1;
  #inFlight = 0;
  #maxInFlight = Number.POSITIVE_INFINITY;
  #sendWindow = DEFAULT_WINDOW;
  #uncredited = 0;
  readonly #waiting: Array<{ call: number; since: number }> = [];
  // By slot: what is known of a call.
  readonly #slots: number; // a power of two
  readonly #states: Uint8Array;
  readonly #startedAt: Float64Array;
  readonly #bodyLengths: Uint32Array;
  #ready: (() => void) | undefined;

  constructor({ port, request, answer, inFlight, caller }: ConnectionOptions) {
    this.#request = request;
    this.#answer = answer;
    this.#caller = caller;
    this.#slots = 2 ** Math.ceil(Math.log2(inFlight * SLOTS_A_CALL));
    this.#states = new Uint8Array(this.#slots);
    this.#startedAt = new Float64Array(this.#slots);
    this.#bodyLengths = new Uint32Array(this.#slots);
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      onread: {
        buffer: READ_BUFFER,
        callback: (length) => {
          this.#read(length);
          return true;
        },
      },
    });
    this.#socket.setNoDelay(true);
    this.#socket.once('error', (error) => this.#fail(error.message));
    this.#socket.once('close', () => this.#fail('it was closed'));
  }

  /** Resolves when the server's SETTINGS have come. */
  open(): Promise<void> {
    const settings = frameHeader(12, SETTINGS, 0);
    const entries = Buffer.alloc(12);
    entries.writeUInt16BE(0x2, 0); // SETTINGS_ENABLE_PUSH = 0
    entries.writeUInt16BE(INITIAL_WINDOW_SIZE, 6);
    entries.writeUInt32BE(WINDOW, 8);
    this.#append(PREFACE);
    this.#append(settings);
    this.#append(entries);
    this.#credit(WINDOW);
    this.flush();
    return new Promise((resolve) => {
      this.#ready = resolve;
    });
  }

  /** Ends the connection, without a word to the caller. */
  close(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }

  /** Makes a call, or lets it wait for the server's limits; `flush` sends it. `call` as in RequestFrames. */
  call(call: number, now: number): void {
    if (this.#waiting.length === 0 && this.#hasRoom()) this.#send(call, now);
    else this.#waiting.push({ call, since: now });
  }

  #slotOf(streamId: number): number {
    return (streamId >>> 1) & (this.#slots - 1);
  }

  #hasRoom(): boolean {
    return this.#inFlight < this.#maxInFlight && this.#sendWindow >= this.#request.bodyLength;
  }

  #send(call: number, since: number): void {
    const id = this.#nextStreamId;
    const slot = this.#slotOf(id);
    if (this.#states[slot] !== IDLE) {
      this.#fail(`a call outlasted ${this.#slots} that began after it`);
      return;
    }
    this.#nextStreamId = id + 2;
    this.#inFlight++;
    this.#sendWindow -= this.#request.bodyLength;
    this.#states[slot] = SENT;
    this.#startedAt[slot] = since;
    this.#bodyLengths[slot] = 0;
    if (this.#outLength + this.#request.longest > WRITE_BUFFER) this.flush();
    this.#outLength = this.#request.write(this.#out, this.#outLength, id, call);
  }

  /** Writes what has gathered. */
  flush(): void {
    if (this.#outLength === 0) return;
    const out = this.#out;
    this.#socket.write(out.subarray(0, this.#outLength), () => this.#freeOut.push(out));
    this.#out = this.#freeOut.pop() ?? Buffer.allocUnsafeSlow(WRITE_BUFFER);
    this.#outLength = 0;
  }

  #append(octets: Buffer): void {
    if (this.#outLength + octets.length > WRITE_BUFFER) this.flush();
    this.#out.set(octets, this.#outLength);
    this.#outLength += octets.length;
  }

  #credit(octets: number): void {
    const frame = Buffer.concat([frameHeader(4, WINDOW_UPDATE, 0), Buffer.alloc(4)]);
    frame.writeUInt32BE(octets, FRAME_HEADER);
    this.#append(frame);
  }

  #read(length: number): void {
    this.#now = performance.now(); // one reading for all that one read brings
    try {
      let buf: Buffer = READ_BUFFER;
      let end = length;
      if (this.#heldLength > 0) {
        buf = this.#held;
        READ_BUFFER.copy(buf, this.#heldLength, 0, length);
        end += this.#heldLength;
      }
      const used = this.#readFrames(buf, end);
      this.#heldLength = end - used;
      if (this.#heldLength > 0 && this.#held.length === 0) this.#held = Buffer.allocUnsafeSlow(HELD);
      buf.copy(this.#held, 0, used, end);
    } catch (error) {
      this.#fail((error as Error).message);
      return;
    }
    while (this.#waiting.length > 0 && this.#hasRoom()) {
      const { call, since } = this.#waiting.shift() as { call: number; since: number };
      this.#send(call, since);
    }
    this.flush();
  }

  /** Returns where the first incomplete frame begins. */
  #readFrames(buf: Buffer, end: number): number {
    let at = 0;
    while (end - at >= FRAME_HEADER) {
      const length = buf.readUIntBE(at, 3);
      if (length > LARGEST_FRAME) throw failure(`a frame of ${length} octets`);
      const next = at + FRAME_HEADER + length;
      if (next > end) break;
      const id = buf.readUInt32BE(at + 5) & 0x7fffffff;
      this.#readFrame(buf, buf[at + 3], buf[at + 4], id, at + FRAME_HEADER, next);
      at = next;
    }
    return at;
  }

  #readFrame(buf: Buffer, type: number, flags: number, id: number, start: number, end: number): void {
    switch (type) {
      case DATA:
        this.#readData(buf, flags, id, start, end);
        break;
      case HEADERS:
        this.#readHeaders(buf, flags, id, start, end);
        break;
      case RST_STREAM:
        if (this.#states[this.#slotOf(id)] !== IDLE) this.#end(this.#slotOf(id), false);
        break;
      case SETTINGS:
        if ((flags & ACK) === 0) this.#readSettings(buf, start, end);
        break;
      case PING:
        if ((flags & ACK) !== 0) break;
        this.#append(frameHeader(end - start, PING, ACK));
        this.#append(buf.subarray(start, end));
        break;
      case WINDOW_UPDATE:
        // A stream's own window holds a whole request from the start.
        if (id === 0) this.#sendWindow += buf.readUInt32BE(start) & 0x7fffffff;
        break;
      case PRIORITY:
        break;
      case GOAWAY:
        throw failure(`GOAWAY with code ${buf.readUInt32BE(start + 4)}`);
      default:
        throw failure(`an unexpected frame of type ${type}`);
    }
  }

  #readData(buf: Buffer, flags: number, id: number, start: number, end: number): void {
    this.#uncredited += end - start;
    if (this.#uncredited > WINDOW / 2) {
      this.#credit(this.#uncredited);
      this.#uncredited = 0;
    }
    const slot = this.#slotOf(id);
    if (this.#states[slot] === IDLE) return;
    const from = (flags & PADDED) === 0 ? start : start + 1;
    const to = (flags & PADDED) === 0 ? end : end - buf[start];
    const had = this.#bodyLengths[slot];
    const has = had + (to - from);
    this.#bodyLengths[slot] = has;
    if (has > this.#answer.length || this.#answer.compare(buf, from, to, had, has) !== 0) {
      this.#states[slot] = WRONG;
    }
    if ((flags & END_STREAM) !== 0) this.#end(slot, false);
  }

  #readHeaders(buf: Buffer, flags: number, id: number, start: number, end: number): void {
    if ((flags & END_HEADERS) === 0) throw failure('an answer with CONTINUATION');
    let from = start;
    let to = end;
    if ((flags & PADDED) !== 0) to -= buf[from++];
    if ((flags & HAS_PRIORITY) !== 0) from += 5;
    const list = this.#decoder.decode(buf, from, to);
    const slot = this.#slotOf(id);
    const state = this.#states[slot];
    if (state === IDLE) return;
    list.derived ??= meaningOf(list);
    if ((flags & END_STREAM) !== 0) {
      const whole = this.#bodyLengths[slot] === this.#answer.length;
      this.#end(slot, state === ANSWERED && whole && list.derived === 'status 0');
    } else if (list.derived !== 'interim') {
      this.#states[slot] = state === SENT && list.derived === 'answer' ? ANSWERED : WRONG;
    }
  }

  #end(slot: number, right: boolean): void {
    this.#states[slot] = IDLE;
    this.#inFlight--;
    this.#caller.ended(this, right, this.#startedAt[slot], this.#now);
  }

  #readSettings(buf: Buffer, start: number, end: number): void {
    for (let at = start; at < end; at += 6) {
      const value = buf.readUInt32BE(at + 2);
      const id = buf.readUInt16BE(at);
      if (id === MAX_CONCURRENT_STREAMS) this.#maxInFlight = value;
      if (id === INITIAL_WINDOW_SIZE && value < this.#request.bodyLength) {
        throw failure(`stream windows of ${value} octets, which a request does not fit in`);
      }
      if (id === HEADER_TABLE_SIZE && value < DEFAULT_TABLE_SIZE) {
        throw failure(`a header table of ${value} octets, which requests made ahead do not fit in`);
      }
    }
    this.#append(frameHeader(0, SETTINGS, ACK));
    this.#ready?.();
    this.#ready = undefined;
  }

  #fail(why: string): void {
    this.close();
    this.#caller.failed(failure(why));
  }
}

const failure = (why: string) => new BenchError('generator-failed', `the generator's connection: ${why}`);

function meaningOf(list: HeaderList): 'interim' | 'answer' | 'status 0' | 'wrong' {
  const status = list.get(':status');
  if (status === undefined) return list.get('grpc-status') === '0' ? 'status 0' : 'wrong';
  if (status.startsWith('1')) return 'interim';
  return status === '200' && list.get('content-type') === 'application/grpc' ? 'answer' : 'wrong';
}
