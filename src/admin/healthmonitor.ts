import { type Clock, systemClock, type TimerHandle } from '../clock/clock.ts';
import { type CheckStatus, HealthCheck, type HealthState } from './healthcheck.ts';

/** How a {@link HealthMonitor} checks. Times in milliseconds. */
export interface HealthMonitorOptions {
  /** Between rounds of checks. Default 5,000. */
  readonly intervalMs?: number;
  /** How long a check may take; then it counts as failed. Default 1,000. */
  readonly timeoutMs?: number;
  /** Where the time comes from, for tests. Default: the real one. */
  readonly clock?: Clock;
  /** Gets what listeners throw. By default that is thrown again from a microtask. */
  readonly onListenerError?: (error: unknown) => void;
}

/** How one check differs from the others of its monitor. */
export interface HealthCheckOptions {
  /** False: its failure is told, but does not make the whole unhealthy. Default true. */
  readonly critical?: boolean;
  /** Instead of the monitor's. Milliseconds. */
  readonly timeoutMs?: number;
}

/** How a monitor stands: a frozen snapshot. */
export interface HealthStatus {
  /** Every critical check is healthy; so it is if there is none. */
  readonly healthy: boolean;
  /** In the order in which they were added. */
  readonly checks: readonly CheckStatus[];
}

/** A check has got another state, or was removed. Frozen. */
export interface HealthChange {
  /** The check. */
  readonly name: string;
  /** Its state before. */
  readonly from: HealthState;
  /** Its state now. */
  readonly to: HealthState | 'removed';
  /** Why it is unhealthy, if it is. */
  readonly error: string | undefined;
  /** Whether the monitor as a whole is healthy now. */
  readonly healthy: boolean;
}

/** What went wrong: `bad-option` is an option or argument that cannot work, `duplicate-check` a name that is taken. */
export type HealthErrorCode = 'bad-option' | 'duplicate-check';

/** A mistake in the use of a {@link HealthMonitor}. */
export class HealthError extends Error {
  override readonly name = 'HealthError';
  /** Which mistake. */
  readonly code: HealthErrorCode;

