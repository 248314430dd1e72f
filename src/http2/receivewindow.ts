import { writeSettings, writeWindowUpdate } from './frame.ts';
import type { Outbox } from './outbox.ts';
import { SettingId } from './settings.ts';
import type { Stream } from './stream.ts';

/** Octets of a stream's window at its begin, while there is pressure. */
const NARROW = 8192;
/** Shares of `queueBytes`: with more than that held, windows are narrow; with less than this, wide again. */
const NARROW_FROM = 1 / 2;
const WIDE_BELOW = 1 / 4;

/** Octets held, in multiples of `queueBytes`, above which connection credit is withheld. */
const STOP = 4;

interface Stall {
  readonly passedOn: number;
  readonly since: number;
}

/**
 * The receiving half of flow control (RFC 9113 section 5.2), of the connection and its streams. Connection credit
 * comes back as soon as octets have been read, so that streams whose octets do not go on cannot stop the others;
 * stream credit follows what the owner has passed on. Both go back in bulk, at half a window.
 *
 * What bounds memory: a stream's window doubles only while it is drained and all windows together are within
 * `queueBytes`; up to where streams begin, as long as no more than that is held. When half of it is held, SETTINGS
 * take from every window what streams begin with above NARROW (section 6.9.2), so that thousands may stall; what comes
 * until the peer has heard of it is within the connection's window. If far more than `queueBytes` is held all the same,
 * the connection stops until some has gone.
 */
export class ReceiveWindow {
  readonly #out: Outbox;
  readonly #size: number;
  readonly #queueBytes: number;
  readonly #maxStreamWindow: number;
  readonly #wide: number;
  readonly #narrow: number;
  #announced: number; // SETTINGS_INITIAL_WINDOW_SIZE as last sent
  #initial: number; // the same, as the peer has acknowledged it
  #unacknowledged = 1; // SETTINGS frames; the first is sent by the connection
  #window: number;
  #unreturned = 0;
  #held = 0; // octets of all streams that their owners have not passed on
  #granted = 0; // window sizes of all open streams
  /** Streams that are over, but whose last octets have not been passed on. */
  readonly #ended = new Set<Stream>();
  /** Streams that were seen to hold octets by the last `stalled`, while there was pressure. */
  #stalls = new Map<Stream, Stall>();

  /** `size` is the connection's window, `initial` what streams begin with. */
  constructor(
    out: Outbox,
    size: number,
    initial: number,
    limits: { queueBytes: number; maxStreamWindow: number },
  ) {
    this.#out = out;
    this.#size = size;
    this.#window = size;
    this.#wide = initial;
    this.#narrow = Math.min(initial, NARROW);
    this.#announced = initial;
    this.#initial = initial;
    this.#queueBytes = limits.queueBytes;
    this.#maxStreamWindow = limits.maxStreamWindow;
  }

  /** Octets received that have not been passed on. */
  get held(): number {
    return this.#held;
  }

  /** DATA of `octets` has come, with its padding; false if that is beyond the connection's window. */
  accept(octets: number): boolean {
    this.#window -= octets;
    return this.#window >= 0;
  }

  /** The `body` of DATA of `octets` goes to the owner of its stream. */
  deliver(stream: Stream, octets: number, body: number): void {
    stream.hold(body);
    this.#held += body;
    if (this.#held > this.#queueBytes * NARROW_FROM) this.#announce(this.#narrow);
    this.discard(octets);
    if (body < octets) this.#payStream(stream, octets - body);
  }

  /** DATA of `octets` goes nowhere. */
  discard(octets: number): void {
    this.#unreturned += octets;
    this.#payConnection();
  }

  /** The owner of a stream has passed on `octets`. More than it holds are not counted. */
  credit(stream: Stream, octets: number): void {
    const released = stream.release(octets);
    if (released === 0) return;
    this.#held -= released;
    this.#payConnection();
    if (!stream.closed) this.#payStream(stream, released);
    else if (stream.held === 0) this.#ended.delete(stream);
  }

  #payConnection(): void {
    const owed = this.#unreturned;
    if (owed * 2 < this.#size || this.#held > STOP * this.#queueBytes) return;
    this.#unreturned = 0;
    this.#window += owed;
    writeWindowUpdate(this.#out, 0, owed);
  }

  #payStream(stream: Stream, octets: number): void {
    if (!stream.owe(octets)) return;
    const before = stream.receiveSize;
    let size = before;
    // The owner has passed on all there was, so a larger window would be used.
    if (stream.held === 0 && before < this.#maxStreamWindow) {
      const larger = Math.min(before * 2, this.#maxStreamWindow);
      const fits = this.#granted + larger - before <= this.#queueBytes;
      if (fits || (larger <= this.#wide && this.#held <= this.#queueBytes)) size = larger;
    }
    this.#granted += size - before;
    writeWindowUpdate(this.#out, stream.id, stream.refill(size));
  }

  /** One change at a time: the peer acknowledges each before the next. */
  #announce(initial: number): void {
    if (this.#announced === initial || this.#unacknowledged > 0) return;
    this.#announced = initial;
    this.#unacknowledged++;
    writeSettings(this.#out, [[SettingId.INITIAL_WINDOW_SIZE, initial]]);
  }

  /** Ends the pressure when it is over; called about once a second, so that windows do not flap. */
  relax(): void {
    if (this.#held < this.#queueBytes * WIDE_BELOW) this.#announce(this.#wide);
  }

  /** The peer has acknowledged SETTINGS; false if there were none to acknowledge. `open` are all open streams. */
  acknowledged(open: () => Iterable<Stream>): boolean {
    if (this.#unacknowledged === 0) return false;
    this.#unacknowledged--;
    const moved = this.#announced - this.#initial;
    if (moved === 0) return true;
    this.#initial = this.#announced;
    for (const stream of open()) {
      stream.moveReceiveWindow(moved);
      this.#granted += moved;
      // What was less than half a window may be more than one now, and the peer waits for it.
      this.#payStream(stream, 0);
    }
    return true;
  }

  /** The window that a stream begins with. */
  get initial(): number {
    return this.#initial;
  }

  opened(stream: Stream): void {
    this.#granted += stream.receiveSize;
  }

  /** The stream is over; what it holds is still to be passed on. */
  ended(stream: Stream): void {
    this.#granted -= stream.receiveSize;
    if (stream.held > 0) this.#ended.add(stream);
  }

  /** What the stream holds will not be passed on. */
  abandon(stream: Stream): void {
    if (stream.held === 0) return;
    this.#held -= stream.release(stream.held);
    this.#ended.delete(stream);
    this.#payConnection();
  }

  /**
   * Which of the streams that are `open` (asked for under pressure only) and of those that are over have held octets for
   * `stallMs` without passing any on; none while no more than `queueBytes` are held in all. Counts from when a call first
   * saw them so.
   */
  stalled(open: () => Iterable<Stream>, now: number, stallMs: number): Stream[] {
    const before = this.#stalls;
    this.#stalls = new Map();
    const found: Stream[] = [];
    if (this.#held <= this.#queueBytes) return found;
    for (const streams of [open(), this.#ended]) {
      for (const stream of streams) {
        if (stream.held === 0) continue;
        const seen = before.get(stream);
        const stall = seen?.passedOn === stream.passedOn ? seen : { passedOn: stream.passedOn, since: now };
        this.#stalls.set(stream, stall);
        if (now - stall.since >= stallMs) found.push(stream);
      }
    }
    return found;
  }
}
