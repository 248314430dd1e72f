import type { Clock } from '../clock/clock.ts';
import type { ControllerConfig } from '../config/config.ts';
import { BundleRefresh } from '../control/bundlerefresh.ts';
import { ControllerIssuer } from '../control/certify.ts';
import { ControlChannel } from '../control/channel.ts';
import { IdentityError } from '../identity/errors.ts';
import { IdentityKeeper, type IdentityKeeperOptions } from '../identity/keeper.ts';
import { Renewal } from '../identity/renewal.ts';
import type { TrustBundle } from '../identity/trustbundle.ts';
import type { Logger } from '../telemetry/log.ts';
import { askUnderFirstBundle } from './firstbundle.ts';
import type { IdentityParts } from './identityparts.ts';
import type { SidecarOptions } from './options.ts';
import { WaitingRoom } from './waitingroom.ts';

const RETRY_MS = 1_000;
const MAX_RETRY_MS = 30_000;

/**
 * An identity that the controller certifies. What is in the files and still good is used at once, whether the controller is
 * there or not. Otherwise the sidecar waits for its first: it answers probes and `hauberk status` meanwhile, and says why.
 */
export async function openCertified(
  options: SidecarOptions,
  opening: IdentityKeeperOptions,
  log: Logger,
): Promise<IdentityParts> {
  const controller = options.config.controller as ControllerConfig;
  const { clock, files } = opening;
  let first: TrustBundle | undefined;
  let keeper: IdentityKeeper | undefined;
  const { address, peer, token } = controller;
  const trusted = (): TrustBundle => (keeper?.bundle ?? first) as TrustBundle;
  const channel = new ControlChannel({ address, peer, token, clock, bundle: trusted });
  const issuer = new ControllerIssuer({ files, channel, token, clock });
  try {
    keeper = await storedIdentity(opening, log);
    if (keeper === undefined) {
      await firstIdentity(options, clock, log, async () => {
        await askUnderFirstBundle(files, controller, async (bundle) => {
          first = bundle;
          await issuer.issue(undefined);
        });
        keeper = await IdentityKeeper.open(opening);
      });
    }
  } catch (error) {
    channel.close();
    throw error;
  }
  const kept = keeper as IdentityKeeper;
  const renewal = new Renewal({ issuer, clock, keeper: kept });
  return {
    keeper: kept,
    renewal,
    channel,
    refresh: new BundleRefresh({ issuer, keeper: kept, renewal, clock, log }),
  };
}

async function storedIdentity(
  opening: IdentityKeeperOptions,
  log: Logger,
): Promise<IdentityKeeper | undefined> {
  try {
    return await IdentityKeeper.open(opening);
  } catch (error) {
    if (!(error instanceof IdentityError)) throw error;
    // At the first start of a pod there is none.
    if (error.code !== 'missing-file') {
      log.warn(
        { reason: error.code, detail: error.message },
        'the stored identity is of no use; another is asked for',
      );
    }
    return undefined;
  }
}

/** Tries until it succeeds, with pauses that grow; says each time why it has not. */
async function firstIdentity(
  options: SidecarOptions,
  clock: Clock,
  log: Logger,
  attempt: () => Promise<void>,
): Promise<void> {
  const release = clock.hold();
  let room: WaitingRoom | undefined;
  try {
    for (let failures = 0; ; failures++) {
      try {
        await attempt();
        log.info({ attempts: failures + 1 }, 'the controller has certified this sidecar');
        return;
      } catch (error) {
        if (!(error instanceof IdentityError)) throw error;
        const backoff = Math.min(RETRY_MS * 2 ** Math.min(failures, 20), MAX_RETRY_MS);
        const asked = Math.min(error.retryAfterMs ?? 0, MAX_RETRY_MS);
        const retryMs = Math.ceil(Math.max(backoff / 2, asked) + (backoff / 2) * Math.random());
        log.error(
          { reason: error.code, detail: error.message, attempts: failures + 1, retryMs },
          'this sidecar has no identity yet, and serves nothing until the controller has certified it; it is tried again',
        );
        room ??= await WaitingRoom.open(options, clock, log);
        room.tell(error);
        await new Promise<void>((resolve) => void clock.after(retryMs, resolve));
      }
    }
  } finally {
    release();
    await room?.close();
  }
}
