import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const MODULE = new URL('../../src/cli/newspace.ts', import.meta.url).href;

/** Calls that come and go, 3,000 under way at a time: what a busy sidecar allocates. Prints the new space's sizes in MiB. */
const LOAD = `
import { getHeapSpaceStatistics } from 'node:v8';
const { boundNewSpace, holdNewSpace } = await import(${JSON.stringify(MODULE)});
const size = () => getHeapSpaceStatistics().find((s) => s.space_name === 'new_space').space_size / 1048576;
const calls = [];
const run = async (turns) => {
  let largest = 0;
  for (let turn = 0, i = 0; turn < turns; turn++) {
    for (let k = 0; k < 5000; k++) calls[i++ % 3000] = { k, list: [k], text: 'call ' + k };
    await new Promise((resolve) => setImmediate(resolve));
    largest = Math.max(largest, size());
  }
  return largest;
};
holdNewSpace();
const held = await run(200);
boundNewSpace();
console.log(JSON.stringify({ first: held, grown: await run(600), now: size() }));
`;

it('holds the new space at its first size until told, then lets it grow to 8 MiB under load and no further', () => {
  const tsx = fileURLToPath(import.meta.resolve('tsx'));
  const output = execFileSync(process.execPath, ['--import', tsx, '--input-type=module', '--eval', LOAD], {
    encoding: 'utf8',
  });
  const { first, grown, now } = JSON.parse(output) as Record<string, number>;
  expect(grown).toBeGreaterThan(first as number);
  expect(grown).toBeLessThanOrEqual(8);
  expect(now).toBeLessThanOrEqual(8);
});
