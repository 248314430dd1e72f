import type { Clock, TimerHandle } from '../clock/clock.ts';
import { IdentityError } from './errors.ts';
import type { Issuer } from './issuer.ts';
import type { IdentityKeeper } from './keeper.ts';
import type { IdentityFiles } from './load.ts';

export interface RenewalOptions {
  readonly issuer: Issuer;
  readonly clock: Clock;
  readonly keeper: IdentityKeeper;
  /** In [0, 1). */
  readonly random?: () => number;
}

export interface RenewalListener {
  readonly onRenewed: (notAfter: number) => void;
  /** It is tried again in `retryMs`; `attempts` have failed in a row. */
  readonly onFailed: (error: IdentityError, attempts: number, retryMs: number) => void;
}

/** Of what is left of an SVID's life: at random in between, so that replicas do not all renew at the same time. */
const EARLIEST = 0.4;
const LATEST = 0.6;
/** The wall clock may be set, and a machine may sleep. */
const LOOK_MS = 60_000;
const RETRY_MS = 1_000;
const MAX_RETRY_MS = 10 * 60_000;
/** While there is no valid SVID: whoever can issue one may be back at any time. */
const EXPIRED_RETRY_MS = 15_000;

/** Has an SVID renewed in its files when about half of its remaining life is over. What is good stays until then. */
export class Renewal {
  readonly #options: RenewalOptions;
  readonly #random: () => number;
  /** When it is renewed: wall clock. */
  #at: number | undefined;
  #failures = 0;
  #listener: RenewalListener | undefined;
  #timer: TimerHandle;
  #underWay = false;
  #closed = false;

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  /** When the SVID will be renewed: milliseconds since the epoch; undefined if it cannot be. */
  get at(): number | undefined {
    return this.#at;
  }

  get files(): IdentityFiles {
    return this.#options.issuer.files;
  }

  /** Plans the renewal of the SVID that is in use now, and tells what comes of it. Resolves with whether it can be renewed. */
  async plan(listener: RenewalListener | undefined = this.#listener): Promise<boolean> {
    const { issuer, clock, keeper } = this.#options;
    this.#listener = listener;
    clock.clear(this.#timer);
    this.#at = undefined;
    const able = await issuer.able();
    if (!able || this.#closed) return able;
    clock.clear(this.#timer);
    const left = Math.max(0, keeper.identity.notAfter - clock.now());
    this.#failures = 0;
    const share = EARLIEST + (LATEST - EARLIEST) * this.#random();
    this.#at = clock.now() + Math.max(Math.round(left * share), RETRY_MS);
    this.#wait();
    return true;
  }

  /** Brings it forward to about now, at random within `withinMs`. */
  soon(withinMs: number): void {
    const { clock } = this.#options;
    if (this.#at === undefined || this.#underWay || this.#closed) return;
    this.#at = Math.min(this.#at, clock.now() + Math.round(withinMs * this.#random()));
    clock.clear(this.#timer);
    this.#wait();
  }

  close(): void {
    this.#closed = true;
    this.#at = undefined;
    this.#options.clock.clear(this.#timer);
  }

  #wait(): void {
    const { clock } = this.#options;
    const at = this.#at;
    if (at === undefined || this.#closed) return;
    const left = at - clock.now();
    this.#timer = clock.after(Math.min(left, LOOK_MS), () => {
      if (clock.now() < at) this.#wait();
      else void this.#renew();
    });
  }

  /** Never rejects. */
  async #renew(): Promise<void> {
    const { issuer, clock, keeper } = this.#options;
    this.#underWay = true;
    try {
      const notAfter = await issuer.issue(keeper.identity);
      if (this.#closed) return;
      if (notAfter !== undefined) this.#listener?.onRenewed(notAfter);
      // A rotation plans anew.
      if (!(await keeper.reload('renewal'))) await this.plan();
    } catch (error) {
      if (this.#closed) return;
      const left = keeper.identity.notAfter - clock.now();
      // Several times before the end, if there is one to come.
      const most = left > 0 ? Math.min(MAX_RETRY_MS, Math.max(left / 4, RETRY_MS)) : EXPIRED_RETRY_MS;
      const backoff = Math.min(RETRY_MS * 2 ** Math.min(this.#failures++, 20), most);
      const asked = error instanceof IdentityError ? Math.min(error.retryAfterMs ?? 0, most) : 0;
      const retryMs = Math.ceil(Math.max(RETRY_MS / 2, asked) + backoff * this.#random());
      this.#at = clock.now() + retryMs;
      this.#listener?.onFailed(asIdentityError(error), this.#failures, retryMs);
      this.#wait();
    } finally {
      this.#underWay = false;
    }
  }
}

function asIdentityError(error: unknown): IdentityError {
  if (error instanceof IdentityError) return error;
  return new IdentityError('write-failed', `could not be renewed: ${String(error)}`, { cause: error });
}
