import type { Random } from '../harness/fuzz-input.ts';

/** One thing that is fuzzed: how inputs are made, and what must hold for each of them. */
export interface Target {
  readonly name: string;
  /** What must hold, in a sentence: for the summary and the docs. */
  readonly claim: string;
  /** Inputs to begin with. They are made anew by each run, so that no key or certificate is kept. */
  readonly seeds: readonly Buffer[];
  /** Longer inputs are cut. */
  readonly maxLength: number;
  /** A changed copy of `input`, by what is known of its form; `other` is another of the corpus. */
  mutate(random: Random, input: Buffer, other: Buffer): Buffer;
  /** Throws whatever shows that the claim does not hold. The same for the same input, always. */
  run(input: Buffer): void | Promise<void>;
}

/** A claim of a target does not hold. */
export class Broken extends Error {
  override readonly name = 'Broken';
}

/** Throws unless `holds`. */
export function claim(holds: boolean, what: string | (() => string)): asserts holds {
  if (!holds) throw new Broken(typeof what === 'string' ? what : what());
}

/** Throws unless both are the same JSON. */
export function same(actual: unknown, expected: unknown, what: string): void {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a === b) return;
  let at = 0;
  while (a?.[at] === b?.[at]) at++;
  const from = Math.max(0, at - 60);
  throw new Broken(
    `${what}, from character ${at} on:\n  ${a?.slice(from, at + 200)}\n  ${b?.slice(from, at + 200)}`,
  );
}
