import type { Clock } from '../clock/clock.ts';
import type { CipherState } from '../noise/cipherstate.ts';
import { type CloseReason, RecordError, type RecordFlood } from './errors.ts';
import type { RecordLimits } from './limits.ts';
import {
  ALERT,
  CLOSE,
  DATA,
  IGNORABLE,
  KEY_UPDATE,
  NEW_TICKET,
  PING,
  PING_LENGTH,
  PONG,
  RecordReader,
  type RecordSink,
  SUCCESSOR,
} from './record.ts';
import { RecordBudget } from './recordbudget.ts';
import { RecordDeadline } from './recorddeadline.ts';
import type { TicketPassing } from './ticketpassing.ts';

export interface RecordInputOptions {
  readonly cipher: CipherState;
  readonly clock: Clock;
  readonly limits: RecordLimits;
  readonly tickets: TicketPassing;
  /** The first record of the channel has opened, and is about to be acted upon. May pause the input. */
  readonly onFirst: (type: number) => void;
  readonly onPing: (payload: Buffer) => void;
  /** The peer has changed its key. */
  readonly onRekey: () => void;
  /** The peer wants another session in the place of this one. */
  readonly onSuccessor: () => void;
  /** The peer's CLOSE: nothing follows it. */
  readonly onClose: () => void;
  /** A record, or an owner's callback, ends the connection. */
  readonly onFailed: (reason: CloseReason, detail: string, flood?: RecordFlood) => void;
}

/** The receiving half of a channel: opens what comes and acts by its type. */
export class RecordInput implements RecordSink {
  /** How many records were opened; set anew by whoever keeps count. */
  tally: { recordsIn: number };
  /** Gets the payload of each DATA record, which is valid until it returns. */
  onData: ((plaintext: Buffer) => void) | undefined;

  readonly #options: RecordInputOptions;
  readonly #tickets: TicketPassing;
  readonly #reader: RecordReader;
  readonly #deadline: RecordDeadline;
  readonly #pings: RecordBudget;
  readonly #idle: RecordBudget;
  #isFirst = true;
  /** The first record's payload, if it was DATA and came before onData was set. */
  #early: Buffer | undefined;

  constructor(options: RecordInputOptions, tally: { recordsIn: number }) {
    const { cipher, clock, limits, onFailed } = options;
    const monotonic = (): number => clock.monotonic();
    this.#options = options;
    this.tally = tally;
    this.#tickets = options.tickets;
    this.#reader = new RecordReader(cipher, limits, this, monotonic);
    this.#deadline = new RecordDeadline(this.#reader, clock, limits.timeoutMs, () =>
      onFailed('record-timeout', `A record did not complete within ${limits.timeoutMs} ms`),
    );
    this.#pings = new RecordBudget('record-ping', limits, monotonic);
    this.#idle = new RecordBudget('record-idle', limits, monotonic);
  }

  /** Records of every type that were opened. */
  get opened(): number {
    return this.#reader.opened;
  }

  /** A record has begun and is not complete. */
  get waiting(): boolean {
    return this.#reader.waiting !== 0;
  }

  /** Takes what came from the wire. */
  push(chunk: Buffer): void {
    try {
      this.#reader.push(chunk);
    } catch (cause) {
      this.#failed(cause);
      return;
    }
    this.#deadline.watch();
  }

  /** Opens nothing more until `resume`. */
  pause(): void {
    this.#reader.pause();
  }

  /** Delivers what came meanwhile, and goes on. `onData` is set by now. */
  resume(): void {
    try {
      const early = this.#early;
      this.#early = undefined;
      if (early !== undefined) this.onData?.(early);
      this.#reader.resume();
    } catch (cause) {
      this.#failed(cause);
      return;
    }
    this.#deadline.watch();
  }

  /** Nothing is delivered any more; wipes the key. */
  stop(): void {
    this.#deadline.stop();
    this.#reader.stop();
    this.#early = undefined;
  }

  /** For the reader: one record that has opened. */
  record(type: number, payload: Buffer): void {
    this.tally.recordsIn++;
    if (this.#isFirst) {
      this.#isFirst = false;
      this.#options.onFirst(type);
    }
    if (type === NEW_TICKET) {
      this.#tickets.came(payload);
      return;
    }
    this.#tickets.over();
    switch (type) {
      case DATA:
        if (payload.length === 0) this.#idle.take('empty DATA records');
        if (this.onData === undefined) this.#early = Buffer.from(payload);
        else this.onData(payload);
        return;
      case PING:
        checkPing(payload);
        this.#pings.take('PINGs');
        this.#options.onPing(payload);
        return;
      case PONG:
        checkPing(payload);
        this.#idle.take('PONGs');
        return;
      case KEY_UPDATE:
        this.#options.onRekey();
        return;
      case SUCCESSOR:
        this.#idle.take('SUCCESSORs');
        this.#options.onSuccessor();
        return;
      case CLOSE:
        this.#options.onClose();
        return;
      case ALERT:
        throw new RecordError('peer-alert', `The peer sent ALERT ${payload[0] ?? '(empty)'}`);
      default:
        if (type < IGNORABLE) throw new RecordError('protocol-error', `A record of the unknown type ${type}`);
        this.#idle.take('records of unknown types');
    }
  }

  #failed(cause: unknown): void {
    const { onFailed } = this.#options;
    if (cause instanceof RecordError) onFailed(cause.reason, cause.message, cause.flood);
    else onFailed('internal-error', cause instanceof Error ? (cause.stack ?? cause.message) : String(cause));
  }
}

function checkPing(payload: Buffer): void {
  if (payload.length === PING_LENGTH) return;
  throw new RecordError('protocol-error', `A PING or PONG of ${payload.length} bytes, not ${PING_LENGTH}`);
}
