/** Sidecars inside the test's own process, as a program embeds them: the library's API is at hand. */
import { PassThrough } from 'node:stream';
import type { Clock } from '../../src/clock/clock.ts';
import { loadConfig } from '../../src/config/load.ts';
import { Sidecar } from '../../src/sidecar/sidecar.ts';
import { AuditFile } from './auditfile.ts';
import { atEnd, type ConfigFile, type SidecarFiles, type World } from './sidecars.ts';

export interface Embedded {
  readonly sidecar: Sidecar;
  readonly files: SidecarFiles;
  readonly audit: AuditFile;
  /** The first listener for apps and for peers, `host:port`. */
  readonly egress: string;
  readonly ingress: string;
}

/** Starts a sidecar in this process; `World.sidecar` says what its configuration is merged into. */
export async function embed(
  world: World,
  name: string,
  config: ConfigFile = {},
  clock?: Clock,
): Promise<Embedded> {
  return embedAgain(name, await world.configure(name, config), clock);
}

/** Starts one with the files that another had. */
export async function embedAgain(name: string, files: SidecarFiles, clock?: Clock): Promise<Embedded> {
  const sidecar = await Sidecar.start({
    config: await loadConfig(files.config),
    configFile: files.config,
    configSha256: '',
    version: '0.0.0',
    stdout: new PassThrough(),
    ...(clock === undefined ? {} : { clock }),
  });
  atEnd(async () => void (await sidecar.stop('end of test')));
  return {
    sidecar,
    files,
    audit: new AuditFile(files.audit, `${name}'s audit`),
    egress: sidecar.bound.egress[0] as string,
    ingress: sidecar.bound.ingress[0] as string,
  };
}
