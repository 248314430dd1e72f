import type { Clock, TimerHandle } from '../clock/clock.ts';

export interface TurnsOptions {
  readonly clock: Clock;
  /** Pieces of work at a time. */
  readonly maxConcurrent: number;
  /** Of these, for one key; without it, all. */
  readonly maxConcurrentPerKey?: number;
  /** Pieces of work that begin in a second. */
  readonly maxPerSecond: number;
  /** Those that wait, over all keys. */
  readonly maxWaiting: number;
}

/** A turn that was given. `done` lets the next one in; it may be called again. */
export interface Turn {
  done(): void;
}

interface Waiter {
  readonly admit: (turn: Turn | undefined) => void;
}

/**
 * Lets a bounded number of pieces of work run, and so many begin in a second. Those that wait take turns by key, so that
 * whoever comes with a thousand holds up another no longer than with one. When too many wait, the newest of the key that has
 * most of them is turned away, of several such keys the one whose turn is last: one that floods turns away itself.
 */
export class Turns {
  readonly #options: TurnsOptions;
  /** Keys in the order of their turns; each with at least one that waits. */
  readonly #queues = new Map<string, Waiter[]>();
  readonly #runningOf = new Map<string, number>();
  #waiting = 0;
  #running = 0;
  /** What may begin at once, up to a second's worth; filled by time. */
  #tokens: number;
  #filledAt: number;
  #timer: TimerHandle;
  #closed = false;

  constructor(options: TurnsOptions) {
    this.#options = options;
    this.#tokens = options.maxPerSecond;
    this.#filledAt = options.clock.monotonic();
  }

  get waiting(): number {
    return this.#waiting;
  }

  get running(): number {
    return this.#running;
  }

  /**
   * Resolves when it is this one's turn, with undefined if it was turned away, or its signal was aborted. Whoever got a
   * turn ends it.
   */
  take(key: string, signal?: AbortSignal): Promise<Turn | undefined> {
    if (this.#closed || signal?.aborted === true) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const waiter: Waiter = {
        admit: (turn) => {
          signal?.removeEventListener('abort', leave);
          resolve(turn);
        },
      };
      const leave = (): void => {
        this.#remove(key, waiter);
        waiter.admit(undefined);
      };
      signal?.addEventListener('abort', leave);
      const queue = this.#queues.get(key);
      if (queue === undefined) this.#queues.set(key, [waiter]);
      else queue.push(waiter);
      this.#waiting++;
      this.#admit();
      if (this.#waiting > this.#options.maxWaiting) this.#turnAway();
    });
  }

  /** Turns everybody away who waits. */
  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
    for (const [key, queue] of [...this.#queues]) {
      for (const waiter of [...queue]) {
        this.#remove(key, waiter);
        waiter.admit(undefined);
      }
    }
  }

  #remove(key: string, waiter: Waiter): void {
    const queue = this.#queues.get(key);
    const at = queue?.indexOf(waiter) ?? -1;
    if (queue === undefined || at < 0) return;
    queue.splice(at, 1);
    if (queue.length === 0) this.#queues.delete(key);
    this.#waiting--;
  }

  #turnAway(): void {
    let most: [string, Waiter[]] | undefined;
    for (const entry of this.#queues) if (entry[1].length >= (most?.[1].length ?? 0)) most = entry;
    if (most === undefined) return;
    const [key, queue] = most;
    const newest = queue[queue.length - 1] as Waiter;
    this.#remove(key, newest);
    newest.admit(undefined);
  }

  #admit(): void {
    const { maxConcurrent } = this.#options;
    this.#fill();
    while (this.#running < maxConcurrent && this.#tokens >= 1) {
      const next = this.#next();
      if (next === undefined) break;
      const [key, queue] = next;
      const waiter = queue.shift() as Waiter;
      this.#waiting--;
      // To the end of the line, or out of it.
      this.#queues.delete(key);
      if (queue.length > 0) this.#queues.set(key, queue);
      this.#tokens--;
      this.#running++;
      this.#runningOf.set(key, (this.#runningOf.get(key) ?? 0) + 1);
      waiter.admit(this.#turn(key));
    }
    this.#awaitToken();
  }

  /** The first whose key may have one more. Few are passed over: those that have all they may run. */
  #next(): [string, Waiter[]] | undefined {
    const { maxConcurrentPerKey = Number.POSITIVE_INFINITY } = this.#options;
    for (const entry of this.#queues) {
      if ((this.#runningOf.get(entry[0]) ?? 0) < maxConcurrentPerKey) return entry;
    }
    return undefined;
  }

  #turn(key: string): Turn {
    let over = false;
    return {
      done: () => {
        if (over) return;
        over = true;
        this.#running--;
        const left = (this.#runningOf.get(key) ?? 0) - 1;
        if (left > 0) this.#runningOf.set(key, left);
        else this.#runningOf.delete(key);
        this.#admit();
      },
    };
  }

  #fill(): void {
    const { clock, maxPerSecond } = this.#options;
    const now = clock.monotonic();
    this.#tokens = Math.min(maxPerSecond, this.#tokens + ((now - this.#filledAt) * maxPerSecond) / 1000);
    this.#filledAt = now;
  }

  #awaitToken(): void {
    const { clock, maxConcurrent, maxPerSecond } = this.#options;
    clock.clear(this.#timer);
    if (this.#closed || this.#waiting === 0 || this.#running >= maxConcurrent) return;
    if (this.#tokens >= 1) return; // those that wait are of keys that have all they may run
    this.#timer = clock.after(Math.ceil(((1 - this.#tokens) * 1000) / maxPerSecond), () => this.#admit());
  }
}
