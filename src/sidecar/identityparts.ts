import type { Clock } from '../clock/clock.ts';
import type { BundleRefresh } from '../control/bundlerefresh.ts';
import type { ControlChannel } from '../control/channel.ts';
import { IdentityKeeper, type IdentityKeeperOptions } from '../identity/keeper.ts';
import type { Renewal } from '../identity/renewal.ts';
import type { Logger } from '../telemetry/log.ts';
import type { SidecarOptions } from './options.ts';

/** Who a sidecar is, and what keeps that current. */
export interface IdentityParts {
  readonly keeper: IdentityKeeper;
  /** If the SVID is to be renewed here. */
  readonly renewal: Renewal | undefined;
  /** The way to the controller, if it issues the SVID. */
  readonly channel: ControlChannel | undefined;
  readonly refresh: BundleRefresh | undefined;
}

/** The identity, as its configuration says that it is come by. Rejects with IdentityError, or waits for the controller. */
export async function openIdentity(
  options: SidecarOptions,
  clock: Clock,
  log: Logger,
): Promise<IdentityParts> {
  const { identity, trustDomain } = options.config;
  const { reloadMs, renew, issuer, svid, key, bundle } = identity;
  const files = { svid, key, bundle, trustDomain };
  const opening: IdentityKeeperOptions = { files, clock, reloadMs: reloadMs === 0 ? undefined : reloadMs };
  if (issuer === 'controller') {
    const { openCertified } = await import('./certifiedidentity.ts');
    return await openCertified(options, opening, log);
  }
  const nobody = { channel: undefined, refresh: undefined };
  if (!renew) return { keeper: await IdentityKeeper.open(opening), renewal: undefined, ...nobody };
  const [{ FolderIssuer, openRenewing }, { Renewal }] = await Promise.all([
    import('../identity/folderissuer.ts'),
    import('../identity/renewal.ts'),
  ]);
  const keeper = await openRenewing(opening);
  const renewal = new Renewal({ issuer: new FolderIssuer(files, clock), clock, keeper });
  return { keeper, renewal, ...nobody };
}
