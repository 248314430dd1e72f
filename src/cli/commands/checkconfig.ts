import { loadConfig } from '../../config/load.ts';
import { print } from '../terminal.ts';

/** `hauberk check-config`: everything that `run` would refuse before it listens. */
export async function checkConfig(file: string, withIdentity: boolean): Promise<void> {
  const config = await loadConfig(file);
  const { egress, ingress } = config;
  print(
    `${file}: ok; ${egress.routes.length} routes, ${ingress.apps.length} apps, ${ingress.allow.length} rules, policy ${config.policy}`,
  );
  if (!withIdentity) return;
  const { loadIdentity } = await import('../../identity/load.ts');
  const { systemClock } = await import('../../clock/clock.ts');
  const { identity } = await loadIdentity(
    { ...config.identity, trustDomain: config.trustDomain },
    systemClock,
  );
  print(`identity: ${identity.spiffeId}, until ${new Date(identity.notAfter).toISOString()}`);
}
