import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { parseConfig } from '../src/config/parse.ts';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const LEFT_OUT = new Set(['.git', 'node_modules', 'dist', 'coverage']);

/** Every file of the checkout, by its path from the root; no git needed. */
function filesBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return LEFT_OUT.has(entry.name) ? [] : filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

const files = filesBelow('');
const pages = files.filter((file) => file.endsWith('.md') && !file.startsWith('test/vectors/'));
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

/** GitHub's anchor of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');

const anchorsOf = (text: string): string[] =>
  [...text.matchAll(/^#{1,6}\s+(.*)$/gm)].map((match) => anchorOf(match[1] as string));

it.each(pages)('every link of %s leads somewhere', (page) => {
  const text = read(page).replace(/```[\s\S]*?```/g, '');
  const broken: string[] = [];
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target as string)) continue;
    const [path, anchor] = (target as string).split('#', 2) as [string, string | undefined];
    const file = path === '' ? page : join(dirname(page), path);
    const exists = existsSync(join(ROOT, file));
    if (!exists || (anchor !== undefined && !anchorsOf(read(file)).includes(anchor)))
      broken.push(target as string);
  }
  expect(broken).toEqual([]);
});

it('the configurations that the README shows are valid', () => {
  const blocks = [...read('README.md').matchAll(/```yaml\n([\s\S]*?)```/g)].map(
    (match) => match[1] as string,
  );
  expect(blocks).toHaveLength(2);
  for (const text of blocks) {
    expect(parseConfig(text, { file: join(ROOT, 'README.yaml') }).trustDomain).toBe('shop.example');
  }
});

it('no private key, and no download address in the lock file, is in the repository', () => {
  const keys = files.filter(
    (file) => !/^(test|keys)\//.test(file) && /BEGIN ([A-Z]+ )?PRIVATE KEY/.test(read(file)),
  );
  expect(keys).toEqual([]);
  expect(read('package-lock.json')).not.toMatch(/"resolved"/);
});
