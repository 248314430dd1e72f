import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { PeerIdentity } from '../identity/peer.ts';
import { giveBuffer, RECORD_BUFFER, SMALL, takeBuffer } from './bufferpool.ts';
import { ChannelUseError, type CloseReason, RecordError, type RecordFlood } from './errors.ts';
import type { Established } from './handshake.ts';
import type { SessionKeys } from './keyschedule.ts';
import type { RecordLimits } from './limits.ts';
import { type ModeId, RESUMPTION } from './mode.ts';
import {
  ALERT,
  CLOSE,
  DATA,
  IGNORABLE,
  KEY_UPDATE,
  LENGTH_FIELD,
  NEW_TICKET,
  OVERHEAD,
  PING,
  PING_LENGTH,
  PONG,
  RECORD_HEADER,
  RecordReader,
  type RecordSink,
  RecordWriter,
  TAG,
} from './record.ts';
import { decodeTicket, encodeTicket, type NewTicket, type Resumable, TICKETS_A_HANDSHAKE } from './ticket.ts';

/** `flood` names the limit that was crossed, if the reason is `flood`. */
export type CloseListener = (reason: CloseReason, detail: string, flood?: RecordFlood) => void;
export type RekeyListener = (direction: 'send' | 'receive', cause: RekeyCause) => void;
export type RekeyCause = 'records' | 'bytes' | 'age' | 'peer';

/** How many records there have been; the channel adds to it. */
export interface RecordTally {
  recordsIn: number;
  recordsOut: number;
}

export interface ChannelSession extends SessionKeys {
  /** 2 if it was there before the connection. */
  readonly mode: ModeId;
}

/** Values of SecureChannel's `#quiet`. */
const ASKED = 2;
const SILENT = 3;

/** From this payload on a record is sealed in place even if it must wait for the kernel. */
const LARGE = 32 * 1024;

const FIRST_PING = Buffer.alloc(RECORD_HEADER + PING_LENGTH);
const HEARTBEAT = Buffer.alloc(RECORD_HEADER + PING_LENGTH, 'heartbeat');
const NO_PAYLOAD = Buffer.alloc(RECORD_HEADER);

/**
 * An established connection with a peer: bytes in records over one TCP connection, until it is closed by an
 * authenticated CLOSE, destroyed, or broken.
 *
 *     open --close()--> closing --peer's CLOSE, or time--> closed
 *       \---peer's CLOSE, destroy(), any failure---------> closed
 *
 * Nothing is delivered before `onData` has been set: set it last.
 */
export class SecureChannel implements RecordSink {
  readonly role: Established['role'];
  readonly peer: PeerIdentity;
  /**
   * The key of a new session belongs to whoever was handed the channel, who wipes it; before that the channel does. That
   * of a session that was resumed belongs to the session.
   */
  readonly session: ChannelSession;
  /** For the tickets of the session. */
  readonly resumable: Resumable;
  /** 8 bytes in hex that name the peer's process, if it told. */
  readonly peerInstance: string | undefined;
  readonly remoteAddress: string;
  readonly remotePort: number;

  /** Octets that must stay free in front of what is written. */
  readonly headroom = LENGTH_FIELD + RECORD_HEADER;
  /** The most octets that one write takes: what both ends' largest records hold. */
  readonly capacity: number;

