import { resolve } from 'node:path';
import { systemClock } from '../../clock/clock.ts';
import { CONFIG_VARIABLE, loadGivenConfig } from '../../config/load.ts';
import type { Sidecar } from '../../sidecar/sidecar.ts';
import { openLogger } from '../../telemetry/log.ts';
import { version } from '../../telemetry/version.ts';
import { Exit } from '../exit.ts';
import { boundNewSpace, holdNewSpace } from '../newspace.ts';
import { print } from '../terminal.ts';

const SIGNALS = { SIGTERM: 15, SIGINT: 2 } as const;

/**
 * `hauberk run`: until a signal. The first one drains, the second ends at once. `missing` is called if nothing is configured.
 */
export async function run(file: string | undefined, missing: (what: string) => never): Promise<void> {
  holdNewSpace();
  const given = await loadGivenConfig(file === undefined ? undefined : resolve(file));
  if (given === undefined) {
    missing(`name the configuration with -c FILE, or put its text into the variable ${CONFIG_VARIABLE}`);
  }
  const { config, source, sha256 } = given;
  const { forgetPasswords } = await import('../../config/environment.ts');
  forgetPasswords();
  const log = await openLogger({ level: config.log.level, clock: systemClock });
  // Not before: what the configuration took until here is collected, and its pages are used again.
  const { Sidecar } = await import('../../sidecar/sidecar.ts');
  const endAtOnce = endOnSignal();
  const sidecar = await Sidecar.start({
    config,
    configFile: source,
    configSha256: sha256,
    version: version(),
    stdout: process.stdout,
    log,
  });
  process.on('SIGHUP', () => {
    sidecar.reopenAudit();
    // A refusal is in the log and the audit.
    sidecar.reloadIdentity().catch(() => undefined);
  });
  const over = shutDownOnSignal(sidecar);
  endAtOnce.never();
  print(readyLine(sidecar));
  boundNewSpace();
  // The clock's timers let a process end that has nothing else to wait for; this one ends when all is written.
  const alive = setInterval(() => undefined, 2 ** 30);
  await over;
  clearInterval(alive);
  // Now, whatever an adapter that was given up on is still at.
  process.exit();
}

/** One line of JSON: what was bound, for whoever started us. docs/cli.md describes it. */
function readyLine(sidecar: Sidecar): string {
  const { egress, routes, redirects, ingress, probesHttp, probesGrpc, admin } = sidecar.bound;
  return JSON.stringify({
    ready: true,
    version: version(),
    pid: process.pid,
    spiffeId: sidecar.spiffeId,
    egress,
    routes,
    redirects,
    ingress,
    probes: { http: probesHttp, grpc: probesGrpc },
    admin,
  });
}

/** Before there is a sidecar. The first process of a container would not hear a signal that it has no handler for. */
function endOnSignal(): { never(): void } {
  const onSignal = (signal: NodeJS.Signals): never =>
    process.exit(128 + SIGNALS[signal as keyof typeof SIGNALS]);
  for (const signal of Object.keys(SIGNALS)) process.on(signal, onSignal);
  return {
    never: () => {
      for (const signal of Object.keys(SIGNALS)) process.off(signal, onSignal);
    },
  };
}

function shutDownOnSignal(sidecar: Sidecar): Promise<void> {
  return new Promise((resolve, reject) => {
    let first = true;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (!first) process.exit(128 + SIGNALS[signal as keyof typeof SIGNALS]);
      first = false;
      sidecar.drain(signal).then(async () => {
        const cut = await sidecar.stop(signal);
        if (cut > 0) process.exitCode = Exit.CALLS_CUT;
        resolve();
      }, reject);
    };
    for (const signal of Object.keys(SIGNALS)) process.on(signal, onSignal);
  });
}
