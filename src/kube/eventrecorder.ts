import { randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import { type Logger, silentLogger } from '../telemetry/log.ts';
import type { KubeClient } from './client/client.ts';
import { KubeError, quotable } from './client/errors.ts';
import { collectionPath, EVENTS, objectPath } from './client/resource.ts';
import { microTime } from './microtime.ts';
import type { KubeEvent, ObjectReference } from './objects.ts';

const MAX_SERIES = 1000; // that repetitions are counted for
const MAX_WAITING = 256;
const MAX_NOTE = 1024; // octets, by the API; as those of the next two
const MAX_WORD = 128;
/** What repeats is told again at most so often ... */
const REPEAT_MS = 60_000;
/** ... and is told as something new after so long without it. */
const FORGET_MS = 6 * 60_000;
/** One a second on the average, ten at once. */
const SPACING_MS = 1000;
const BURST = 10;
const ATTEMPTS = 3;
const DEADLINE_MS = 2000;

/** Something that the people who look after an object should see among its events. */
export interface Happening {
  readonly regarding: ObjectReference;
  readonly type: 'Normal' | 'Warning';
  /** A word in CamelCase for programs, as `PlaintextExposed`. */
  readonly reason: string;
  /** What was done, or not done, as `Inject`. */
  readonly action: string;
  /** A sentence for people: what, where, what to do. */
  readonly note: string;
}

export interface EventRecorderOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  /** Name of the pod that reports. */
  readonly instance: string;
  readonly log?: Logger;
}

/** One happening, however often it came. */
interface Series {
  readonly happening: Happening;
  readonly name: string;
  readonly firstMs: number;
  count: number;
  /** Of which the server knows. */
  told: number;
  lastMs: number;
  /** By the monotonic clock, as `dueAt`. */
  seenAt: number;
  dueAt: number;
  waiting: boolean;
  attempts: number;
}

