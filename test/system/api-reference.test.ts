import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-api-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function pagesOf(path: string): Promise<Map<string, string>> {
  const files = (await readdir(path)).sort();
  return new Map(
    await Promise.all(files.map(async (file) => [file, await readFile(join(path, file), 'utf8')] as const)),
  );
}

it('docs/api is what the doc comments say now, of every exported name (else: npm run docs)', async () => {
  // Fails by itself when an exported name has no doc comment.
  await run(process.execPath, [join(ROOT, 'scripts/api-reference.mjs'), folder], { cwd: ROOT });
  const [made, committed] = await Promise.all([pagesOf(folder), pagesOf(join(ROOT, 'docs/api'))]);
  expect([...committed.keys()]).toEqual([...made.keys()]);
  for (const [page, text] of made) expect(committed.get(page), page).toBe(text);

  const { exports } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { exports: object };
  const entries = Object.keys(exports).filter((entry) => !entry.endsWith('.json'));
  const pages = entries.map((entry) => `hauberk${entry.slice(1).replace('/', '.')}.md`);
  expect([...made.keys()].sort()).toEqual(['README.md', ...pages].sort());
  expect([...made.values()].join('\n')).not.toMatch(new RegExp(`${ROOT}|/node_modules/|https?:`));
});
