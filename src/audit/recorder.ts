import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { AnyAuditAdapter } from './adapter.ts';
import { type AdapterStats, Delivery, type DeliveryObserver, QueuedEvent } from './delivery.ts';
import type { AuditEventInput, AuditEventType } from './event.ts';
import { bounded, EventFormat } from './line.ts';

export interface RecorderOptions {
  readonly clock: Clock;
  /** Stands in every event: `instance` names this run, `spiffeId` this sidecar. */
  readonly source: { readonly instance: string; readonly spiffeId: string };
  /** The recorder closes them. Where two have the same name, the second is called `name#2`. */
  readonly adapters: readonly AnyAuditAdapter[];
  /** Events that may wait for one adapter. Default 10,000. */
  readonly queueLimit?: number;
  /** Events in one write. Default 256. */
  readonly batchSize?: number;
  /** How long events are gathered before they are written. Default 20. */
  readonly gatherMs?: number;
  /** How long a write may take before its adapter is suspended. Default 10,000. */
  readonly writeDeadlineMs?: number;
  /** Pauses of a failing adapter: the first (default 1,000), doubling up to the longest (default 60,000). */
  readonly retryMinMs?: number;
  readonly retryMaxMs?: number;
}

export interface RecorderStats {
  /** Events recorded, with the recorder's own. */
  readonly recorded: number;
  /** Events that came after close(); nobody has them. */
  readonly late: number;
  readonly adapters: readonly AdapterStats[];
}

/** Sees events as they are distributed, gathered like an adapter's but without a queue. Neither method may throw. */
export interface EventWatcher {
  wants(event: AuditEventInput): boolean;
  take(event: WatchedEvent): void;
}

export interface WatchedEvent {
  readonly type: AuditEventType;
  /** Milliseconds since the epoch. */
  readonly timeMs: number;
  readonly seq: number;
  /** The event as one JSON object. */
  readonly line: string;
}

/** What an adapter never got by the end of the shutdown. */
export interface Undelivered {
  readonly adapter: string;
  readonly count: number;
  readonly error: string | undefined;
}

/** Of the time that close() has, what is kept for the notices about others and for closing the outputs. */
const CLOSING_SHARE = 0.25;
/** So many events do not wait for more. */
const GATHERED = 64;

/**
 * The way in for audit events. `record` only appends to an array; events are stamped there, gathered for some
 * milliseconds and written in a later macrotask, each adapter from a bounded queue of its own, so that neither a slow nor
 * a broken adapter reaches the caller or another adapter. What an adapter cannot take is counted, and said in an
 * `audit.dropped` event as soon as it takes events again.
 */
export class Recorder {
  readonly #clock: Clock;
  readonly #deliveries: readonly Delivery[];
  readonly #watchers = new Set<EventWatcher>();
  readonly #format: EventFormat;
  readonly #gatherMs: number;
  readonly #queueLimit: number;
  readonly #batchSize: number;
  #gathered: QueuedEvent[] = [];
  #timer: TimerHandle | undefined;
  #seq = 0;
  #late = 0;
  #closed: Promise<readonly Undelivered[]> | undefined;
  #sealed = false;