/**
 * Events of Kubernetes (events.k8s.io/v1), which `kubectl describe` and `kubectl events` show. Recording neither waits nor
 * throws; what repeats becomes a count; what is too much, or refused, is dropped and counted.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #log: Logger;
  readonly #series = new LRUCache<string, Series>({ max: MAX_SERIES });
  readonly #waiting = new Set<Series>();
  #timer: TimerHandle | undefined;
  #sending: Promise<boolean> | undefined;
  /** When all that was sent would have been sent, one at a time. */
  #paidUntil = 0;
  #dropped = 0;
  #complaint: string | undefined;
  #stopped = false;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#log = (options.log ?? silentLogger).child({});
  }

  /** Happenings that could not be told. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Nothing is being told at this moment. */
  get idle(): boolean {
    return this.#sending === undefined;
  }

  /** False if it was dropped at once: too many wait, or it has been stopped. */
  record(happening: Happening): boolean {
    if (this.#stopped) return false;
    const { clock } = this.#options;
    const key = keyOf(happening);
    const now = clock.monotonic();
    const known = this.#series.get(key);
    if (known !== undefined && (known.waiting || now - known.seenAt < FORGET_MS)) {
      known.count++;
      known.lastMs = clock.now();
      known.seenAt = now;
      return this.#enqueue(known);
    }
    const firstMs = clock.now();
    const series: Series = {
      happening,
      name: `${(happening.regarding.name ?? 'hauberk').slice(0, 200)}.${randomBytes(8).toString('hex')}`,
      firstMs,
      count: 1,
      told: 0,
      lastMs: firstMs,
      seenAt: now,
      dueAt: now,
      waiting: false,
      attempts: 0,
    };
    if (!this.#enqueue(series)) return false;
    this.#series.set(key, series);
    return true;
  }

  /** Tells what is due by now, until one fails, and nothing more after it. Never rejects. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
    await this.#sending;
    for (let due = this.#nextDue(); due !== undefined; due = this.#nextDue()) {
      if (this.#waitMs(due) > 0 || !(await this.#send(due))) break;
    }
    this.#dropped += this.#waiting.size;
    this.#waiting.clear();
  }

  #enqueue(series: Series): boolean {
    if (series.waiting) return true;
    if (this.#waiting.size >= MAX_WAITING) {
      this.#drop('too many events wait');
      return false;
    }
    series.waiting = true;
    series.attempts = 0;
    this.#waiting.add(series);
    this.#schedule();
    return true;
  }

  #nextDue(): Series | undefined {
    let next: Series | undefined;
    for (const series of this.#waiting) if (next === undefined || series.dueAt < next.dueAt) next = series;
    return next;
  }

  /** How long the series has to wait for its time and for its turn. */
  #waitMs(series: Series): number {
    const turnAt = this.#paidUntil - (BURST - 1) * SPACING_MS;
    return Math.max(series.dueAt, turnAt) - this.#options.clock.monotonic();
  }

  #schedule(): void {
    const next = this.#nextDue();
    if (next === undefined || this.#sending !== undefined || this.#stopped) return;
    const { clock } = this.#options;
    clock.clear(this.#timer);
    this.#timer = clock.after(this.#waitMs(next), () => {
      this.#sending = this.#send(next).finally(() => {
        this.#sending = undefined;
        this.#schedule();
      });
    });
  }

  /** Never rejects; false if it failed. */
  async #send(series: Series): Promise<boolean> {
    const { client, clock } = this.#options;
    const now = clock.monotonic();
    this.#paidUntil = Math.max(this.#paidUntil, now) + SPACING_MS;
    this.#waiting.delete(series);
    series.waiting = false;
    const { count } = series;
    try {
      const namespace = series.happening.regarding.namespace ?? 'default';
      const options = { deadlineMs: DEADLINE_MS };
      if (series.told > 0) {
        const path = objectPath(EVENTS, series.name, namespace);
        await client.patch(path, { series: seriesOf(series) }, 'merge', options);
      } else {
        await client.create<KubeEvent>(
          collectionPath(EVENTS, namespace),
          this.#eventOf(series, namespace),
          options,
        );
      }
      this.#complaint = undefined;
      series.told = count;
      series.dueAt = now + REPEAT_MS;
      if (series.count > count) this.#enqueue(series);
      return true;
    } catch (error) {
      this.#failed(series, error);
      return false;
    }
  }

  #failed(series: Series, error: unknown): void {
    const status = error instanceof KubeError ? error.status : 400;
    // Events live an hour on the server: it may have forgotten this one.
    if (status === 404 && series.told > 0) {
      series.told = 0;
      this.#enqueue(series);
      return;
    }
    const mayPass = status === 0 || status === 409 || status === 429 || status >= 500;
    const now = this.#options.clock.monotonic();
    if (!mayPass || series.attempts + 1 >= ATTEMPTS) {
      this.#drop(quotable(String(error)));
      series.dueAt = now + REPEAT_MS;
      return;
    }
    const { attempts } = series;
    const asked = error instanceof KubeError ? (error.retryAfterMs ?? 0) : 0;
    series.dueAt = now + Math.max(asked, SPACING_MS * 4 ** (attempts + 1));
    this.#enqueue(series);
    series.attempts = attempts + 1;
  }

  #drop(why: string): void {
    this.#dropped++;
    if (this.#complaint === why) return;
    this.#complaint = why;
    this.#log.warn({ error: why, dropped: this.#dropped }, 'events for Kubernetes are dropped');
  }

  #eventOf(series: Series, namespace: string): KubeEvent {
    const { regarding, type, reason, action, note } = series.happening;
    return {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name: series.name, namespace },
      eventTime: microTime(series.firstMs),
      reportingController: 'hauberk.mesh/controller',
      reportingInstance: this.#options.instance.slice(0, MAX_WORD),
      type,
      reason: reason.slice(0, MAX_WORD),
      action: action.slice(0, MAX_WORD),
      note: cut(quotable(note), MAX_NOTE),
      regarding,
      ...(series.count > 1 && { series: seriesOf(series) }),
    };
  }
}

const seriesOf = ({ count, lastMs }: Series) => ({ count, lastObservedTime: microTime(lastMs) });

const keyOf = ({ regarding, type, reason, action, note }: Happening): string => {
  const { kind, namespace, name, uid } = regarding;
  return JSON.stringify([kind, namespace, name, uid, type, reason, action, note]);
};

/** At most so many octets of UTF-8, whole characters. */
function cut(text: string, octets: number): string {
  let shorter = text;
  while (Buffer.byteLength(shorter) > octets) shorter = [...shorter].slice(0, -1).join('');
  return shorter;
}
