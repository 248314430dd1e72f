import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { AnyAuditAdapter } from './adapter.ts';
import { AuditError, reasonOf } from './errors.ts';
import type { AuditEvent, AuditEventInput, AuditEventType } from './event.ts';
import type { EventFormat } from './line.ts';
import { LineBuffer } from './linebuffer.ts';

/** One recorded event, shared by the queues of all adapters. Made into an object once, when first needed. */
export class QueuedEvent {
  input: AuditEventInput;
  readonly timeMs: number;
  readonly seq: number;
  #event: AuditEvent | undefined;

  constructor(input: AuditEventInput, timeMs: number, seq: number) {
    this.input = input;
    this.timeMs = timeMs;
    this.seq = seq;
  }

  event(format: EventFormat): AuditEvent {
    this.#event ??= format.event(this.input, this.timeMs, this.seq);
    return this.#event;
  }
}

export interface DeliveryLimits {
  /**
   * Events waiting for one adapter (and a few `audit.*` more). Those that strangers cause at will are dropped from half of
   * it on and those of calls from nine tenths, so that others still fit.
   */
  readonly queueLimit: number;
  /** Events in one write. */
  readonly batchSize: number;
  /** How long a write may take before the adapter is suspended. */
  readonly writeDeadlineMs: number;
  /** The first pause of a failing adapter; doubles up to `retryMaxMs`. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

/** What a Delivery tells its recorder, which makes events of it. Called at most about once a second each. */
export interface DeliveryObserver {
  onDropped(adapter: string, count: number, sinceMs: number, untilMs: number): void;
  onFailed(adapter: string, error: string, retryMs: number): void;
  onRecovered(adapter: string, downMs: number): void;
}

export interface AdapterStats {
  readonly name: string;
  readonly state: 'working' | 'suspended' | 'closed';
  /** Events that wait or are being written. */
  readonly queued: number;
  readonly delivered: number;
  /** Events that this adapter will never get. */
  readonly dropped: number;
  /** Writes that threw, rejected or took too long. */
  readonly failures: number;
  readonly lastError: string | undefined;
}

interface Attempt {
  /** Count of the last event in it, from the beginning of the run. */
  readonly end: number;
  /** It leaves the oldest event out, to see whether that is what the adapter chokes on. */
  readonly probe: boolean;
  deadline: TimerHandle | undefined;
}

interface Waiter {
  readonly end: number;
  /** Whether a failure of the adapter ends the wait. */
  readonly untilFailure: boolean;
  readonly resolve: () => void;
}

/**
 * After an event was refused this often while alone in its batch, its successor is tried: if the adapter takes that, the
 * event is itself the cause and dropped, and counted; if not, the adapter is at fault and both stay.
 */
const MAX_ATTEMPTS_ALONE = 8;
/** Between two attempts once the sidecar shuts down. */
const CLOSING_RETRY_MS = 250;
const DROP_REPORT_MS = 1000;
/** What anybody can cause who reaches a port. */
const OF_STRANGERS: ReadonlySet<AuditEventType> = new Set([
  'handshake.failed',
  'connection.refused',
  'pod.injected',
  'pod.refused',
  'tls.detected',
  'admin.refused',
  'svid.refused',
  'discovery.refused',
  'exposure.refused',
]);
/** Events about the recorder itself that fit into a queue which is full of others. */
const OWN_EVENTS = 16;

/**
 * The queue of one adapter and what guards the rest of the sidecar against it. An adapter is `working`, or after a
 * failed write `suspended` until its pause is over. Events leave the queue once a write that held them succeeded,
 * even if it did so after its deadline; so an adapter may get an event twice, never one after its successor.
 */
export class Delivery {
  readonly name: string;
  readonly #adapter: AnyAuditAdapter;
  readonly #format: EventFormat;
  readonly #clock: Clock;
  readonly #limits: DeliveryLimits;
  readonly #observer: DeliveryObserver;

  #queue: QueuedEvent[] = [];
  #head = 0; // index in #queue of the oldest event
  #accepted = 0;
  #done = 0; // delivered or given up; #accepted - #done are queued
  #givenUp = 0;
  #dropped = 0;
  #batchSize: number;

  #attempt: Attempt | undefined;
  #scheduled: NodeJS.Immediate | undefined;
  #lines: LineBuffer | undefined;
  #linesLent = false;
  #retryTimer: TimerHandle | undefined;
  #retryMs: number;
  #attemptsAlone = 0;
  #failures = 0;
  #lastError: string | undefined;
  #downSince: number | undefined; // monotonic
  #closing = false;
  #closed = false;
  #waiters: Waiter[] = [];

  #unreported = 0;
  #unreportedSince = 0;
  #unreportedUntil = 0;
  #lastReport = Number.NEGATIVE_INFINITY; // monotonic