  constructor(options: RecorderOptions) {
    this.#clock = options.clock;
    this.#gatherMs = options.gatherMs ?? 20;
    this.#queueLimit = options.queueLimit ?? 10_000;
    this.#batchSize = options.batchSize ?? 256;
    const format = new EventFormat(options.source);
    this.#format = format;
    const limits = {
      queueLimit: this.#queueLimit,
      batchSize: this.#batchSize,
      writeDeadlineMs: options.writeDeadlineMs ?? 10_000,
      retryMinMs: options.retryMinMs ?? 1_000,
      retryMaxMs: options.retryMaxMs ?? 60_000,
    };
    const observer: DeliveryObserver = {
      onDropped: (adapter, count, since, until) =>
        this.record({ type: 'audit.dropped', adapter, count, since: iso(since), until: iso(until) }),
      onFailed: (adapter, error, retryMs) =>
        this.record({ type: 'audit.adapter-failed', adapter, error, retryMs }),
      onRecovered: (adapter, downMs) => this.record({ type: 'audit.adapter-recovered', adapter, downMs }),
    };
    const names = new Set<string>();
    this.#deliveries = options.adapters.map((adapter) => {
      const name = uniqueName(adapter.name, names);
      return new Delivery(name, adapter, format, this.#clock, limits, observer);
    });
  }

  /** False while nobody listens, neither an adapter nor a watcher: then nothing needs to build events at all. */
  get active(): boolean {
    return this.#deliveries.length > 0 || this.#watchers.size > 0;
  }

  /** Tells a watcher of every event that it wants, from the next one on. Returns a function that ends that. */
  watch(watcher: EventWatcher): () => void {
    this.#deliver(); // what came before is not for it
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** Takes the event over (the caller does not change it afterwards). Never throws, never blocks. */
  record(event: AuditEventInput): void {
    if (!this.active) return;
    if (this.#sealed) {
      this.#late++;
      return;
    }
    if (this.#gathered.length >= this.#queueLimit) this.#distribute();
    this.#gathered.push(new QueuedEvent(event, this.#clock.now(), ++this.#seq));
    if (this.#timer === undefined) {
      this.#timer = this.#clock.after(this.#gatherMs, () => this.#deliver());
    } else if (this.#gathered.length === GATHERED) {
      // Events that wait long outlive the collector's young generation, which costs more than all else about them.
      setImmediate(() => this.#deliver());
    }
  }

  stats(): RecorderStats {
    return {
      recorded: this.#seq,
      late: this.#late,
      adapters: this.#deliveries.map((delivery) => {
        const stats = delivery.stats();
        return { ...stats, queued: stats.queued + this.#gathered.length };
      }),
    };
  }

  /** Resolves when every adapter took what was recorded before, or failed to. Never rejects. */
  async flush(): Promise<void> {
    this.#deliver();
    await Promise.all(this.#deliveries.map((delivery) => delivery.flush()));
  }

  /** Tells every adapter that its output may have been moved away (log rotation, SIGHUP). Never rejects. */
  async reopen(): Promise<void> {
    await Promise.all(this.#deliveries.map((delivery) => delivery.reopen()));
  }

  /**
   * Delivers what was accepted, closes the adapters, and takes no further event. After `deadlineMs` it gives up on
   * what is left, tells the other adapters so, and returns it. Never rejects; a second call returns the first's result.
   */
  close(deadlineMs: number): Promise<readonly Undelivered[]> {
    this.#closed ??= this.#close(deadlineMs);
    return this.#closed;
  }

  async #close(deadlineMs: number): Promise<readonly Undelivered[]> {
    const reserve = deadlineMs * CLOSING_SHARE;
    await this.#drained(deadlineMs - reserve);
    const undelivered: Undelivered[] = [];
    this.#abandon(
      this.#deliveries.filter((delivery) => delivery.queued > 0),
      undelivered,
    );
    await this.#drained(reserve / 2); // the others learn of it
    this.#sealed = true;
    this.#clock.clear(this.#timer);
    this.#abandon(this.#deliveries, undelivered);
    await Promise.all(this.#deliveries.map((delivery) => delivery.closeAdapter(reserve / 2)));
    return undelivered;
  }

  #abandon(deliveries: readonly Delivery[], undelivered: Undelivered[]): void {
    for (const delivery of deliveries) {
      const { name, lastError } = delivery.stats();
      const count = delivery.abandon();
      if (count > 0) undelivered.push({ adapter: name, count, error: lastError });
    }
  }

  /** Resolves when all queues are empty, or after `ms`. */
  #drained(ms: number): Promise<void> {
    this.#distribute();
    return new Promise((resolve) => {
      const timer = this.#clock.after(ms, resolve);
      const drain = async (): Promise<void> => {
        await Promise.all(this.#deliveries.map((delivery) => delivery.drain()));
        // Recoveries and drops are themselves reported while the queues drain.
        if (this.#gathered.length > 0) {
          this.#distribute();
          await Promise.all(this.#deliveries.map((delivery) => delivery.drain()));
        }
        this.#clock.clear(timer);
        resolve();
      };
      void drain();
    });
  }

  #deliver(): void {
    this.#distribute();
    for (const delivery of this.#deliveries) delivery.pump();
  }

  /** Moves what was gathered into the adapters' queues. Foreign texts are bounded here: from now on they may wait long. */
  #distribute(): void {
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
    const events = this.#gathered;
    this.#gathered = [];
    for (const event of events) {
      event.input = bounded(event.input);
      for (const delivery of this.#deliveries) delivery.offer(event);
      if (this.#watchers.size > 0) this.#show(event);
    }
  }

  #show(event: QueuedEvent): void {
    let line: string | undefined;
    for (const watcher of [...this.#watchers]) {
      if (!watcher.wants(event.input)) continue;
      line ??= this.#format.plainLine(event.input, event.timeMs, event.seq).trimEnd();
      watcher.take({ type: event.input.type, timeMs: event.timeMs, seq: event.seq, line });
    }
  }
}

function uniqueName(name: string, taken: Set<string>): string {
  let unique = name;
  for (let n = 2; taken.has(unique); n++) unique = `${name}#${n}`;
  taken.add(unique);
  return unique;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
