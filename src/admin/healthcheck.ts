import { reasonOf } from '../audit/errors.ts';
import type { Clock, TimerHandle } from '../clock/clock.ts';

/** `pending` until its first result. */
export type HealthState = 'pending' | 'healthy' | 'unhealthy';

/** How one check stands. Frozen. Moments in milliseconds since the epoch. */
export interface CheckStatus {
  /** The name it was added by. */
  readonly name: string;
  /** Whether the monitor as a whole is unhealthy without it. */
  readonly critical: boolean;
  /** Of its last result; `pending` until there is one. */
  readonly state: HealthState;
  /** The state is `healthy`: a check that has not had a result yet is not. */
  readonly healthy: boolean;
  /** Since when it is in this state. */
  readonly since: number;
  /** Why it failed, the last time that it did: the message of what it threw. Undefined if it never has. */
  readonly lastError: string | undefined;
  /** When its last result came. Undefined until the first. */
  readonly checkedAt: number | undefined;
}

const LONGEST_ERROR = 1_024;

interface Run {
  readonly abort: AbortController;
  readonly done: Promise<void>;
  /** The user's function has been called for it. */
  isCalled: boolean;
  /** Its result has come, or is not waited for any more. */
  isOver: boolean;
  settle(): void;
  timer: TimerHandle;
}

const noop = (): void => undefined;

/**
 * One check of a monitor. It never overlaps itself: as long as the user's function has not come back, also after its
 * deadline or the monitor's end, it is not called again.
 */
export class HealthCheck {
  readonly #name: string;
  readonly #critical: boolean;
  readonly #check: (signal: AbortSignal) => unknown;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #changed: (check: HealthCheck, from: HealthState) => void;
  #run: Run | undefined;
  /** Resolves when the user's function has come back. */
  #busy: Promise<void> | undefined;
  #status: CheckStatus;

  constructor(
    name: string,
    check: (signal: AbortSignal) => unknown,
    options: { readonly critical: boolean; readonly timeoutMs: number; readonly clock: Clock },
    changed: (check: HealthCheck, from: HealthState) => void,
  ) {
    this.#name = name;
    this.#critical = options.critical;
    this.#check = check;
    this.#timeoutMs = options.timeoutMs;
    this.#clock = options.clock;
    this.#changed = changed;
    this.#status = Object.freeze({
      name,
      critical: options.critical,
      state: 'pending',
      healthy: false,
      since: options.clock.now(),
      lastError: undefined,
      checkedAt: undefined,
    });
  }

  get status(): CheckStatus {
    return this.#status;
  }

  /** Runs it, unless it runs already. Resolves once its result is in the status, or has been given up. Never rejects. */
  run(): Promise<void> {
    if (this.#run === undefined || this.#run.isOver) this.#run = this.#begin();
    return this.#run.done;
  }

  /** Aborts what runs; its result is not waited for and changes nothing. */
  abandon(why: string): void {
    const run = this.#run;
    if (run === undefined || run.isOver) return;
    this.#end(run);
    run.abort.abort(new DOMException(why, 'AbortError'));
  }

  #begin(): Run {
    let settle = noop;
    const done = new Promise<void>((resolve) => {
      settle = resolve;
    });
    const abort = new AbortController();
    const run: Run = { abort, done, isCalled: false, isOver: false, settle, timer: undefined };
    run.timer = this.#clock.after(this.#timeoutMs, () => {
      const late = run.isCalled
        ? `no result within ${this.#timeoutMs} ms`
        : 'the check before it has not come back';
      this.#finish(run, new Error(late));
      abort.abort(new DOMException(late, 'TimeoutError'));
    });
    void this.#call(run);
    return run;
  }

  async #call(run: Run): Promise<void> {
    await this.#busy;
    if (run.isOver) return;
    run.isCalled = true;
    const answer = this.#answer(run.abort.signal);
    this.#busy = answer.then(noop, noop);
    try {
      this.#finish(run, (await answer) === false ? new Error('it returned false') : undefined);
    } catch (error) {
      this.#finish(run, error ?? new Error(`it threw ${String(error)}`));
    }
  }

  /** What the function throws becomes a rejection. */
  async #answer(signal: AbortSignal): Promise<unknown> {
    return this.#check(signal);
  }

  #finish(run: Run, error: unknown): void {
    if (run.isOver) return;
    this.#result(error);
    this.#end(run);
  }

  #end(run: Run): void {
    run.isOver = true;
    this.#clock.clear(run.timer);
    run.settle();
  }

  #result(error: unknown): void {
    const before = this.#status;
    const state = error === undefined ? 'healthy' : 'unhealthy';
    const now = this.#clock.now();
    this.#status = Object.freeze({
      name: this.#name,
      critical: this.#critical,
      state,
      healthy: state === 'healthy',
      since: state === before.state ? before.since : now,
      lastError: error === undefined ? before.lastError : text(error),
      checkedAt: now,
    });
    if (state !== before.state) this.#changed(this, before.state);
  }
}

function text(error: unknown): string {
  const reason = reasonOf(error);
  return reason.length > LONGEST_ERROR ? `${reason.slice(0, LONGEST_ERROR - 1)}…` : reason;
}
