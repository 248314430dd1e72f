import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { PeerIdentity } from '../identity/peer.ts';
import { RECORD_BUFFER, takeBuffer } from './bufferpool.ts';
import type { ConnectionLife } from './connectionlife.ts';
import { ChannelUseError, type CloseReason, type RecordFlood } from './errors.ts';
import type { Established } from './handshake.ts';
import { Heartbeat } from './heartbeat.ts';
import type { SessionKeys } from './keyschedule.ts';
import type { RecordLimits } from './limits.ts';
import { type ModeId, RESUMPTION } from './mode.ts';
import { LENGTH_FIELD, NEW_TICKET, OVERHEAD, PING, PING_LENGTH, RECORD_HEADER, SUCCESSOR } from './record.ts';
import { RecordInput } from './recordinput.ts';
import { RecordOutput, type RekeyCause } from './recordoutput.ts';
import { encodeTicket, type NewTicket, type Resumable, resumableOf } from './ticket.ts';
import { TicketPassing } from './ticketpassing.ts';

/** `flood` names the limit that was crossed, if the reason is `flood`. */
export type CloseListener = (reason: CloseReason, detail: string, flood?: RecordFlood) => void;
export type RekeyListener = (direction: 'send' | 'receive', cause: RekeyCause) => void;

/** How many records there have been; the channel adds to it. */
export interface RecordTally {
  recordsIn: number;
  recordsOut: number;
}

export interface ChannelSession extends SessionKeys {
  /** 2 if it was there before the connection. */
  readonly mode: ModeId;
}

const FIRST_PING = Buffer.alloc(RECORD_HEADER + PING_LENGTH);
const HEARTBEAT = Buffer.alloc(RECORD_HEADER + PING_LENGTH, 'heartbeat');

/**
 * An established connection with a peer: bytes in records over one TCP connection, until it is closed by an
 * authenticated CLOSE, destroyed, or broken. Its halves are recordoutput.ts and recordinput.ts.
 *
 *     open --close()--> closing --peer's CLOSE, or time--> closed
 *       \---peer's CLOSE, destroy(), any failure---------> closed
 *
 * Nothing is delivered before `onData` has been set: set it last.
 */
export class SecureChannel {
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
  readonly life: ConnectionLife;
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
  /** The responder wants another session in the place of this one, because its identity has changed. */
  onSuccessorDue: (() => void) | undefined;

  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #limits: RecordLimits;
  readonly #out: RecordOutput;
  readonly #in: RecordInput;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #end: { reason: CloseReason; detail: string; flood: RecordFlood | undefined } | undefined;
  #onUp: (() => void) | undefined;
  #onClose: CloseListener | undefined;
  readonly #heartbeat: Heartbeat;
  readonly #tickets: TicketPassing;
  #closeTimer: TimerHandle;
  #started = false;

