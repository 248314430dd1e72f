import { HealthMonitor } from '../admin/healthmonitor.ts';
import type { Sidecar } from '../sidecar/sidecar.ts';

/** The check that tells whether the mesh itself is ready. */
const MESH = 'mesh';
/** What the sidecar's readiness calls the checks of the program. */
const PROGRAM = "the program's health checks";

/**
 * Joins the health of a program and the readiness of its sidecar: the monitor has a check of the mesh and one, which is not
 * critical, of each service that is called; and while a critical check of the program's own fails, the sidecar is not ready.
 */
export class MeshHealth {
  readonly monitor = new HealthMonitor();
  readonly #own = new Set<string>();
  #sidecar: Sidecar | undefined;
  #unfollow: () => void = () => {};

  constructor(services: readonly string[]) {
    this.#add(MESH, true, (sidecar) => {
      const pending = sidecar.readiness.pending.filter((task) => task !== PROGRAM);
      return pending.length === 0 ? undefined : `not ready: ${pending.join(', ')}`;
    });
    for (const service of services) {
      this.#add(`service ${service}`, false, (sidecar) =>
        sidecar.services.get(service.toLowerCase()) === false
          ? 'none of its mesh ports answered when it was tried last'
          : undefined,
      );
    }
  }

  /** `problem` says what is wrong, if something is. */
  #add(name: string, critical: boolean, problem: (sidecar: Sidecar) => string | undefined): void {
    this.#own.add(name);
    const check = (): void => {
      const found = this.#sidecar === undefined ? 'the mesh has not started' : problem(this.#sidecar);
      if (found !== undefined) throw new Error(found);
    };
    this.monitor.add(name, check, { critical });
  }

  /** The sidecar runs. */
  join(sidecar: Sidecar): void {
    this.#sidecar = sidecar;
    const program = sidecar.readiness.task(PROGRAM);
    const follow = (): void => {
      const { checks } = this.monitor.status();
      const failing = checks.some((check) => check.critical && !check.healthy && !this.#own.has(check.name));
      if (failing) program.pending();
      else program.done();
    };
    this.#unfollow = this.monitor.on('change', follow);
    follow();
    this.monitor.start();
  }

  /** The sidecar ends. */
  leave(): void {
    this.#unfollow();
    this.monitor.stop();
  }
}
