import type { Clock, TimerHandle } from '../clock/clock.ts';
import { IdentityError } from '../identity/errors.ts';
import type { IdentityKeeper } from '../identity/keeper.ts';
import type { Renewal } from '../identity/renewal.ts';
import type { Logger } from '../telemetry/log.ts';
import type { ControllerIssuer } from './certify.ts';
import { ControlError } from './errors.ts';

export interface BundleRefreshOptions {
  readonly issuer: ControllerIssuer;
  readonly keeper: IdentityKeeper;
  readonly renewal: Renewal;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random?: () => number;
}

/** A change of CAs takes hours by its nature; a CA that is to be trusted no longer goes this soon. */
const EVERY_MS = 5 * 60_000;
/** Of that, more or less at random, so that sidecars that started together do not ask together. */
const SPREAD = 0.4;
/** An SVID that the new bundle does not vouch for is replaced within this. */
const REPLACE_MS = 5_000;

/** Asks the controller every few minutes whom to trust, since SVIDs are renewed twice a day at most. */
export class BundleRefresh {
  readonly #options: BundleRefreshOptions;
  readonly #random: () => number;
  #timer: TimerHandle;
  #failing = false;
  #closed = false;

  constructor(options: BundleRefreshOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  start(): void {
    if (this.#closed) return;
    const ms = EVERY_MS * (1 - SPREAD / 2 + SPREAD * this.#random());
    this.#timer = this.#options.clock.after(ms, () => {
      this.#ask().then(() => this.start());
    });
  }

  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
  }

  /** Never rejects. */
  async #ask(): Promise<void> {
    const { issuer, keeper, renewal, log } = this.#options;
    try {
      const changed = await issuer.refreshBundle(keeper.bundle);
      if (this.#failing) log.info({}, 'the controller says again whom to trust');
      this.#failing = false;
      if (!changed || this.#closed) return;
    } catch (error) {
      if (this.#closed || isUnknown(error)) return;
      const detail = error instanceof Error ? error.message : String(error);
      // The renewal of the SVID tells more loudly if that lasts.
      if (!this.#failing)
        log.warn({ detail }, 'the controller was asked in vain whom to trust; the bundle stays');
      this.#failing = true;
      return;
    }
    // A refusal is in the log and the audit.
    await keeper.reload('renewal').catch(() => undefined);
    if (keeper.refusal !== undefined) renewal.soon(REPLACE_MS);
  }
}

/** A controller of an earlier version: the bundle comes with the next SVID. */
function isUnknown(error: unknown): boolean {
  const cause = error instanceof IdentityError ? error.cause : undefined;
  return cause instanceof ControlError && cause.code === 'UNIMPLEMENTED';
}