  /** `onUp` is called once, when the peer's first record has opened: before that the channel must not be used. */
  constructor(
    socket: Socket,
    life: ConnectionLife,
    established: Established,
    clock: Clock,
    limits: RecordLimits,
    onUp: () => void,
  ) {
    this.role = established.role;
    this.peer = established.peer;
    this.session = { id: established.session.id, key: established.session.key, mode: established.mode.id };
    this.resumable = resumableOf(established);
    this.peerInstance = established.peerInstance;
    this.#tickets = new TicketPassing(established.role, established.tickets);
    this.life = life;
    this.remoteAddress = socket.remoteAddress ?? '';
    this.remotePort = socket.remotePort ?? 0;
    this.capacity = Math.min(limits.maxLength, established.peerMaxRecord) - OVERHEAD;
    this.#socket = socket;
    this.#clock = clock;
    this.#limits = limits;
    this.#onUp = onUp;
    const tally = { recordsIn: 0, recordsOut: 0 };
    this.#out = new RecordOutput(
      {
        ...{ socket, cipher: established.send, clock, limits },
        onRekey: (cause) => this.onRekey?.('send', cause),
        onExhausted: (detail) => this.#finish('key-exhausted', detail),
      },
      tally,
    );
    this.#in = new RecordInput(
      {
        ...{ cipher: established.receive, clock, limits, tickets: this.#tickets },
        onFirst: (type) => this.#up(type),
        onPing: (payload) => this.#out.pong(payload),
        onRekey: () => this.onRekey?.('receive', 'peer'),
        onSuccessor: () => {
          if (this.role === 'initiator') this.onSuccessorDue?.();
        },
        onClose: () => this.#closed(),
        onFailed: (reason, detail, flood) => this.#finish(reason, detail, { flood }),
      },
      tally,
    );
    this.#heartbeat = new Heartbeat({
      ...{ socket, clock, limits },
      ping: () => this.#out.control(PING, HEARTBEAT),
      lost: (detail) => this.#finish('heartbeat-timeout', detail),
    });
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('drain', () => {
      if (this.#out.drained()) this.onDrain();
    });
    socket.on('end', () => this.#ended());
    socket.on('error', (error) => this.#finish('socket-error', error.message));
    socket.on('close', () => this.#finish('truncated', 'The connection ended without CLOSE'));
  }

  // Name the listeners before you set them, as Wire says.
  /** Called with each DATA record's payload, which is valid until it returns. Setting it starts the reading. */
  set onData(listener: (plaintext: Buffer) => void) {
    const first = this.#in.onData === undefined;
    this.#in.onData = listener;
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
    this.#tickets.onTicket = listener;
  }

  /** How many tickets a responder may send now: some right after the channel has come up, and no more later. */
  get ticketsDue(): number {
    return this.#tickets.due;
  }

  /** Sends a ticket, if one is due. */
  sendTicket(ticket: NewTicket): void {
    if (!this.#tickets.take()) return;
    this.#out.control(NEW_TICKET, Buffer.concat([Buffer.alloc(RECORD_HEADER), encodeTicket(ticket)]));
  }

  /** Asks the initiator for another session. One of an earlier version takes no notice. */
  askForSuccessor(): void {
    if (this.role === 'responder') this.#out.control(SUCCESSOR, Buffer.alloc(RECORD_HEADER));
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** Records of every type that the peer sent and that were opened: they have the numbers 0 to `received` - 1. */
  get received(): number {
    return this.#in.opened;
  }

  /** Counts this channel's records, those up to now included, into a tally of the owner's from now on. */
  set tally(tally: RecordTally) {
    tally.recordsIn += this.#in.tally.recordsIn;
    tally.recordsOut += this.#out.tally.recordsOut;
    this.#in.tally = tally;
    this.#out.tally = tally;
  }

  /** The peer owes an answer to a heartbeat for longer than half of its time. */
  get silent(): boolean {
    return this.#heartbeat.silent;
  }

  /** Octets that wait for the kernel. */
  get backlog(): number {
    return this.#out.backlog;
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
    if (this.#out.write(buf, start, end)) return true;
    if (this.#out.overfull) this.#cutOff();
    return false;
  }

  /**
   * The peer asks and does not read: owners hold back what flow control governs, but not their own answers. Later,
   * because an owner in the middle of a write does not expect the end.
   */
  #cutOff(): void {
    const detail = `The peer has not taken ${this.#limits.maxBacklog} bytes of what it was sent`;
    setImmediate(() => this.#finish('flood', detail, { flood: 'backlog' }));
  }

  /** The owners of both ends have begun to say goodbye: no new call comes, those under way may finish. */
  draining(reason: string): void {
    if (this.life.state === 'open') this.life.draining(reason);
  }

  /** Sends CLOSE after everything that was written, then FIN, and waits for the peer's CLOSE, but not for long. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    this.draining('local-closed');
    this.#heartbeat.stop();
    this.#out.end();
    this.#closeTimer = this.#clock.after(this.#limits.closeTimeoutMs, () =>
      this.#finish('close-timeout', 'The peer did not answer CLOSE in time'),
    );
    this.#in.onData ??= nothing;
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
    if (this.#state === 'open') this.#out.end();
    this.#finish(reason, detail, { flush: true, linger: true });
  }

  /** Opens nothing more of what comes; what is written still goes out. `cut` or `destroy` comes after. */
  deafen(): void {
    this.#in.stop();
  }

  /** For the driver: the first record, so that the peer knows that the handshake was ours. */
  greet(): void {
    this.#out.control(PING, FIRST_PING);
  }

  /** For the driver: bytes that came with the last handshake message. */
  feed(bytes: Buffer): void {
    if (bytes.length > 0) this.#read(bytes);
  }

  /** The peer's first record has opened. The reading waits until the new owner has set onData. */
  #up(type: number): void {
    const onUp = this.#onUp as () => void;
    this.#onUp = undefined;
    this.life.opened();
    this.#in.pause();
    this.#socket.pause();
    this.#socket.cork();
    process.nextTick(() => this.#socket.uncork());
    onUp();
    if (this.role === 'initiator') return;
    this.#tickets.over();
    if (type !== PING) this.greet(); // the initiator waits for a record
  }

  #start(): void {
    if (this.#started || this.#state === 'closed') return;
    this.#started = true;
    this.#in.resume();
    if (this.closed) return;
    this.#socket.resume();
    this.#heartbeat.start();
  }

  #read(chunk: Buffer): void {
    this.#heartbeat.heard();
    this.#in.push(chunk);
  }

  /** The peer's CLOSE: nothing follows it, and ours is due if it has not gone yet. */
  #closed(): void {
    if (this.#state === 'closing') {
      this.#finish('local-closed', 'Closed from here, confirmed by the peer', { flush: true });
      return;
    }
    this.#out.end();
    this.#finish('peer-closed', 'The peer closed the connection', { flush: true });
  }

  #ended(): void {
    const where = this.#in.waiting ? ' in the middle of a record' : '';
    this.#finish('truncated', `The connection ended without CLOSE${where}`);
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
    this.#clock.clear(this.#closeTimer);
    this.#heartbeat.stop();
    this.#in.stop();
    this.#out.stop();
    if (this.#onUp !== undefined && this.session.mode !== RESUMPTION.id) this.session.key.wipe();
    this.#tickets.forget();
    if (flush) this.#letGo(linger);
    else this.#socket.destroy();
    // Before it is up, the driver says how it ends.
    if (this.#onUp === undefined) this.life.closed(reason);
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

function nothing(): void {}
