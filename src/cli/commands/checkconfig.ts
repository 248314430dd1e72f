import { CONFIG_VARIABLE, loadGivenConfig } from '../../config/load.ts';
import { print } from '../terminal.ts';

export interface CheckOptions {
  /** Whether the files of the identity are read. */
  readonly identity: boolean;
  /** Whether the controller is asked for a certificate. */
  readonly askController: boolean;
}

/** `hauberk check-config`: what `run` would say of the configuration and the identity. */
export async function checkConfig(
  file: string | undefined,
  { identity: withIdentity, askController: asks }: CheckOptions,
  missing: (what: string) => never,
): Promise<void> {
  const given = await loadGivenConfig(file);
  if (given === undefined) {
    missing(
      `name the configuration to check, as in \`hauberk check-config sidecar.yaml\`, or put its text into the variable ${CONFIG_VARIABLE}`,
    );
  }
  const { config } = given;
  const { egress, ingress } = config;
  const counts = [
    counted(egress.routes.length, 'route'),
    counted(ingress.apps.length, 'app'),
    counted(ingress.allow.length, 'rule'),
  ];
  print(`${file ?? CONFIG_VARIABLE}: ok; ${counts.join(', ')}, policy ${config.policy}`);
  if (!withIdentity) return;
  if (config.identity.issuer === 'controller') {
    const controller = `the controller at ${config.controller?.address.host}`;
    if (asks) {
      const { spiffeId, notAfter } = await (await import('./askcontroller.ts')).askController(config);
      print(`identity: ${spiffeId}, until ${new Date(notAfter).toISOString()}, certified by ${controller}`);
    } else {
      print(`identity: certified by ${controller}, which was not asked`);
    }
    return;
  }
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
