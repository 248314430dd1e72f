import { createHash } from 'node:crypto';
import type { Readiness } from '../admin/readiness.ts';
import type { TimerHandle } from '../clock/clock.ts';
import type { IdentityError } from '../identity/errors.ts';
import type { IdentityChange, ReloadCause } from '../identity/keeper.ts';
import type { LocalIdentity } from '../identity/local.ts';
import type { RelayContext } from '../relay/context.ts';
import type { Rotation } from '../relay/rotation.ts';
import type { IdentityParts } from './identityparts.ts';

/** Who a sidecar is now. Times are milliseconds since the epoch. */
export interface IdentityStatus {
  readonly spiffeId: string;
  /** When the first certificate of the chain expires, the CA's included. */
  readonly notAfter: number;
  /** SHA-256 of the leaf certificate, in hex. */
  readonly leafSha256: string;
  /** Counts the trust bundles of this run, from 1. */
  readonly bundleGeneration: number;
  /** How often the SVID or the bundle was replaced in this run. */
  readonly rotations: number;
  /** When that was last; undefined if it was not. */
  readonly rotatedAt: number | undefined;
  /** Why the files that are there now are not taken; undefined if they are. What was good stays in use. */
  readonly refusal: IdentityError | undefined;
  /** When the sidecar renews its SVID itself, or has the controller do it; undefined if it does not. */
  readonly renewsAt: number | undefined;
  /** Why the SVID could not be renewed when that was tried last; undefined if it could. */
  readonly renewalFailure: IdentityError | undefined;
}

/** What `Sidecar.onIdentity` tells. */
export type IdentityEvent =
  | {
      /** A renewed SVID, a changed trust bundle, or both are in use from now on. */
      readonly type: 'rotated';
      readonly svid: boolean;
      readonly bundle: boolean;
      readonly cause: ReloadCause;
      readonly identity: IdentityStatus;
    }
  | {
      /** Changed files were refused; what was good stays in use. */
      readonly type: 'reloadFailed';
      readonly error: IdentityError;
      readonly identity: IdentityStatus;
    }
  | {
      /** The sidecar could not issue itself a new SVID, and tries again in `retryMs`. */
      readonly type: 'renewalFailed';
      readonly error: IdentityError;
      readonly retryMs: number;
      readonly identity: IdentityStatus;
    }
  | { readonly type: 'expired'; readonly identity: IdentityStatus };

export interface IdentityWatchOptions extends IdentityParts {
  readonly rotation: Rotation;
  readonly context: RelayContext;
  readonly readiness: Readiness;
}

/** How late an expiry may be noticed: the wall clock may be set. */
const EXPIRY_LOOK_MS = 60_000;

/** Has a change of identity take effect, and tells everybody of it: audit, metrics, log, readiness, and the program. */
export class IdentityWatch {
  readonly #options: IdentityWatchOptions;
  readonly #listeners = new Set<(event: IdentityEvent) => void>();
  #rotations = 0;
  #rotatedAt: number | undefined;
  #renewalFailure: IdentityError | undefined;
  #expiryTimer: TimerHandle;
  #expired: ReturnType<Readiness['task']> | undefined;

  constructor(options: IdentityWatchOptions) {
    this.#options = options;
    const { keeper, rotation, context } = options;
    context.metrics.observe({
      identityRemainingSeconds: () => (keeper.identity.notAfter - context.clock.now()) / 1000,
      sessionsOutdated: () => rotation.outdated(),
    });
  }

  get status(): IdentityStatus {
    const { identity, bundle, refusal } = this.#options.keeper;
    return {
      spiffeId: identity.spiffeId,
      notAfter: identity.notAfter,
      leafSha256: leafSha256(identity),
      bundleGeneration: bundle.generation,
      rotations: this.#rotations,
      rotatedAt: this.#rotatedAt,
      refusal,
      renewsAt: this.#options.renewal?.at,
      renewalFailure: this.#renewalFailure,
    };
  }

  /** Says who the sidecar is, and keeps it current from now on. */
  async start(): Promise<void> {
    const { keeper, context } = this.#options;
    const { spiffeId, notAfter, leafSha256, bundleGeneration } = this.status;
    context.recorder.record({
      type: 'identity.loaded',
      spiffeId,
      notAfter: new Date(notAfter).toISOString(),
      leafSha256,
      bundleGeneration,
    });
    keeper.start({
      onChanged: (change) => this.#changed(change),
      onRefused: (error, cause) => this.#refused(error, cause),
    });
    this.#lookAtExpiry();
    this.#options.refresh?.start();
    await this.#planRenewal();
  }

