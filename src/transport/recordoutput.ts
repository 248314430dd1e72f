import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { CipherState } from '../noise/cipherstate.ts';
import { giveBuffer, RECORD_BUFFER, SMALL } from './bufferpool.ts';
import type { RecordLimits } from './limits.ts';
import { CLOSE, DATA, PING_LENGTH, PONG, RECORD_HEADER, RecordWriter, TAG } from './record.ts';

export type RekeyCause = 'records' | 'bytes' | 'age' | 'peer';

/** From this payload on a record is sealed in place even if it must wait for the kernel. */
const LARGE = 32 * 1024;

/** A record without a payload. */
const NO_PAYLOAD = Buffer.alloc(RECORD_HEADER);

export interface RecordOutputOptions {
  readonly socket: Socket;
  readonly cipher: CipherState;
  readonly clock: Clock;
  readonly limits: RecordLimits;
  /** Our direction has changed its key. */
  readonly onRekey: (cause: RekeyCause) => void;
  /** The key may seal nothing more, and nothing was sealed. Called once, in a turn of its own. */
  readonly onExhausted: (detail: string) => void;
}

/** The sending half of a channel: seals records, writes them to the socket, and changes the key in time. */
export class RecordOutput {
  /** How many records were sealed; set anew by whoever keeps count. */
  tally: { recordsOut: number };

  readonly #options: RecordOutputOptions;
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #limits: RecordLimits;
  readonly #writer: RecordWriter;
  #ended = false;
  #blocked = false;
  /** Pool buffers that the socket has, in the order of their writes. */
  readonly #lent: Buffer[] = [];
  readonly #taken = (): void => {
    const buf = this.#lent.shift();
    if (buf !== undefined) giveBuffer(buf);
  };
  /** The payload of a PING that came while the socket was backlogged: only the last is answered. */
  #owedPong: Buffer | undefined;
  #keySince: number;
  #rekeyTimer: TimerHandle;

  constructor(options: RecordOutputOptions, tally: { recordsOut: number }) {
    const { socket, cipher, clock, limits } = options;
    this.tally = tally;
    this.#options = options;
    this.#socket = socket;
    this.#clock = clock;
    this.#limits = limits;
    this.#writer = new RecordWriter(cipher, limits);
    this.#keySince = clock.monotonic();
    this.#rekeyTimer = clock.after(limits.rekeyAfterMs, this.#keyIsOld);
  }

  /** Octets that wait for the kernel. */
  get backlog(): number {
    return this.#socket.writableLength;
  }

  /** More waits than a peer may have us keep. */
  get overfull(): boolean {
    return this.#socket.writableLength > this.#limits.maxBacklog;
  }

  /**
   * Seals the octets [start, end) of a pool buffer as one DATA record and writes it. False if the writer should wait
   * until `drained` says so.
   */
  write(buf: Buffer, start: number, end: number): boolean {
    if (this.#writer.exhausted) {
      giveBuffer(buf);
      this.#exhausted();
      return false;
    }
    this.tally.recordsOut++;
    if (this.#inPlace(buf, end - start, end)) {
      this.#lent.push(buf);
      this.#socket.write(this.#writer.sealInPlace(DATA, buf, start, end), this.#taken);
    } else {
      const record = this.#writer.seal(DATA, buf, start, end);
      giveBuffer(buf);
      this.#socket.write(record);
    }
    this.#rekeyIfDue();
    // Until `drained` has said so, also if much has gone meanwhile: the writer waits for nothing else.
    if (this.#backlogged) this.#blocked = true;
    return !this.#blocked;
  }

  /**
   * Whether the socket gets the caller's buffer itself. That saves an allocation and a copy, but holds 64 KiB until
   * the kernel has taken the record: worth it for a large record, or if the kernel will take it at once.
   */
  #inPlace(buf: Buffer, payload: number, end: number): boolean {
    if (payload < SMALL || buf.length !== RECORD_BUFFER || end + TAG > RECORD_BUFFER) return false;
    return payload >= LARGE || this.#socket.writableLength === 0;
  }

  /** Writes a small record, unless CLOSE has gone; `bytes` is RECORD_HEADER free bytes, then the payload. */
  control(type: number, bytes: Buffer): void {
    if (this.#ended) return;
    if (this.#writer.exhausted) {
      this.#exhausted();
      return;
    }
    this.tally.recordsOut++;
    this.#socket.write(this.#writer.seal(type, bytes, RECORD_HEADER, bytes.length));
    this.#rekeyIfDue();
  }

  /** Answers a PING: later, if much waits. */
  pong(payload: Buffer): void {
    const pong = Buffer.allocUnsafe(RECORD_HEADER + PING_LENGTH);
    payload.copy(pong, RECORD_HEADER);
    if (this.#backlogged) this.#owedPong = pong;
    else this.control(PONG, pong);
  }

  /** The socket has room again; returns whether a writer waits for that. */
  drained(): boolean {
    const owed = this.#owedPong;
    this.#owedPong = undefined;
    if (owed !== undefined) this.control(PONG, owed);
    const waited = this.#blocked;
    this.#blocked = false;
    return waited;
  }

  /** Writes CLOSE, the last record, then FIN; FIN alone, which the peer takes for a truncation, under a key that is used up. */
  end(): void {
    const { exhausted } = this.#writer;
    if (exhausted) this.#exhausted();
    this.#ended = true;
    if (exhausted) {
      this.#socket.end();
      return;
    }
    this.tally.recordsOut++;
    this.#socket.end(this.#writer.seal(CLOSE, NO_PAYLOAD, RECORD_HEADER, RECORD_HEADER));
  }

  /** Nothing more is sealed; wipes the key. Buffers that the socket still has do not come back. */
  stop(): void {
    this.#ended = true;
    this.#clock.clear(this.#rekeyTimer);
    this.#writer.wipe();
    this.#owedPong = undefined;
    this.#lent.length = 0;
  }

  /** Later, because a writer does not expect the end. */
  #exhausted(): void {
    if (this.#ended) return;
    this.#ended = true;
    setImmediate(() => this.#options.onExhausted('This end has not changed its key in time'));
  }

  get #backlogged(): boolean {
    return this.#socket.writableLength >= this.#limits.backlog && this.#socket.writableNeedDrain;
  }

  #rekeyIfDue(): void {
    const due = this.#writer.due;
    if (due !== undefined) this.#rekey(due);
  }

  #rekey(cause: RekeyCause): void {
    this.tally.recordsOut++;
    this.#socket.write(this.#writer.keyUpdate());
    this.#keySince = this.#clock.monotonic();
    this.#options.onRekey(cause);
  }

  readonly #keyIsOld = (): void => {
    if (this.#ended) return;
    const left = this.#keySince + this.#limits.rekeyAfterMs - this.#clock.monotonic();
    if (left <= 0 && !this.#writer.exhausted) this.#rekey('age');
    this.#rekeyTimer = this.#clock.after(left > 0 ? left : this.#limits.rekeyAfterMs, this.#keyIsOld);
  };
}