  /** The backlog has gone, after a write that returned false. */
  onDrain: () => void = nothing;
  /** A direction has changed its key. */
  onRekey: RekeyListener | undefined;

  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #limits: RecordLimits;
  #tally: RecordTally = { recordsIn: 0, recordsOut: 0 };
  readonly #writer: RecordWriter;
  readonly #reader: RecordReader;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #end: { reason: CloseReason; detail: string; flood: RecordFlood | undefined } | undefined;
  #onUp: (() => void) | undefined;
  #onData: ((plaintext: Buffer) => void) | undefined;
  #onClose: CloseListener | undefined;
  #blocked = false;
  /** Pool buffers that the socket has, in the order of their writes. */
  readonly #lent: Buffer[] = [];
  readonly #taken = (): void => {
    const buf = this.#lent.shift();
    if (buf !== undefined && this.#state !== 'closed') giveBuffer(buf);
  };
  /** The payload of a PING that came while the socket was backlogged: only the last is answered. */
  #owedPong: Buffer | undefined;
  readonly #pings: RecordCounter;
  readonly #idle: RecordCounter;
  /** Heartbeats since something last came: 0 none was due, 1 one is due, 2 a PING is out, 3 and late. */
  #quiet = 0;
  /** What the kernel had taken at the last of them. */
  #takenBefore = 0;
  #beatTimer: TimerHandle;
  #rekeyTimer: TimerHandle;
  #closeTimer: TimerHandle;
  #recordTimer: TimerHandle;
  #waiting = 0;
  #waitingSince = 0;
  #keySince: number;
  #started = false;
  /** The first record's payload, if it was DATA and came before onData was set. */
  #early: Buffer | undefined;
  /** Tickets that may still go from the responder to the initiator: they are its first records. */
  #ticketsDue: number;
  #onTicket: ((ticket: NewTicket) => void) | undefined;
  /** The first record, if it was a ticket and came before onTicket was set. */
  #earlyTicket: NewTicket | undefined;

