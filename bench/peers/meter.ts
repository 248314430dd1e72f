import { cpuMicroseconds, processTree, rssMiB } from './procfs.ts';
import type { Used } from './result.ts';

/** What the two proxies of a pair use while something is measured: all their processes, workers too. */
export class Meter {
  /** Of A and of B; empty for a pair without proxies. */
  readonly #trees: readonly (readonly number[])[];
  #cpuUs: readonly number[] = [];
  #startedAt = 0;
  #elapsedUs = 0;

  /** `pids` are those of A and B. */
  constructor(pids: readonly number[]) {
    this.#trees = pids.map((pid) => processTree([pid]));
  }

  begin(): void {
    this.#cpuUs = this.#trees.map(cpuMicroseconds);
    this.#startedAt = performance.now();
  }

  /** What was to be measured is over. */
  end(): void {
    this.#elapsedUs = (performance.now() - this.#startedAt) * 1000;
  }

  /** To be called once, when the proxies have also done what they had put off (written events). */
  settle(): void {
    this.#cpuUs = this.#trees.map((tree, at) => cpuMicroseconds(tree) - this.#cpuUs[at]);
  }

  /** User + system time, microseconds. */
  get cpuUs(): number {
    return this.#cpuUs.reduce((sum, one) => sum + one, 0);
  }

  get used(): Used {
    const [cpuA = 0, cpuB = 0] = this.#cpuUs;
    const [rssMiBA = 0, rssMiBB = 0] = this.#trees.map(rssMiB);
    return {
      cores: this.cpuUs / this.#elapsedUs,
      coresA: cpuA / this.#elapsedUs,
      coresB: cpuB / this.#elapsedUs,
      rssMiB: rssMiBA + rssMiBB,
      rssMiBA,
      rssMiBB,
    };
  }
}