  /** @internal */
  constructor(code: HealthErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

const LONGEST_TIME_MS = 2 ** 31 - 1;

/**
 * Runs checks of a program's parts (a database, a queue, a service that it calls) in rounds and keeps what came of them.
 *
 * The checks of a round run side by side, each at most once at a time. A check is unhealthy when it throws, rejects, returns
 * `false`, or takes longer than its deadline, at which its signal is aborted. No timer keeps the process alive.
 */
export class HealthMonitor implements Disposable {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #listenerFailed: (error: unknown) => void;
  readonly #checks = new Map<string, HealthCheck>();
  readonly #listeners = new Set<(change: HealthChange) => void>();
  readonly #changed: (check: HealthCheck, from: HealthState) => void;
  #timer: TimerHandle | undefined;

  /** Throws HealthError `bad-option`. */
  constructor(options: HealthMonitorOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#intervalMs = time('intervalMs', options.intervalMs ?? 5_000);
    this.#timeoutMs = time('timeoutMs', options.timeoutMs ?? 1_000);
    this.#listenerFailed = options.onListenerError ?? rethrowLater;
    this.#changed = (check, from) => this.#tell(check, from, check.status.state);
  }

  /** Rounds are under way: between `start` and `stop`. */
  get isRunning(): boolean {
    return this.#timer !== undefined;
  }

  /**
   * Adds a check, which is `pending` until its first result. If the monitor runs, the check does so at once.
   *
   * `check` gets a signal that is aborted at its deadline (`TimeoutError`) and when it is removed or the monitor stopped
   * (`AbortError`). What it returns or resolves to is of no account, unless it is `false`.
   *
   * Throws HealthError `duplicate-check` or `bad-option`.
   */
  add(name: string, check: (signal: AbortSignal) => unknown, options: HealthCheckOptions = {}): this {
    if (typeof name !== 'string' || name === '') {
      throw new HealthError('bad-option', 'A check needs a name: add(name, check)');
    }
    if (typeof check !== 'function') {
      throw new HealthError(
        'bad-option',
        `The check ${name} must be a function that throws, rejects or returns false when something is wrong, not ${typeof check}`,
      );
    }
    if (this.#checks.has(name)) {
      throw new HealthError('duplicate-check', `There is a check ${name} already; remove it first`);
    }
    const added = new HealthCheck(
      name,
      check,
      {
        critical: options.critical ?? true,
        timeoutMs: time('timeoutMs', options.timeoutMs ?? this.#timeoutMs),
        clock: this.#clock,
      },
      this.#changed,
    );
    this.#checks.set(name, added);
    if (this.isRunning) void added.run();
    return this;
  }

  /** Removes a check and aborts it if it runs. False if there is none of this name. */
  remove(name: string): boolean {
    const check = this.#checks.get(name);
    if (check === undefined) return false;
    this.#checks.delete(name);
    check.abandon('the check was removed');
    this.#tell(check, check.status.state, 'removed');
    return true;
  }

  /** Runs every check now, and again each `intervalMs`. Does nothing if it runs already. */
  start(): this {
    if (this.isRunning) return this;
    this.#timer = this.#clock.every(this.#intervalMs, () => void this.#round());
    void this.#round();
    return this;
  }

  /** Ends the rounds and aborts the checks that run; what was found stays. It can be started again. */
  stop(): void {
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
    for (const check of this.#checks.values()) check.abandon('the monitor was stopped');
  }

  /** `stop`, for `using`. */
  [Symbol.dispose](): void {
    this.stop();
  }

  /** How the whole stands. */
  status(): HealthStatus;
  /** How one check stands; undefined if there is none of this name. */
  status(name: string): CheckStatus | undefined;
  status(name?: string): HealthStatus | CheckStatus | undefined {
    if (name !== undefined) return this.#checks.get(name)?.status;
    const checks = [...this.#checks.values()].map((check) => check.status);
    return Object.freeze({ healthy: this.#isHealthy, checks: Object.freeze(checks) });
  }

  /** Runs every check once, those that run already not again, and resolves when each has a result. Never rejects. */
  async check(): Promise<HealthStatus> {
    // Whoever waits for the result is not to end for want of anything else to do.
    const release = this.#clock.hold();
    try {
      await this.#round();
      return this.status();
    } finally {
      release();
    }
  }

  /**
   * Calls `listener` whenever a check gets another state, the first included, or is removed. Returns a function that
   * removes it.
   */
  on(type: 'change', listener: (change: HealthChange) => void): () => void {
    if (type !== 'change') {
      throw new HealthError('bad-option', `A HealthMonitor has no event ${String(type)}, only 'change'`);
    }
    // The same function may be added twice.
    const added = (change: HealthChange): void => listener(change);
    this.#listeners.add(added);
    return () => void this.#listeners.delete(added);
  }

  get #isHealthy(): boolean {
    for (const { status } of this.#checks.values()) if (status.critical && !status.healthy) return false;
    return true;
  }

  async #round(): Promise<void> {
    await Promise.all([...this.#checks.values()].map((check) => check.run()));
  }

  #tell(check: HealthCheck, from: HealthState, to: HealthState | 'removed'): void {
    const { name, lastError } = check.status;
    const error = to === 'unhealthy' ? lastError : undefined;
    const change = Object.freeze({ name, from, to, error, healthy: this.#isHealthy });
    for (const listener of [...this.#listeners]) {
      try {
        listener(change);
      } catch (thrown) {
        this.#listenerFailed(thrown);
      }
    }
  }
}

function time(name: string, value: number): number {
  if (typeof value === 'number' && value > 0 && value <= LONGEST_TIME_MS) return value;
  throw new HealthError(
    'bad-option',
    `${name} must be above 0 and at most 24 days, in milliseconds, not ${typeof value === 'number' ? value : typeof value}`,
  );
}

function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
