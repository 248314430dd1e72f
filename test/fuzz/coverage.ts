/** The counters that scripts/fuzz-hooks.mjs puts into src/. */
interface CountedFile {
  readonly file: string;
  readonly from: number;
  readonly count: number;
}

const globals = globalThis as unknown as { __fuzzCounters: Uint8Array; __fuzzFiles: CountedFile[] };

/** How often a block ran, in classes: a loop that runs twice is news, one that runs 41 times after 40 is none. */
const CLASS = Uint8Array.from({ length: 256 }, (_, n) => {
  if (n <= 3) return [0, 1, 2, 4][n] as number;
  return n < 8 ? 8 : n < 16 ? 16 : n < 32 ? 32 : n < 128 ? 64 : 128;
});

/** What inputs have reached: blocks, and how often in one run. */
export class Coverage {
  readonly #counters = globals.__fuzzCounters;
  readonly #words: Uint32Array;
  readonly #seen: Uint8Array;
  #blocks = 0;

  /** After all modules were loaded: what they ran while loading does not count. */
  constructor() {
    const last = globals.__fuzzFiles.at(-1);
    const used = last === undefined ? 0 : last.from + last.count;
    this.#words = new Uint32Array(this.#counters.buffer, 0, Math.ceil(used / 4));
    this.#seen = new Uint8Array(this.#words.length * 4);
    this.clear();
  }

  /** Blocks reached so far. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Forgets what has run since the last call of `take` or `features`. */
  clear(): void {
    this.#words.fill(0);
  }

  /** Notes what has run since; says if any of it is new. */
  take(): boolean {
    return this.learn(this.features());
  }

  /** Notes features; says if any of them is new. */
  learn(features: readonly number[]): boolean {
    let fresh = false;
    for (const feature of features) {
      const at = feature >>> 8;
      const bit = feature & 0xff;
      const seen = this.#seen[at] as number;
      if ((seen & bit) !== 0) continue;
      if (seen === 0) this.#blocks++;
      this.#seen[at] = seen | bit;
      fresh = true;
    }
    return fresh;
  }

  /** What has run since, each as a number: the block, and in the low octet the class of how often. */
  features(): number[] {
    const found: number[] = [];
    this.#each((at, bit) => found.push(at * 256 + bit));
    return found;
  }

  #each(found: (at: number, bit: number) => void): void {
    const words = this.#words;
    const counters = this.#counters;
    for (let word = 0; word < words.length; word++) {
      if (words[word] === 0) continue;
      for (let at = word * 4; at < word * 4 + 4; at++) {
        const count = counters[at] as number;
        if (count === 0) continue;
        counters[at] = 0;
        found(at, CLASS[count] as number);
      }
    }
  }

  /** Blocks reached and there, for each file that was reached. */
  byFile(): Array<{ file: string; reached: number; blocks: number }> {
    return globals.__fuzzFiles
      .map(({ file, from, count }) => {
        const reached = this.#seen.subarray(from, from + count).filter((seen) => seen !== 0).length;
        return { file, reached, blocks: count };
      })
      .filter(({ reached }) => reached > 0);
  }
}
