import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { systemClock } from '../../clock/clock.ts';
import { loadConfig } from '../../config/load.ts';
import type { Sidecar } from '../../sidecar/sidecar.ts';
import { openLogger } from '../../telemetry/log.ts';
import { Exit } from '../exit.ts';
import { boundNewSpace, holdNewSpace } from '../newspace.ts';
import { print } from '../terminal.ts';
import { version } from '../version.ts';

const SIGNALS = { SIGTERM: 15, SIGINT: 2 } as const;

/** `hauberk run`: until a signal. The first one drains, the second ends at once. */
export async function run(file: string): Promise<void> {
  holdNewSpace();
  const configFile = resolve(file);
  const config = await loadConfig(configFile);
  const { forgetPasswords } = await import('../../config/environment.ts');
  forgetPasswords();
  const configSha256 = createHash('sha256')
    .update(await readFile(configFile))
    .digest('hex');
  const log = await openLogger({ level: config.log.level, clock: systemClock });
  // Not before: what the configuration took until here is collected, and its pages are used again.
  const { Sidecar } = await import('../../sidecar/sidecar.ts');
  const sidecar = await Sidecar.start({
    config,
    configFile,
    configSha256,
    version: version(),
    stdout: process.stdout,
    log,
  });
  process.on('SIGHUP', () => sidecar.reopenAudit());
  const over = shutDownOnSignal(sidecar);
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
  const { egress, routes, ingress, probesHttp, probesGrpc, admin } = sidecar.bound;
  return JSON.stringify({
    ready: true,
    version: version(),
    pid: process.pid,
    spiffeId: sidecar.spiffeId,
    egress,
    routes,
    ingress,
    probes: { http: probesHttp, grpc: probesGrpc },
    admin,
  });
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