  constructor(
    name: string,
    adapter: AnyAuditAdapter,
    format: EventFormat,
    clock: Clock,
    limits: DeliveryLimits,
    observer: DeliveryObserver,
  ) {
    this.name = name;
    this.#adapter = adapter;
    this.#format = format;
    this.#clock = clock;
    this.#limits = limits;
    this.#observer = observer;
    this.#batchSize = limits.batchSize;
    this.#retryMs = limits.retryMinMs;
  }

  get queued(): number {
    return this.#accepted - this.#done;
  }

  stats(): AdapterStats {
    return {
      name: this.name,
      state: this.#closed ? 'closed' : this.#downSince === undefined ? 'working' : 'suspended',
      queued: this.queued,
      delivered: this.#done - this.#givenUp,
      dropped: this.#dropped,
      failures: this.#failures,
      lastError: this.#lastError,
    };
  }

  /** Queues an event, or drops and counts it. Writes nothing yet. */
  offer(event: QueuedEvent): void {
    if (this.#closed || this.queued >= this.#limitFor(event.input.type)) {
      this.#drop(event);
      return;
    }
    this.#queue.push(event);
    this.#accepted++;
  }

  /** Writes the oldest events unless a write is under way or the adapter is suspended. Never throws. */
  pump(): void {
    if (this.#attempt !== undefined || this.#retryTimer !== undefined || this.#closed) return;
    const probe = this.#attemptsAlone >= MAX_ATTEMPTS_ALONE && this.queued > 1;
    const count = probe ? 1 : Math.min(this.#batchSize, this.queued);
    if (count === 0) return;
    const first = this.#head + (probe ? 1 : 0);
    const batch = this.#queue.slice(first, first + count);
    const attempt: Attempt = { end: this.#done + (probe ? 2 : count), probe, deadline: undefined };
    this.#attempt = attempt;
    try {
      const written = this.#write(batch);
      if (typeof written?.then !== 'function') {
        this.#succeeded(attempt);
        return;
      }
      attempt.deadline = this.#clock.after(this.#limits.writeDeadlineMs, () =>
        this.#failed(attempt, `did not take ${count} events within ${this.#limits.writeDeadlineMs} ms`, true),
      );
      written.then(
        () => this.#succeeded(attempt),
        (error: unknown) => this.#failed(attempt, reasonOf(error)),
      );
    } catch (error) {
      this.#failed(attempt, reasonOf(error));
    }
  }

  /**
   * Resolves once the adapter took everything that is queued now and made it durable, or failed, or missed the
   * deadline of its flush. Never rejects.
   */
  async flush(): Promise<void> {
    if (this.#downSince !== undefined) return;
    this.pump();
    await this.#passed(this.#accepted, true);
    if (this.#downSince === undefined) {
      await this.#bounded('flush', this.#limits.writeDeadlineMs);
    }
  }

  /** Tells the adapter that its output was moved away. */
  async reopen(): Promise<void> {
    await this.#bounded('reopen', this.#limits.writeDeadlineMs);
  }

  /** From now on a suspended adapter is tried again at once and often. Resolves when its queue is empty. */
  drain(): Promise<void> {
    this.#closing = true;
    this.#retryMs = CLOSING_RETRY_MS;
    this.#retryNow();
    this.pump();
    return this.#passed(this.#accepted, false);
  }

  /** Drops what is still queued, and reports it. Nothing is written any more. Returns how many were dropped. */
  abandon(): number {
    if (this.#closed) return 0;
    const left = this.queued;
    for (const event of this.#queue.slice(this.#head)) this.#drop(event);
    this.#closed = true;
    this.#queue = [];
    this.#head = 0;
    this.#done = this.#accepted;
    this.#givenUp += left;
    this.#clock.clear(this.#retryTimer);
    this.#clock.clear(this.#attempt?.deadline);
    this.#retryTimer = undefined;
    this.#attempt = undefined;
    clearImmediate(this.#scheduled);
    this.#reportDrops();
    this.#wake(false);
    return left;
  }

  /** The adapter's last call; resolves when it is done, or after `ms`. Never rejects. */
  async closeAdapter(ms: number): Promise<void> {
    await this.#bounded('close', ms);
  }

  /** Strangers must not crowd out the rest; calls are many; what the recorder says of itself must not be lost with them. */
  #limitFor(type: AuditEventType): number {
    const limit = this.#limits.queueLimit;
    if (OF_STRANGERS.has(type)) return Math.ceil(limit / 2);
    if (type.startsWith('call.')) return Math.max(1, limit - Math.ceil(limit / 10));
    return type.startsWith('audit.') ? limit + OWN_EVENTS : limit;
  }

  #write(batch: readonly QueuedEvent[]): void | PromiseLike<void> {
    if ('writeLines' in this.#adapter) {
      const lines = this.#takeLines();
      for (const event of batch) this.#format.write(lines, event.input, event.timeMs, event.seq);
      return this.#adapter.writeLines(lines.octets);
    }
    return this.#adapter.write(batch.map((event) => event.event(this.#format)));
  }

  /** The buffer of the write before, unless that was given up on: then it may still be in the adapter's hands. */
  #takeLines(): LineBuffer {
    if (this.#lines === undefined || this.#linesLent) this.#lines = new LineBuffer();
    else this.#lines.clear();
    this.#linesLent = true;
    return this.#lines;
  }

  #succeeded(attempt: Attempt): void {
    this.#clock.clear(attempt.deadline);
    if (this.#closed) return;
    if (this.#attempt === attempt) this.#linesLent = false;
    if (attempt.probe && attempt.end - this.#done === 2) {
      this.#drop(this.#queue[this.#head]);
      this.#givenUp++;
    }
    if (attempt.end > this.#done) this.#forget(attempt.end - this.#done);
    if (this.#attempt === attempt) this.#attempt = undefined;
    this.#attemptsAlone = 0;
    this.#batchSize = Math.min(this.#limits.batchSize, this.#batchSize * 2);
    this.#retryMs = this.#closing ? CLOSING_RETRY_MS : this.#limits.retryMinMs;
    this.#clock.clear(this.#retryTimer);
    this.#retryTimer = undefined;
    if (this.#downSince !== undefined) {
      const downMs = this.#clock.monotonic() - this.#downSince;
      this.#downSince = undefined;
      this.#observer.onRecovered(this.name, Math.round(downMs));
    }
    this.#reportDrops();
    this.#wake(false);
    if (this.queued > 0) this.#continue();
  }

  #failed(attempt: Attempt, error: string, unanswered = false): void {
    this.#clock.clear(attempt.deadline);
    if (this.#closed || this.#attempt !== attempt) return;
    this.#attempt = undefined;
    this.#failures++;
    this.#lastError = error.slice(0, 1024);
    if (attempt.probe) this.#attemptsAlone = 0;
    else if (this.#batchSize > 1) {
      this.#batchSize = Math.max(1, Math.min(this.#batchSize, attempt.end - this.#done) >> 1);
    } else if (!unanswered && attempt.end > this.#done) this.#attemptsAlone++;
    const pause = this.#retryMs;
    if (!this.#closing) this.#retryMs = Math.min(this.#retryMs * 2, this.#limits.retryMaxMs);
    this.#retryTimer = this.#clock.after(pause, () => this.#retryNow());
    if (this.#downSince === undefined) {
      this.#downSince = this.#clock.monotonic();
      this.#observer.onFailed(this.name, this.#lastError, pause);
    }
    this.#wake(true);
  }

  #retryNow(): void {
    this.#clock.clear(this.#retryTimer);
    this.#retryTimer = undefined;
    this.pump();
  }

  /** The next batch goes out in a macrotask of its own, so that a long queue does not hold up calls. */
  #continue(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.pump();
    });
  }

  #forget(count: number): void {
    this.#done += count;
    this.#head += count;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }

  #drop(event: QueuedEvent): void {
    this.#dropped++;
    const input = event.input;
    // A report about this adapter that it did not get: what the report counted is unreported again.
    const report = input.type === 'audit.dropped' && input.adapter === this.name ? input : undefined;
    if (report !== undefined) this.#unreportedSince = Date.parse(report.since);
    else if (this.#unreported === 0) this.#unreportedSince = event.timeMs;
    this.#unreportedUntil = event.timeMs;
    this.#unreported += 1 + (report?.count ?? 0);
  }

  #reportDrops(): void {
    if (this.#unreported === 0) return;
    const now = this.#clock.monotonic();
    if (this.queued > 0 && now - this.#lastReport < DROP_REPORT_MS) return;
    this.#lastReport = now;
    const count = this.#unreported;
    this.#unreported = 0;
    this.#observer.onDropped(this.name, count, this.#unreportedSince, this.#unreportedUntil);
  }

  #passed(end: number, untilFailure: boolean): Promise<void> {
    if (this.#done >= end || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiters.push({ end, untilFailure, resolve });
    });
  }

  #wake(failed: boolean): void {
    if (this.#waiters.length === 0) return;
    const over = (waiter: Waiter): boolean =>
      this.#closed || this.#done >= waiter.end || (failed && waiter.untilFailure);
    const ready = this.#waiters.filter(over);
    this.#waiters = this.#waiters.filter((waiter) => !over(waiter));
    for (const waiter of ready) waiter.resolve();
  }

  /** Runs an optional method of the adapter; a failure is noted in the stats, not thrown. */
  async #bounded(method: 'flush' | 'reopen' | 'close', ms: number): Promise<void> {
    let timer: TimerHandle | undefined;
    try {
      const done = this.#adapter[method]?.();
      if (typeof done?.then !== 'function') return;
      const late = new Promise<never>((_, reject) => {
        timer = this.#clock.after(ms, () =>
          reject(new AuditError('adapter-timeout', `${method} did not end within ${ms} ms`)),
        );
      });
      await Promise.race([done, late]);
    } catch (error) {
      this.#failures++;
      this.#lastError = `${method}: ${reasonOf(error)}`.slice(0, 1024);
    } finally {
      this.#clock.clear(timer);
    }
  }
}
