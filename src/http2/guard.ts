import { ConnectionError, ErrorCode, type FloodKind } from './errors.ts';

/** Bounds on what a peer may make us do; crossing one ends the connection with ENHANCE_YOUR_CALM. */
export interface GuardLimits {
  /** Frames of any kind in a second: more are a flood whatever they are. */
  framesPerSecond: number;
  /** Frames of one kind (PING, SETTINGS, PRIORITY, GOAWAY, empty DATA, ...) in a window ... */
  floodFrames: number;
  /** ... of this many ms. */
  floodWindowMs: number;
  /** Resets that are always forgiven. */
  resetBurst: number;
  /** What decides beyond the burst: the share of recent streams that were reset, or resets a second. */
  resets: { maxRatio: number } | { perSecond: number };
  /** Control frames that wait for a peer which does not read. */
  controlQueue: number;
}

/** WINDOW_UPDATEs that go with one HEADERS or DATA frame of either side: receivers pay in small coin, but not in dust. */
const UPDATES_A_FRAME = 10;
/** Frames that may come late for one stream, when it is over. */
const LATE_A_STREAM = 4;
/** Where a share of the streams decides, it may be above its limit by this part of the burst: half is half also at random. */
const LUCK = 1 / 4;
/** Where a share of the streams decides, so many a second do no harm whatever their share. */
const HARMLESS_A_SECOND = 100;
/** Frames that are allowed beforehand at most. */
const MOST_ALLOWED = 1_000_000;

/** Counts one kind of frame in fixed windows. */
class FrameCounter {
  #windowStart = Number.NEGATIVE_INFINITY;
  #count = 0; // below 0: so many more are allowed at any time

  /** Counts one at `now` and says how many this window has had. */
  add(now: number, windowMs: number): number {
    if (this.#count < 0) return ++this.#count;
    if (now - this.#windowStart >= windowMs) {
      this.#windowStart = now;
      this.#count = 0;
    }
    return ++this.#count;
  }

  reset(): void {
    this.#count = 0;
  }

  /** So many more are no flood, whenever they come. */
  allow(frames: number): void {
    if (this.#count > -MOST_ALLOWED) this.#count -= frames;
  }
}

/** Counts resets of one cause: a bucket that leaks by time, and where a share of the streams decides, by streams opened. */
class ResetCounter {
  #count = 0;
  #leakedAt: number;

  constructor(now: number) {
    this.#leakedAt = now;
  }

  halve(): void {
    this.#count >>>= 1;
  }

  /** Forgives `perSecond`, then counts one at `now` and says how many there are. */
  addLeaking(now: number, perSecond: number): number {
    const forgiven = Math.floor(((now - this.#leakedAt) * perSecond) / 1000);
    if (forgiven >= this.#count) {
      this.#count = 0;
      this.#leakedAt = now;
    } else if (forgiven > 0) {
      this.#count -= forgiven;
      this.#leakedAt += (forgiven * 1000) / perSecond;
    }
    return ++this.#count;
  }
}

/** The abuse counters of one connection. What is counted while a frame is read throws ConnectionError. */
export class Guard {
  readonly #limits: GuardLimits;
  readonly #monotonic: () => number;
  readonly #pings = new FrameCounter();
  readonly #settings = new FrameCounter();
  readonly #priorities = new FrameCounter();
  readonly #goaways = new FrameCounter();
  readonly #empties = new FrameCounter();
  readonly #unknown = new FrameCounter();
  readonly #updates = new FrameCounter();
  readonly #late = new FrameCounter();
  readonly #resets: ResetCounter;
  readonly #provoked: ResetCounter;
  #opened = 0;
  #control = 0;
  #frames = 0;
  #framesSince: number;

  constructor(limits: GuardLimits, monotonic: () => number) {
    this.#limits = limits;
    this.#monotonic = monotonic;
    this.#resets = new ResetCounter(monotonic());
    this.#provoked = new ResetCounter(monotonic());
    this.#framesSince = monotonic();
  }

  /** Any frame. The clock is asked only when as many have come as a second may bring: who stays below is never told off. */
  frame(): void {
    if (++this.#frames > this.#limits.framesPerSecond) this.#checkFrames();
  }

  #checkFrames(): void {
    const now = this.#monotonic();
    if (now - this.#framesSince < 1000) throw crossed('frames', this.#limits.framesPerSecond);
    this.#framesSince = now;
    this.#frames = 1;
  }

  /** A stream was opened, by either side. */
  streamOpened(): void {
    this.#late.allow(LATE_A_STREAM);
    // Halved together with the resets, so that the ratio is of the recent streams only.
    if (++this.#opened <= 4 * this.#limits.resetBurst) return;
    this.#opened >>>= 1;
    if (!('maxRatio' in this.#limits.resets)) return;
    this.#resets.halve();
    this.#provoked.halve();
  }

  /** HEADERS or DATA, either way: a PING that goes with real traffic is a measurement or a keepalive, not a flood. */
  progress(): void {
    this.#pings.reset();
    this.#unknown.reset();
    this.#updates.allow(UPDATES_A_FRAME);
  }

  ping(): void {
    this.#check(this.#pings, 'ping');
  }

  settings(): void {
    this.#check(this.#settings, 'settings');
  }

  priority(): void {
    this.#check(this.#priorities, 'priority');
  }

  goaway(): void {
    this.#check(this.#goaways, 'goaway');
  }

  emptyFrame(): void {
    this.#check(this.#empties, 'empty-frame');
  }

  /** A frame of a type that we do not know: ignored, but read. */
  unknownFrame(): void {
    this.#check(this.#unknown, 'unknown-frame');
  }

  windowUpdate(): void {
    this.#check(this.#updates, 'window-update');
  }

  /** RST_STREAM or HEADERS for a stream that is over. */
  lateFrame(): void {
    this.#check(this.#late, 'closed-stream');
  }

  /** A frame that we owe the peer was queued while it does not read. Does not throw: owners may be the cause. */
  controlQueued(): void {
    this.#control++;
  }

  drained(): void {
    this.#control = 0;
  }

  /** Too many frames wait for a peer that does not read. */
  get overloaded(): boolean {
    return this.#control > this.#limits.controlQueue;
  }

  /** What `overloaded` means for the connection. */
  overload(): ConnectionError {
    return crossed('control-queue', this.#limits.controlQueue);
  }

  /** The peer reset a stream of its own (CVE-2023-44487). */
  peerReset(): void {
    this.#checkReset(this.#resets, 'rapid-reset');
  }

  /** The peer made us reset a stream by an error of its own (CVE-2025-8671). */
  provokedReset(): void {
    this.#checkReset(this.#provoked, 'provoked-reset');
  }

  #checkReset(counter: ResetCounter, kind: FloodKind): void {
    const { resetBurst, resets } = this.#limits;
    if ('maxRatio' in resets) {
      const count = counter.addLeaking(this.#monotonic(), HARMLESS_A_SECOND);
      const share = this.#opened * resets.maxRatio + resetBurst * LUCK;
      if (count > resetBurst && count > share) throw crossed(kind, resetBurst);
    } else if (counter.addLeaking(this.#monotonic(), resets.perSecond) > resetBurst) {
      throw crossed(kind, resetBurst);
    }
  }

  #check(counter: FrameCounter, kind: FloodKind): void {
    const { floodFrames, floodWindowMs } = this.#limits;
    if (counter.add(this.#monotonic(), floodWindowMs) > floodFrames) throw crossed(kind, floodFrames);
  }
}

function crossed(kind: FloodKind, limit: number): ConnectionError {
  return new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, `${kind} limit of ${limit} crossed`, { kind });
}
