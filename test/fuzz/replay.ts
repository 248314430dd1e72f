import { readCorpus } from './corpus.ts';
import type { TargetName } from './targets.ts';
import { loadTarget } from './targets.ts';

/** Runs seeds and corpus of a target; returns how many inputs held, or throws what the first other one throws. */
export async function replayCorpus(name: TargetName): Promise<number> {
  const target = await loadTarget(name);
  const inputs = [...target.seeds, ...readCorpus(name)];
  for (const input of inputs) {
    try {
      await target.run(input);
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      throw new Error(`${name}, input ${input.toString('base64')}: ${text}`, { cause: error });
    }
  }
  return inputs.length;
}
