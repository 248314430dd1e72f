import fc from 'fast-check';
import { describe, it } from 'vitest';
import { Random } from '../harness/fuzz-input.ts';
import { readCorpus } from './corpus.ts';
import { loadTarget, TARGET_NAMES } from './targets.ts';

/** The same inputs each time, so that a change fails by what it changed; `npm run fuzz` looks for new ones. */
const RUNS = { numRuns: 25, seed: 20_261_121 };

describe.each(TARGET_NAMES)('%s', (name) => {
  it('holds its claim for inputs beside the corpus', async () => {
    const target = await loadTarget(name);
    const known = [...target.seeds, ...readCorpus(name)];
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const random = new Random(seed);
        const input = target.mutate(random, random.pick(known), random.pick(known));
        await target.run(input.subarray(0, target.maxLength));
      }),
      RUNS,
    );
  });

  it('holds its claim for octets of any kind', async () => {
    const target = await loadTarget(name);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: Math.min(target.maxLength, 400) }), async (octets) => {
        await target.run(Buffer.from(octets));
      }),
      RUNS,
    );
  });
});
