/** A mesh's start: from its options and keys to a sidecar, or to the error that says what to do. */
import { createHash } from 'node:crypto';
import { systemClock } from '../clock/clock.ts';
import type { SidecarConfig } from '../config/config.ts';
import { IdentityError } from '../identity/errors.ts';
import { ListenError } from '../relay/listener.ts';
import type { LocalApp } from '../sidecar/options.ts';
import { Sidecar } from '../sidecar/sidecar.ts';
import { adoptLogger, type Logger, type LogLevel, openLogger } from '../telemetry/log.ts';
import { version } from '../telemetry/version.ts';
import { MeshError } from './errors.ts';
import { meshConfig } from './meshconfig.ts';
import { badKeys, meshKeys } from './meshkeys.ts';
import type { SecureMeshOptions } from './options.ts';

/** Where the audit says that the configuration came from. */
const SOURCE = 'SecureMeshOptions';

/** Starts the sidecar of a mesh; `app` makes what serves in this process. What it rejects with is for `startError`. */
export async function startSidecar(
  options: SecureMeshOptions,
  app: (() => Promise<LocalApp>) | undefined,
): Promise<Sidecar> {
  const serving = await app?.();
  const { files, spiffeId } = await meshKeys(options.serviceId, options.keys);
  const { config, adapters } = meshConfig(options, files, spiffeId);
  return Sidecar.start({
    config,
    adapters,
    ...(serving === undefined ? {} : { localApps: new Map([[options.serviceId.toLowerCase(), serving]]) }),
    configFile: SOURCE,
    configSha256: createHash('sha256').update(fingerprint(config)).digest('hex'),
    version: version(),
    stdout: process.stdout,
    log: await loggerOf(options, config.log.level),
  });
}

/** The configuration as text, without the password that the URL of a Redis may hold. */
function fingerprint(config: SidecarConfig): string {
  return JSON.stringify({ ...config, limitStore: config.limitStore.type });
}

async function loggerOf({ log }: SecureMeshOptions, level: LogLevel): Promise<Logger> {
  return typeof log === 'object' ? adoptLogger(log) : openLogger({ level, clock: systemClock });
}

/** The names that a part of the sidecar has in its errors, and what they are among the options. */
const OPTION_NAMES: readonly (readonly [string, string])[] = [
  ['ingress.listen', 'options.port'],
  ['probes.', 'options.probes.'],
  ['admin.listen', 'options.admin'],
];

/** What a start has rejected with, in the words of a mesh. */
export function startError(error: unknown): MeshError {
  if (error instanceof MeshError) return error;
  if (error instanceof IdentityError) return badKeys(error);
  let message = error instanceof Error ? error.message : String(error);
  for (const [name, option] of OPTION_NAMES)
    if (message.startsWith(name)) message = message.replace(name, option);
  if (error instanceof ListenError && error.taken) {
    return new MeshError('port-taken', `${message} (0 takes any that is free)`, { cause: error });
  }
  return new MeshError('start-failed', message, { cause: error });
}
