import { systemClock } from '../../clock/clock.ts';
import { kubeAccessOf, namespaceOf } from '../../config/kubeaccess.ts';
import { loadControllerConfig } from '../../config/load.ts';
import { Controller } from '../../kube/controller.ts';
import { PARTS } from '../../kube/parts.ts';
import { openLogger } from '../../telemetry/log.ts';
import { version } from '../../telemetry/version.ts';
import { print } from '../terminal.ts';

const SIGNALS = { SIGTERM: 15, SIGINT: 2 } as const;

/** `hauberk controller`: until a signal. The first one drains, the second ends at once. */
export async function runController(file: string): Promise<void> {
  const { config, source, sha256 } = await loadControllerConfig(file);
  const access = kubeAccessOf(config, source);
  const namespace = await namespaceOf(config, source);
  const log = await openLogger({ level: config.log.level, clock: systemClock });
  const controller = await Controller.make({
    config,
    configFile: source,
    configSha256: sha256,
    access,
    namespace,
    version: version(),
    stdout: process.stdout,
    log,
    clock: systemClock,
    parts: PARTS,
  });
  process.on('SIGHUP', () => {
    controller.reopenAudit();
    // It is looked at again anyway.
    controller.lookAtCa().catch(() => undefined);
  });
  const over = shutDownOnSignal(controller);
  // The clock's timers let a process end that has nothing else to wait for; this one waits for an API server, too.
  const alive = setInterval(() => undefined, 2 ** 30);
  if (await controller.start()) print(readyLine(controller));
  await over;
  clearInterval(alive);
  // Now, whatever an adapter that was given up on is still at.
  process.exit();
}

/** One line of JSON: what was bound, for whoever started us. docs/cli.md describes it. */
function readyLine({ bound, spiffeId }: Controller): string {
  const { control = [], 'probes.http': http = [], ...others } = bound;
  const line = { ready: true, version: version(), pid: process.pid, spiffeId, control, ...others };
  return JSON.stringify({ ...line, probes: { http } });
}

function shutDownOnSignal(controller: Controller): Promise<void> {
  return new Promise((resolve, reject) => {
    let first = true;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (!first) process.exit(128 + SIGNALS[signal as keyof typeof SIGNALS]);
      first = false;
      controller
        .drain(signal)
        .then(() => controller.stop(signal))
        .then(resolve, reject);
    };
    for (const signal of Object.keys(SIGNALS)) process.on(signal, onSignal);
  });
}
