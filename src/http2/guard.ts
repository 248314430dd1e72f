import { ConnectionError, ErrorCode, type FloodKind } from './errors.ts';

/** Bounds on what a peer may make us do; crossing one ends the connection with ENHANCE_YOUR_CALM. */
export interface GuardLimits {
  /** Frames of one kind (PING, SETTINGS, PRIORITY, empty DATA) in a window ... */
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

/** Counts one kind of frame in fixed windows. */
class FrameCounter {
  #windowStart = Number.NEGATIVE_INFINITY;
  #count = 0;

  /** Counts one at `now` and says how many this window has had. */
  add(now: number, windowMs: number): number {
    if (now - this.#windowStart >= windowMs) {
      this.#windowStart = now;
      this.#count = 0;
    }
    return ++this.#count;
  }

  reset(): void {
    this.#count = 0;
  }
}

/** The abuse counters of one connection. */
export class Guard {
  readonly #limits: GuardLimits;
  readonly #monotonic: () => number;
  readonly #pings = new FrameCounter();
  readonly #settings = new FrameCounter();
  readonly #priorities = new FrameCounter();
  readonly #empties = new FrameCounter();
  #control = 0;
  #opened = 0;
  #resets = 0;
  #provoked = 0;
  #refilledAt: number;

  constructor(limits: GuardLimits, monotonic: () => number) {
    this.#limits = limits;
    this.#monotonic = monotonic;
    this.#refilledAt = monotonic();
  }

  streamOpened(): void {
    if (!('maxRatio' in this.#limits.resets)) return;
    // Halved together with the resets, so that the ratio is of the recent streams only.
    if (++this.#opened <= 4 * this.#limits.resetBurst) return;
    this.#opened >>>= 1;
    this.#resets >>>= 1;
    this.#provoked >>>= 1;
  }

  /** HEADERS or DATA came: a PING that follows real traffic is a keepalive, not a flood. */
  progress(): void {
    this.#pings.reset();
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

  emptyFrame(): void {
    this.#check(this.#empties, 'empty-frame');
  }

  /** A frame that we owe the peer was queued while it does not read. */
  controlQueued(): void {
    if (++this.#control > this.#limits.controlQueue)
      this.#crossed('control-queue', this.#limits.controlQueue);
  }

  drained(): void {
    this.#control = 0;
  }

  /** The peer reset a stream of its own (CVE-2023-44487). */
  peerReset(): void {
    this.#resets++;
    this.#checkResets(this.#resets, 'rapid-reset');
  }

  /** The peer made us reset a stream by an error of its own (CVE-2025-8671). */
  provokedReset(): void {
    this.#provoked++;
    this.#checkResets(this.#provoked, 'provoked-reset');
  }

  #checkResets(count: number, kind: FloodKind): void {
    const { resetBurst, resets } = this.#limits;
    if (count <= resetBurst) return;
    if ('maxRatio' in resets) {
      if (count > this.#opened * resets.maxRatio) this.#crossed(kind, resetBurst);
      return;
    }
    const now = this.#monotonic();
    const forgiven = Math.floor(((now - this.#refilledAt) * resets.perSecond) / 1000);
    if (forgiven > 0) {
      this.#refilledAt = now;
      this.#resets = Math.max(0, this.#resets - forgiven);
      this.#provoked = Math.max(0, this.#provoked - forgiven);
    }
    if ((kind === 'rapid-reset' ? this.#resets : this.#provoked) > resetBurst)
      this.#crossed(kind, resetBurst);
  }

  #check(counter: FrameCounter, kind: FloodKind): void {
    if (counter.add(this.#monotonic(), this.#limits.floodWindowMs) > this.#limits.floodFrames)
      this.#crossed(kind, this.#limits.floodFrames);
  }

  #crossed(kind: FloodKind, limit: number): never {
    throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, `${kind} limit of ${limit} crossed`, kind);
  }
}
