import { join } from 'node:path';
import { awaitRecorded } from './calllog.ts';
import { BenchError } from './errors.ts';
import { runCalls } from './generator/calls.ts';
import { runH2load, type Target } from './h2load.ts';
import { mibPerCall } from './load.ts';
import { Meter } from './meter.ts';
import type { RunningPair } from './pairs/pair.ts';
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
const FIRST_MIB_PER_SECOND = 100; // a guess on the low side
// The first warm-up of a pair and load, as a multiple of a measurement. A just-in-time compiler needs many calls, which
// a sidecar that runs for days has behind it; on a busy machine they take longer.
const FIRST_WARM_UPS = { compiled: 1, justInTime: 3, justInTimeAtMost: 6 };
const JUST_IN_TIME_CALLS = 150_000;
const PACED = 2; // its calls are few: as many measurements' time for each
const WARM_UP_SECONDS = 0.2;
const MIN_CALLS = 200; // or so many MiB of messages
const MIN_MIB = 32;
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
    const { load } = this.#target;
    const { seconds } = this.#pace;
    const { callLogs = [] } = this.pair;
    let failed = 0;
    let warmUps = 0;
    const warmUp = async (calls: number) => {
      const sample = await this.#run(calls);
      failed += sample.failed;
      warmUps += calls;
      this.#callsPerSecond = sample.callsPerSecond;
    };
    if (this.#callsPerSecond === 0) {
      const guess = Math.min(1_000, FIRST_MIB_PER_SECOND / mibPerCall(load));
      await warmUp(Math.min(FIRST_CALLS, this.#callsIn(seconds, guess)));
      await warmUp(this.#firstWarmUp());
    } else {
      await warmUp(this.#callsIn(Math.min(WARM_UP_SECONDS, seconds)));
    }

    const meter = new Meter(this.pair.pids);
    const calls = this.#callsIn(
      load.callsPerSecond === undefined ? seconds : PACED * seconds,
      load.callsPerSecond,
    );
    await awaitRecorded(callLogs, warmUps);
    const sample = await this.#run(calls, load.callsPerSecond, meter);
    await awaitRecorded(callLogs, calls);
    meter.settle();
    this.#measured.push({
      ...meter.used,
      cpuUsPerCall: meter.cpuUs / calls,
      callsPerSecond: sample.callsPerSecond,
      cpuUsPerMib: meter.cpuUs / (calls * mibPerCall(load)),
      mibPerSecond: sample.callsPerSecond * mibPerCall(load),
      p50Us: sample.p50Us,
      p99Us: sample.p99Us,
      calls,
      failed: failed + sample.failed,
    });
  }

  #firstWarmUp(): number {
    const { compiled, justInTime, justInTimeAtMost } = FIRST_WARM_UPS;
    const { seconds } = this.#pace;
    if (this.pair.justInTime !== true) return this.#callsIn(compiled * seconds);
    const enough = Math.max(JUST_IN_TIME_CALLS, this.#callsIn(justInTime * seconds));
    return Math.min(enough, this.#callsIn(justInTimeAtMost * seconds));
  }

  #callsIn(seconds: number, callsPerSecond = this.#callsPerSecond): number {
    const { load } = this.#target;
    const few = Math.ceil(Math.min(MIN_CALLS, MIN_MIB / mibPerCall(load)));
    const fewest = Math.max(few, load.connections * load.inFlight);
    return Math.min(MAX_CALLS, Math.max(fewest, Math.round(seconds * callsPerSecond)));
  }

  /** Without `callsPerSecond` as fast as answers come. */
  async #run(calls: number, callsPerSecond?: number, meter?: Meter): Promise<Sample> {
    const { h2load, folder, seconds } = this.#pace;
    const timeoutMs = (10 + 10 * seconds) * 1000; // many times what it should take: something hangs
    const { load, port } = this.#target;
    const onBegin = () => meter?.begin();
    const onEnd = () => meter?.end();
    try {
      if (load.generator === 'own') {
        return await runCalls({ load, port, calls, callsPerSecond, timeoutMs, onBegin, onEnd });
      }
      onBegin();
      const sample = await runH2load(h2load, this.#target, calls, join(folder, 'h2load.tsv'), timeoutMs);
      onEnd();
      return sample;
    } catch (error) {
      const where = `${this.pair.name} under ${load.name}`;
      throw new BenchError('generator-failed', `${where}: ${(error as Error).message}`, { cause: error });
    }
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
      callsPerSecond: of('callsPerSecond', 1),
      cpuUsPerMib: of('cpuUsPerMib', 1),
      mibPerSecond: of('mibPerSecond', 1),
      p50Us: of('p50Us', 0),
      p99Us: of('p99Us', 0),
      cores: of('cores', 4),
      coresA: of('coresA', 4),
      coresB: of('coresB', 4),
      rssMiB: of('rssMiB', 1),
      rssMiBA: of('rssMiBA', 1),
      rssMiBB: of('rssMiBB', 1),
      calls: all.reduce((sum, one) => sum + one.calls, 0),
      failed: all.reduce((sum, one) => sum + one.failed, 0),
      rounds: all.map(({ calls: _, failed: __, ...figures }) => figures),
    };
  }
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));
