import { Random } from '../harness/fuzz-input.ts';
import type { Coverage } from './coverage.ts';
import type { Target } from './target.ts';

export interface Finding {
  readonly input: Buffer;
  readonly error: Error;
}

export interface EngineEvents {
  /** Called before each run, lest an input that hangs or kills the thread be lost. */
  running(input: Buffer): void;
  found(finding: Finding): void;
}

const TRIM_RUNS = 200;
const SHRINK_RUNS = 2000;
/** What is kept in the repository of one target. */
const KEPT_INPUTS = 200;
const KEPT_OCTETS = 24_000;

/** Mutates a corpus, keeps what reaches something new, and reports what breaks a claim. */
export class Engine {
  readonly #target: Target;
  readonly #coverage: Coverage;
  readonly #random: Random;
  readonly #events: EngineEvents;
  readonly #corpus: Buffer[] = [];
  readonly #known = new Set<string>();
  #executions = 0;

  constructor(target: Target, coverage: Coverage, seed: number, events: EngineEvents) {
    this.#target = target;
    this.#coverage = coverage;
    this.#random = new Random(seed);
    this.#events = events;
  }

  get executions(): number {
    return this.#executions;
  }

  get corpus(): readonly Buffer[] {
    return this.#corpus;
  }

  /** Different ways in which a claim was broken. */
  get findings(): number {
    return this.#known.size;
  }

  /** Runs inputs that are there already. */
  async begin(inputs: readonly Buffer[]): Promise<void> {
    for (const input of inputs) await this.#try(input, false);
    if (this.#corpus.length === 0) this.#corpus.push(Buffer.alloc(1));
  }

  /** Mutates and runs until `until` says so; it is asked after each run. */
  async go(until: () => boolean): Promise<void> {
    while (!until()) {
      const input = this.#target.mutate(this.#random, this.#pick(), this.#pick());
      await this.#try(input.subarray(0, this.#target.maxLength), true);
    }
  }

  /** Half of the time one of the newest. */
  #pick(): Buffer {
    const { length } = this.#corpus;
    const newest = Math.min(length, 24);
    const at = this.#random.chance(2) ? length - 1 - this.#random.below(newest) : this.#random.below(length);
    return this.#corpus[at] as Buffer;
  }

  async #try(input: Buffer, trim: boolean): Promise<void> {
    const error = await this.#run(input);
    if (error !== undefined) {
      this.#coverage.take();
      await this.#report(input, error);
      return;
    }
    const features = this.#coverage.features();
    if (!this.#coverage.learn(features)) return;
    this.#corpus.push(Buffer.from(trim ? await this.#trimmed(input, features) : input));
  }

  async #run(input: Buffer): Promise<Error | undefined> {
    this.#executions++;
    this.#events.running(input);
    this.#coverage.clear();
    try {
      const running = this.#target.run(input);
      if (running !== undefined) await running;
      return undefined;
    } catch (error) {
      return error instanceof Error ? error : new Error(`threw ${String(error)}`);
    }
  }

  /** Leaves out pieces as long as the rest reaches all that the input has reached. */
  async #trimmed(input: Buffer, features: readonly number[]): Promise<Buffer> {
    return this.#smaller(input, TRIM_RUNS, async (candidate) => {
      if ((await this.#run(candidate)) !== undefined) return false;
      const reached = new Set(this.#coverage.features());
      return features.every((feature) => reached.has(feature));
    });
  }

  async #report(input: Buffer, error: Error): Promise<void> {
    const kind = kindOf(error);
    if (this.#known.has(kind)) return;
    this.#known.add(kind);
    let last = error;
    const shrunk = await this.#smaller(input, SHRINK_RUNS, async (candidate) => {
      const again = await this.#run(candidate);
      if (again === undefined || kindOf(again) !== kind) return false;
      last = again;
      return true;
    });
    this.#events.found({ input: shrunk, error: last });
  }

  async #smaller(input: Buffer, runs: number, holds: (candidate: Buffer) => Promise<boolean>) {
    let best = input;
    for (let size = Math.ceil(best.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = 0; at < best.length && runs > 0; ) {
        const candidate = Buffer.concat([best.subarray(0, at), best.subarray(at + size)]);
        runs--;
        if (await holds(candidate)) best = candidate;
        else at += size;
      }
    }
    return best;
  }

  /** The few inputs that together reach every block, and then those that reach it in other numbers, while there is room. */
  async minimal(): Promise<Buffer[]> {
    const reached: Array<{ input: Buffer; features: number[] }> = [];
    for (const input of [...this.#corpus].sort((a, b) => a.length - b.length)) {
      if ((await this.#run(input)) === undefined) {
        reached.push({ input, features: this.#coverage.features() });
      }
    }
    const seen = new Set<number>();
    const kept = new Set<Buffer>();
    let octets = 0;
    for (const shift of [256, 1]) {
      for (const { input, features } of reached) {
        const wanted = features.map((feature) => Math.floor(feature / shift) * 1024 + (shift === 1 ? 1 : 0));
        if (kept.has(input) || wanted.every((feature) => seen.has(feature))) {
          if (kept.has(input)) for (const feature of wanted) seen.add(feature);
          continue;
        }
        if (shift === 1 && (kept.size >= KEPT_INPUTS || octets + input.length > KEPT_OCTETS)) continue;
        for (const feature of wanted) seen.add(feature);
        kept.add(input);
        octets += input.length;
      }
    }
    return [...kept];
  }
}

/** Findings with the same text but for numbers and quoted parts are one. */
function kindOf(error: Error): string {
  const line = error.message.split('\n', 1)[0] as string;
  return `${error.name}: ${line
    .replace(/"[^"]*"/g, '""')
    .replace(/[0-9]+/g, 'N')
    .slice(0, 120)}`;
}
