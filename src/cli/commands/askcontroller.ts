import { mkdtemp, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { systemClock } from '../../clock/clock.ts';
import type { ControllerConfig, SidecarConfig } from '../../config/config.ts';
import { ControllerIssuer } from '../../control/certify.ts';
import { ControlChannel } from '../../control/channel.ts';
import { loadIdentity } from '../../identity/load.ts';
import type { LocalIdentity } from '../../identity/local.ts';
import type { TrustBundle } from '../../identity/trustbundle.ts';
import { askUnderFirstBundle } from '../../sidecar/firstbundle.ts';

/**
 * Has the controller certify this pod once, and forgets the certificate: what a running sidecar has stays as it is.
 * Rejects with IdentityError.
 */
export async function askController(config: SidecarConfig): Promise<LocalIdentity> {
  const { identity, trustDomain } = config;
  const controller = config.controller as ControllerConfig;
  const { address, peer, token } = controller;
  let bundle: TrustBundle | undefined;
  const folder = await mkdtemp(join(dirname(identity.svid), 'asked-'));
  const trusted = (): TrustBundle => bundle as TrustBundle;
  const channel = new ControlChannel({ address, peer, token, clock: systemClock, bundle: trusted });
  try {
    const at = (name: string): string => join(folder, name);
    const files = { svid: at('svid.pem'), key: at('svid.key'), bundle: at('bundle.pem'), trustDomain };
    const issuer = new ControllerIssuer({ files, channel, token, clock: systemClock });
    await askUnderFirstBundle({ ...identity, trustDomain }, controller, async (first) => {
      bundle = first;
      await issuer.issue(undefined);
    });
    return (await loadIdentity(files, systemClock)).identity;
  } finally {
    channel.close();
    await rm(folder, { recursive: true, force: true });
  }
}