  /** `onUp` is called once, when the peer's first record has opened: before that the channel must not be used. */
  constructor(
    socket: Socket,
    established: Established,
    clock: Clock,
    limits: RecordLimits,
    onUp: () => void,
  ) {
    this.role = established.role;
    this.peer = established.peer;
    this.session = { id: established.session.id, key: established.session.key, mode: established.mode.id };
    const { session, peer, foundedIn, peerMaxRecord, peerInstance } = established;
    this.resumable = { session, peer, foundedIn, peerMaxRecord, peerInstance };
    this.peerInstance = peerInstance?.toString('hex');
    this.#ticketsDue = established.tickets ? TICKETS_A_HANDSHAKE : 0;
    this.remoteAddress = socket.remoteAddress ?? '';
    this.remotePort = socket.remotePort ?? 0;
    this.capacity = Math.min(limits.maxLength, established.peerMaxRecord) - OVERHEAD;
    this.#socket = socket;
    this.#clock = clock;
    this.#limits = limits;
    this.#onUp = onUp;
    this.#writer = new RecordWriter(established.send, limits);
    this.#reader = new RecordReader(established.receive, limits, this, () => clock.monotonic());
    this.#keySince = clock.monotonic();
    this.#pings = { count: 0, since: this.#keySince };
    this.#idle = { count: 0, since: this.#keySince };
    this.#rekeyTimer = clock.after(limits.rekeyAfterMs, this.#keyIsOld);
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('drain', () => this.#drained());
    socket.on('end', () => this.#ended());
    socket.on('error', (error) => this.#finish('socket-error', error.message));
    socket.on('close', () => this.#finish('truncated', 'The connection ended without CLOSE'));
  }

  /** Called with each DATA record's payload, which is valid until it returns. Setting it starts the reading. */
  set onData(listener: (plaintext: Buffer) => void) {
    const first = this.#onData === undefined;
    this.#onData = listener;
    if (first) setImmediate(() => this.#start());
  }

  /** Called exactly once, in a later turn if the channel is closed already when this is set. */
  set onClose(listener: CloseListener) {
    this.#onClose = listener;
    const end = this.#end;
    if (end !== undefined) setImmediate(() => listener(end.reason, end.detail, end.flood));
  }

  /** Called with each ticket that the responder sends. Set it before onData. */
  set onTicket(listener: (ticket: NewTicket) => void) {
    this.#onTicket = listener;
    const early = this.#earlyTicket;
    this.#earlyTicket = undefined;
    if (early !== undefined) listener(early);
  }

  /** How many tickets a responder may send now: some right after the channel has come up, and no more later. */
  get ticketsDue(): number {
    return this.role === 'responder' ? this.#ticketsDue : 0;
  }

  /** Sends a ticket, if one is due. */
  sendTicket(ticket: NewTicket): void {
    if (this.ticketsDue === 0) return;
    this.#ticketsDue--;
    this.#control(NEW_TICKET, Buffer.concat([NO_PAYLOAD, encodeTicket(ticket)]));
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** Records of every type that the peer sent and that were opened: they have the numbers 0 to `received` - 1. */
  get received(): number {
    return this.#reader.opened;
  }

  /** Counts this channel's records, those up to now included, into a tally of the owner's from now on. */
  set tally(tally: RecordTally) {
    tally.recordsIn += this.#tally.recordsIn;
    tally.recordsOut += this.#tally.recordsOut;
    this.#tally = tally;
  }

  /** The peer owes an answer to a heartbeat for longer than half of its time. */
  get silent(): boolean {
    return this.#quiet >= SILENT;
  }

  /** Octets that wait for the kernel. */
  get backlog(): number {
    return this.#socket.writableLength;
  }

  /** Hands out a buffer of at least `headroom + capacity` octets with any content, the caller's until write. */
  acquire(): Buffer {
    return takeBuffer(RECORD_BUFFER);
  }

  /**
   * Seals the octets [start, end) of a buffer from acquire() as one DATA record and writes it. The buffer is the
   * channel's from now on. False asks the caller to wait for onDrain; on a channel that is not open nothing is
   * sent. Throws ChannelUseError if the range leaves no headroom or is above capacity.
   */
  write(buf: Buffer, start: number, end: number): boolean {
    if (this.#state !== 'open') return false;
    const payload = end - start;
    if (start < this.headroom || payload < 0 || payload > this.capacity || end > buf.length) {
      throw new ChannelUseError(
        `write of [${start}, ${end}) of ${buf.length} octets: headroom is ${this.headroom}, capacity ${this.capacity}`,
      );
    }
    this.#tally.recordsOut++;
    if (this.#inPlace(buf, payload, end)) {
      this.#lent.push(buf);
      this.#socket.write(this.#writer.sealInPlace(DATA, buf, start, end), this.#taken);
    } else {
      const record = this.#writer.seal(DATA, buf, start, end);
      giveBuffer(buf);
      this.#socket.write(record);
    }
    this.#rekeyIfDue();
    this.#blocked = this.#backlogged;
    if (this.#blocked && this.#socket.writableLength > this.#limits.maxBacklog) this.#cutOff();
    return !this.#blocked;
  }

  /**
   * The peer asks and does not read: owners hold back what flow control governs, but not their own answers. Later,
   * because an owner in the middle of a write does not expect the end.
   */
  #cutOff(): void {
    const detail = `The peer has not taken ${this.#limits.maxBacklog} bytes of what it was sent`;
    setImmediate(() => this.#finish('flood', detail, { flood: 'backlog' }));
  }

  /**
   * Whether the socket gets the caller's buffer itself. That saves an allocation and a copy, but holds 64 KiB until
   * the kernel has taken the record: worth it for a large record, or if the kernel will take it at once.
   */
  #inPlace(buf: Buffer, payload: number, end: number): boolean {
    if (payload < SMALL || buf.length !== RECORD_BUFFER || end + TAG > RECORD_BUFFER) return false;
    return payload >= LARGE || this.#socket.writableLength === 0;
  }

  /** Sends CLOSE after everything that was written, then FIN, and waits for the peer's CLOSE, but not for long. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    this.#sendClose();
    this.#closeTimer = this.#clock.after(this.#limits.closeTimeoutMs, () =>
      this.#finish('close-timeout', 'The peer did not answer CLOSE in time'),
    );
    this.#onData ??= nothing;
    this.#start();
  }

  /** Ends the connection at once, silently on the wire; the peer sees a truncation. */
  destroy(reason: CloseReason, detail = ''): void {
    this.#finish(reason, detail);
  }

  /**
   * Ends the connection at once, in order on the wire: CLOSE goes out after what was written. Not one record more is
   * opened, and the keys are wiped, when this returns.
   */
  cut(reason: CloseReason, detail: string): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'open') this.#sendClose();
    this.#finish(reason, detail, { flush: true, linger: true });
  }

  /** For the driver: the first record, so that the peer knows that the handshake was ours. */
  greet(): void {
    this.#control(PING, FIRST_PING);
  }

  /** For the driver: bytes that came with the last handshake message. */
  feed(bytes: Buffer): void {
    if (bytes.length > 0) this.#read(bytes);
  }

  /** For the reader: one record that has opened. */
  record(type: number, payload: Buffer): void {
    this.#tally.recordsIn++;
    if (this.#onUp !== undefined) this.#up(type);
    if (type === NEW_TICKET) {
      this.#ticketCame(payload);
      return;
    }
    this.#ticketsDue = 0;
    switch (type) {
      case DATA:
        if (payload.length === 0) this.#limit(this.#idle, 'record-idle', 'empty DATA records');
        if (this.#onData === undefined) this.#early = Buffer.from(payload);
        else this.#onData(payload);
        return;
      case PING:
        this.#pinged(payload);
        return;
      case PONG:
        checkPing(payload);
        this.#limit(this.#idle, 'record-idle', 'PONGs');
        return;
      case KEY_UPDATE:
        this.onRekey?.('receive', 'peer');
        return;
      case CLOSE:
        this.#closed();
        return;
      case ALERT:
        throw new RecordError('peer-alert', `The peer sent ALERT ${payload[0] ?? '(empty)'}`);
      default:
        if (type < IGNORABLE) throw new RecordError('protocol-error', `A record of the unknown type ${type}`);
        this.#limit(this.#idle, 'record-idle', 'records of unknown types');
    }
  }

  /** The peer's first record has opened. The reading waits until the new owner has set onData. */
  #up(type: number): void {
    const onUp = this.#onUp as () => void;
    this.#onUp = undefined;
    this.#reader.pause();
    this.#socket.pause();
    this.#socket.cork();
    process.nextTick(() => this.#socket.uncork());
    onUp();
    if (this.role === 'initiator') return;
    this.#ticketsDue = 0;
    if (type !== PING) this.greet(); // the initiator waits for a record
  }

  #ticketCame(payload: Buffer): void {
    const ticket = decodeTicket(payload);
    if (this.role === 'responder' || this.#ticketsDue === 0 || ticket === undefined) {
      throw new RecordError('protocol-error', `A NEW_TICKET of ${payload.length} bytes where none is due`);
    }
    this.#ticketsDue--;
    if (this.#onTicket === undefined) this.#earlyTicket = ticket;
    else this.#onTicket(ticket);
  }

  #start(): void {
    if (this.#started || this.#state === 'closed') return;
    this.#started = true;
    try {
      const early = this.#early;
      this.#early = undefined;
      if (early !== undefined) this.#onData?.(early);
      this.#reader.resume();
    } catch (cause) {
      this.#failed(cause);
      return;
    }
    this.#watch();
    if (this.closed) return;
    this.#socket.resume();
    if (this.#limits.heartbeatMs > 0) this.#beatIn(this.#limits.heartbeatMs / 2);
  }

  #beatIn(ms: number): void {
    this.#beatTimer = this.#clock.after(ms, this.#beat);
  }

  /**
   * Finds out whether the other end is still there: by anything that comes from it, or by what the kernel could send to
   * it while octets wait, else by a PING. Twice in `heartbeatMs`, so that a PING goes out after that at the latest.
   */
  readonly #beat = (): void => {
    if (this.#state !== 'open') return;
    const { heartbeatMs, heartbeatTimeoutMs } = this.#limits;
    if (this.#sending()) this.#quiet = 0;
    switch (this.#quiet) {
      case 0:
        this.#quiet = 1;
        this.#beatIn(heartbeatMs / 2);
        return;
      case SILENT:
        // What has come while this process was busy is read before that.
        setImmediate(() => this.#giveUp());
        return;
      case ASKED:
        this.#quiet = SILENT;
        break;
      default:
        this.#quiet = ASKED;
        this.#control(PING, HEARTBEAT);
    }
    this.#beatIn(heartbeatTimeoutMs / 2);
  };

  #giveUp(): void {
    if (this.#state !== 'open') return;
    const { heartbeatMs, heartbeatTimeoutMs } = this.#limits;
    if (this.silent) {
      this.#finish('heartbeat-timeout', `The peer did not answer a PING within ${heartbeatTimeoutMs} ms`);
    } else this.#beatIn(heartbeatMs / 2);
  }

  /** The kernel has sent some of what waits since the last heartbeat. */
  #sending(): boolean {
    const taken = takenByKernel(this.#socket);
    const moved = taken !== this.#takenBefore;
    this.#takenBefore = taken;
    return moved && this.#socket.writableLength > 0;
  }

  #read(chunk: Buffer): void {
    this.#quiet = 0;
    try {
      this.#reader.push(chunk);
    } catch (cause) {
      this.#failed(cause);
      return;
    }
    this.#watch();
  }

  /** Sees to it that a record that has begun completes in time: one timer at a time, whatever the number of records. */
  #watch(): void {
    const waiting = this.#reader.waiting;
    if (waiting === 0 || waiting === this.#waiting) return;
    this.#waiting = waiting;
    this.#waitingSince = this.#clock.monotonic();
    this.#recordTimer ??= this.#clock.after(this.#limits.timeoutMs, this.#recordIsLate);
  }

  readonly #recordIsLate = (): void => {
    this.#recordTimer = undefined;
    const waiting = this.#reader.waiting;
    if (waiting === 0) return;
    const left = this.#waitingSince + this.#limits.timeoutMs - this.#clock.monotonic();
    if (left > 0) this.#recordTimer = this.#clock.after(left, this.#recordIsLate);
    else this.#finish('record-timeout', `A record did not complete within ${this.#limits.timeoutMs} ms`);
  };

  #drained(): void {
    const owed = this.#owedPong;
    this.#owedPong = undefined;
    if (owed !== undefined) this.#control(PONG, owed);
    if (!this.#blocked) return;
    this.#blocked = false;
    this.onDrain();
  }

  #pinged(payload: Buffer): void {
    checkPing(payload);
    this.#limit(this.#pings, 'record-ping', 'PINGs');
    const pong = Buffer.allocUnsafe(RECORD_HEADER + PING_LENGTH);
    payload.copy(pong, RECORD_HEADER);
    if (this.#backlogged) this.#owedPong = pong;
    else this.#control(PONG, pong);
  }

  #limit(counter: RecordCounter, flood: RecordFlood, what: string): void {
    const { idleRecords, idleWindowMs } = this.#limits;
    if (++counter.count <= idleRecords) return;
    const now = this.#clock.monotonic();
    if (now - counter.since < idleWindowMs) {
      throw new RecordError('flood', `More than ${idleRecords} ${what} in ${idleWindowMs} ms`, { flood });
    }
    counter.since = now;
    counter.count = 1;
  }

  get #backlogged(): boolean {
    return this.#socket.writableLength >= this.#limits.backlog && this.#socket.writableNeedDrain;
  }

  /** Writes a small record; `bytes` is RECORD_HEADER free bytes, then the payload. */
  #control(type: number, bytes: Buffer): void {
    if (this.#state !== 'open') return;
    this.#tally.recordsOut++;
    this.#socket.write(this.#writer.seal(type, bytes, RECORD_HEADER, bytes.length));
    this.#rekeyIfDue();
  }

  #rekeyIfDue(): void {
    const due = this.#writer.due;
    if (due !== undefined) this.#rekey(due);
  }

  #rekey(cause: RekeyCause): void {
    this.#tally.recordsOut++;
    this.#socket.write(this.#writer.keyUpdate());
    this.#keySince = this.#clock.monotonic();
    this.onRekey?.('send', cause);
  }

  readonly #keyIsOld = (): void => {
    if (this.#state !== 'open') return;
    const left = this.#keySince + this.#limits.rekeyAfterMs - this.#clock.monotonic();
    if (left <= 0) this.#rekey('age');
    this.#rekeyTimer = this.#clock.after(left > 0 ? left : this.#limits.rekeyAfterMs, this.#keyIsOld);
  };

  /** The peer's CLOSE: nothing follows it, and ours is due if it has not gone yet. */
  #closed(): void {
    if (this.#state === 'closing') {
      this.#finish('local-closed', 'Closed from here, confirmed by the peer', { flush: true });
      return;
    }
    this.#sendClose();
    this.#finish('peer-closed', 'The peer closed the connection', { flush: true });
  }

  #sendClose(): void {
    this.#tally.recordsOut++;
    this.#socket.end(this.#writer.seal(CLOSE, NO_PAYLOAD, RECORD_HEADER, RECORD_HEADER));
  }

  #ended(): void {
    const where = this.#reader.waiting === 0 ? '' : ' in the middle of a record';
    this.#finish('truncated', `The connection ended without CLOSE${where}`);
  }

