import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../src/clock/clock.ts';
import { ControllerIssuer } from '../../src/control/certify.ts';
import { ControlChannel } from '../../src/control/channel.ts';
import { type LoadedIdentity, loadIdentity } from '../../src/identity/load.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import type { Controller } from './controllers.ts';
import type { Kubernetes } from './kubernetes.ts';

const PEER = 'spiffe://cluster.local/ns/hauberk-system/sa/hauberk-controller';

export interface SvidRequest {
  readonly token: string;
  /** By which the controller is known. */
  readonly bundlePem: string;
  /** Whom to take the answer from: the chart's controller unless given. */
  readonly peer?: string | undefined;
}

/** Asks a replica for an SVID, as a sidecar does. Rejects with IdentityError. */
export async function askForSvid(
  cluster: Kubernetes,
  { address }: Controller,
  { token, bundlePem, peer = PEER }: SvidRequest,
): Promise<LoadedIdentity> {
  const folder = await mkdtemp(join(cluster.dir, 'sidecar-'));
  const at = (name: string): string => join(folder, name);
  await writeFile(at('token'), token);
  const bundle = TrustBundle.fromPem(bundlePem, 'cluster.local');
  const channel = new ControlChannel({
    address: { host: address, port: 15010 },
    peer,
    token: at('token'),
    bundle: () => bundle,
    clock: systemClock,
  });
  const files = {
    svid: at('svid.pem'),
    key: at('svid.key'),
    bundle: at('bundle.pem'),
    trustDomain: 'cluster.local',
  };
  try {
    await new ControllerIssuer({ files, channel, token: at('token'), clock: systemClock }).issue(undefined);
    return await loadIdentity(files, systemClock);
  } finally {
    channel.close();
  }
}