  /** Calls `listener` with each event. Returns a function that removes it. */
  listen(listener: (event: IdentityEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    const { keeper, rotation, context } = this.#options;
    keeper.close();
    rotation.close();
    this.#options.renewal?.close();
    this.#options.refresh?.close();
    this.#options.channel?.close();
    context.clock.clear(this.#expiryTimer);
  }

  #changed(change: IdentityChange): void {
    const { context, rotation } = this.#options;
    const { recorder, metrics, log, clock } = context;
    const { svid, bundle, cause } = change;
    this.#rotations++;
    this.#rotatedAt = clock.now();
    const { spiffeId, notAfter, leafSha256, bundleGeneration } = this.status;
    const event = {
      spiffeId,
      notAfter: new Date(notAfter).toISOString(),
      leafSha256,
      bundleGeneration,
      changed: svid && bundle ? 'both' : svid ? 'svid' : 'bundle',
      cause,
      sessions: rotation.sessions,
    } as const;
    metrics.identityReloads.of('rotated').inc();
    recorder.record({ type: 'identity.rotated', ...event });
    log.info(event, 'identity rotated');
    rotation.changed(change);
    if (bundle) this.#options.channel?.refresh();
    if (svid) this.#renewalFailure = undefined;
    this.#lookAtExpiry();
    if (svid) void this.#planRenewal();
    this.#tell({ type: 'rotated', svid, bundle, cause, identity: this.status });
  }

  #refused(error: IdentityError, cause: ReloadCause): void {
    const { recorder, metrics, log } = this.#options.context;
    const { identity } = this.#options.keeper;
    const failure = {
      reason: error.code,
      detail: error.message,
      cause,
      notAfter: new Date(identity.notAfter).toISOString(),
    };
    metrics.identityReloads.of('refused').inc();
    recorder.record({ type: 'identity.reload-failed', ...failure });
    log.error(failure, 'changed identity files refused; the identity that was good stays in use');
    this.#tell({ type: 'reloadFailed', error, identity: this.status });
  }

  /** Never rejects. */
  async #planRenewal(): Promise<void> {
    const { renewal, context, keeper } = this.#options;
    if (renewal === undefined) return;
    const able = await renewal.plan({
      onRenewed: (notAfter) => this.#renewed(notAfter),
      onFailed: (error, attempts, retryMs) => this.#renewalFailed(error, attempts, retryMs),
    });
    if (able) return;
    context.log.info(
      { bundle: renewal.files.bundle, notAfter: new Date(keeper.identity.notAfter).toISOString() },
      'the SVID is not renewed here: no CA key lies beside the bundle; whoever issued it renews its files',
    );
  }

  #renewed(notAfter: number): void {
    const { context, renewal } = this.#options;
    this.#renewalFailure = undefined;
    const renewed = { svid: renewal?.files.svid ?? '', notAfter: new Date(notAfter).toISOString() };
    context.metrics.identityRenewals.of('ok').inc();
    context.recorder.record({ type: 'identity.renewed', ...renewed });
    context.log.info(renewed, 'SVID renewed');
  }

  #renewalFailed(error: IdentityError, attempts: number, retryMs: number): void {
    const { context, keeper } = this.#options;
    this.#renewalFailure = error;
    const failure = {
      reason: error.code,
      detail: error.message,
      attempts,
      retryMs,
      notAfter: new Date(keeper.identity.notAfter).toISOString(),
    };
    context.metrics.identityRenewals.of('failed').inc();
    context.recorder.record({ type: 'identity.renewal-failed', ...failure });
    context.log.error(failure, 'the SVID could not be renewed; it is tried again');
    this.#tell({ type: 'renewalFailed', error, retryMs, identity: this.status });
  }

  /** Not ready while the identity has expired. */
  #lookAtExpiry(): void {
    const { keeper, context, readiness } = this.#options;
    const { clock } = context;
    const { notAfter, spiffeId } = keeper.identity;
    const left = notAfter - clock.now();
    if (left > 0) {
      this.#expired?.done();
      this.#expired = undefined;
    } else if (this.#expired === undefined) {
      const expiry = { spiffeId, notAfter: new Date(notAfter).toISOString() };
      this.#expired = readiness.task('identity: the SVID has expired');
      context.recorder.record({ type: 'identity.expired', ...expiry });
      context.log.error(
        expiry,
        'the SVID of this sidecar has expired: it has no sessions until there is a new one',
      );
      this.#tell({ type: 'expired', identity: this.status });
    }
    clock.clear(this.#expiryTimer);
    const lookIn = left > 0 ? Math.min(left + 1, EXPIRY_LOOK_MS) : EXPIRY_LOOK_MS;
    this.#expiryTimer = clock.after(lookIn, () => this.#lookAtExpiry());
  }

  #tell(event: IdentityEvent): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event);
      } catch (error) {
        this.#options.context.log.error({ error: String(error) }, 'a listener of the identity failed');
      }
    }
  }
}

function leafSha256({ chain }: LocalIdentity): string {
  return createHash('sha256')
    .update(chain[0] as Buffer)
    .digest('hex');
}
