import { statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readCorpus } from './corpus.ts';
import { replayCorpus } from './replay.ts';
import { TARGET_NAMES } from './targets.ts';

const FOLDER = fileURLToPath(new URL('./corpus', import.meta.url));

describe.each(TARGET_NAMES)('the corpus of %s', (name) => {
  it('breaks no claim', async () => {
    expect(await replayCorpus(name)).toBeGreaterThan(0);
  });

  it('is there', () => {
    expect(readCorpus(name).length).toBeGreaterThan(0);
  });
});

it('the corpus is small, and each file of it belongs to a target', async () => {
  const files = await readdir(FOLDER);
  expect(files.sort()).toEqual(TARGET_NAMES.map((name) => `${name}.txt`).sort());
  const octets = files.reduce((sum, file) => sum + statSync(`${FOLDER}/${file}`).size, 0);
  expect(octets).toBeLessThan(2 ** 20);
});