  #failed(cause: unknown): void {
    if (cause instanceof RecordError) this.#finish(cause.reason, cause.message, { flood: cause.flood });
    else
      this.#finish('internal-error', cause instanceof Error ? (cause.stack ?? cause.message) : String(cause));
  }

  /** `flush`: what was written, our CLOSE being the last, still goes out. */
  #finish(
    reason: CloseReason,
    detail: string,
    {
      flush = false,
      linger = false,
      flood,
    }: { flush?: boolean; linger?: boolean; flood?: RecordFlood | undefined } = {},
  ): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#end = { reason, detail, flood };
    this.#clock.clear(this.#rekeyTimer);
    this.#clock.clear(this.#beatTimer);
    this.#clock.clear(this.#closeTimer);
    this.#clock.clear(this.#recordTimer);
    this.#reader.stop();
    this.#writer.wipe();
    if (this.#onUp !== undefined && this.session.mode !== RESUMPTION.id) this.session.key.wipe();
    this.#early = undefined;
    this.#earlyTicket = undefined;
    this.#owedPong = undefined;
    this.#lent.length = 0;
    if (flush) this.#letGo(linger);
    else this.#socket.destroy();
    this.#onClose?.(reason, detail, flood);
  }

  /**
   * Destroys the socket once it has sent everything, or the peer has had its time to take it. `linger` while the peer
   * still sends, until its FIN: octets that nobody reads would turn the end into a reset, which may overtake CLOSE.
   */
  #letGo(linger: boolean): void {
    const socket = this.#socket;
    const timer = this.#clock.after(this.#limits.closeTimeoutMs, () => socket.destroy());
    socket.once('close', () => this.#clock.clear(timer));
    if (linger) socket.resume();
    else socket.destroySoon();
  }
}

/** What node's socket has and its types do not: libuv's own count of a write that is partly done. */
interface Handled {
  _handle?: { bytesWritten?: number; writeQueueSize?: number } | null;
}

/** Octets that the kernel has taken; without the handle's counts, as far as whole writes tell. */
function takenByKernel(socket: Socket): number {
  const { bytesWritten, writeQueueSize } = (socket as Handled)._handle ?? {};
  if (bytesWritten === undefined || writeQueueSize === undefined) {
    return socket.bytesWritten - socket.writableLength;
  }
  return bytesWritten - writeQueueSize;
}

/** Records of a kind since a time. */
interface RecordCounter {
  count: number;
  since: number;
}

function checkPing(payload: Buffer): void {
  if (payload.length === PING_LENGTH) return;
  throw new RecordError('protocol-error', `A PING or PONG of ${payload.length} bytes, not ${PING_LENGTH}`);
}

function nothing(): void {}
