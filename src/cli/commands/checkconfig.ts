import { loadConfig } from '../../config/load.ts';
import { print } from '../terminal.ts';

/** `hauberk check-config`: what `run` would say of the configuration and the identity. */
export async function checkConfig(file: string, withIdentity: boolean): Promise<void> {
  const config = await loadConfig(file);
  const { egress, ingress } = config;
  const counts = [
    counted(egress.routes.length, 'route'),
    counted(ingress.apps.length, 'app'),
    counted(ingress.allow.length, 'rule'),
  ];
  print(`${file}: ok; ${counts.join(', ')}, policy ${config.policy}`);
  if (!withIdentity) return;
  const { loadIdentity } = await import('../../identity/load.ts');
  const { systemClock } = await import('../../clock/clock.ts');
  const { identity } = await loadIdentity(
    { ...config.identity, trustDomain: config.trustDomain },
    systemClock,
  );
  print(`identity: ${identity.spiffeId}, until ${new Date(identity.notAfter).toISOString()}`);
  if (config.admin.token !== undefined) {
    await (await import('../../admin/admintoken.ts')).readAdminToken(config.admin.token);
  }
}

function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
