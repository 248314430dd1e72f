import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { BenchError } from './errors.ts';
import { runClosedLoop } from './generator/closedloop.ts';
import { runH2load, type Target } from './h2load.ts';
import type { RunningPair } from './pairs/pair.ts';
import { cpuMicroseconds, processTree, rssMiB } from './procfs.ts';
import type { Figures, Row } from './result.ts';
import { median, type Sample } from './sample.ts';

/** One measurement of one pair under one load. */
interface Measured extends Figures {
  readonly calls: number;
  /** With those of the warm-up before it. */
  readonly failed: number;
}

export interface Pace {
  /** What a measurement should last. */
  readonly seconds: number;
  /** Path of h2load. */
  readonly h2load: string;
  /** Where its log of latencies goes meanwhile. */
  readonly folder: string;
}

const FIRST_CALLS = 2_000;
// The first of a pair and load, as a multiple of a measurement: a just-in-time compiler needs some 200,000 calls,
// which a sidecar that runs for days has behind it.
const FIRST_WARM_UPS = 3;
const WARM_UP_SECONDS = 0.2;
const MIN_CALLS = 200;
const MAX_CALLS = 1_000_000; // bounds the log of latencies to about 25 MB

/** One pair under one load: finds out how many calls fill the time, then measures as often as asked. */
export class Course {
  readonly pair: RunningPair;
  readonly #target: Target;
  readonly #pace: Pace;
  readonly #measured: Measured[] = [];
  #callsPerSecond = 0;

  constructor(pair: RunningPair, target: Target, pace: Pace) {
    this.pair = pair;
    this.#target = target;
    this.#pace = pace;
  }

  /** One warm-up and one measurement. The number of calls is fixed before it starts. */
  async round(): Promise<void> {
    const before: Sample[] = [];
    if (this.#callsPerSecond === 0) {
      before.push(await this.#run(Math.min(FIRST_CALLS, this.#callsIn(this.#pace.seconds, 1_000))));
      this.#callsPerSecond = before[0].callsPerSecond;
      before.push(await this.#run(this.#callsIn(FIRST_WARM_UPS * this.#pace.seconds)));
    } else {
      before.push(await this.#run(this.#callsIn(Math.min(WARM_UP_SECONDS, this.#pace.seconds))));
    }
    this.#callsPerSecond = before[before.length - 1].callsPerSecond;

    const pids = processTree(this.pair.pids);
    const cpuBefore = cpuMicroseconds(pids);
    const { calls, failed, ...figures } = await this.#run(this.#callsIn(this.#pace.seconds));
    const cpu = cpuMicroseconds(pids) - cpuBefore;
    this.#measured.push({
      ...figures,
      cpuUsPerCall: cpu / calls,
      rssMiB: rssMiB(pids),
      calls,
      failed: before.reduce((sum, one) => sum + one.failed, failed),
    });
    for (const file of this.pair.callLogs ?? []) truncateSync(file); // it would fill the disk
  }

  #callsIn(seconds: number, callsPerSecond = this.#callsPerSecond): number {
    const { connections, inFlight } = this.#target.load;
    const fewest = Math.max(MIN_CALLS, connections * inFlight);
    return Math.min(MAX_CALLS, Math.max(fewest, Math.round(seconds * callsPerSecond)));
  }

  #run(calls: number): Promise<Sample> {
    const { h2load, folder, seconds } = this.#pace;
    const timeoutMs = (10 + 10 * seconds) * 1000; // many times what it should take: something hangs
    const { load, port } = this.#target;
    const sample = load.unique
      ? runClosedLoop(load, port, calls, timeoutMs)
      : runH2load(h2load, this.#target, calls, join(folder, 'h2load.tsv'), timeoutMs);
    return sample.catch((error) => {
      const where = `${this.pair.name} under ${this.#target.load.name}`;
      throw new BenchError('generator-failed', `${where}: ${(error as Error).message}`, { cause: error });
    });
  }

  /** Medians over the rounds so far. */
  row(): Row {
    const all = this.#measured;
    const of = (figure: keyof Figures, digits: number) =>
      round(median(all.map((one) => one[figure])), digits);
    return {
      pair: this.pair.name,
      load: this.#target.load.name,
      cpuUsPerCall: of('cpuUsPerCall', 2),
      callsPerSecond: of('callsPerSecond', 0),
      p50Us: of('p50Us', 0),
      p99Us: of('p99Us', 0),
      rssMiB: of('rssMiB', 1),
      calls: all.reduce((sum, one) => sum + one.calls, 0),
      failed: all.reduce((sum, one) => sum + one.failed, 0),
      rounds: all.map(({ calls: _, failed: __, ...figures }) => figures),
    };
  }
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));
