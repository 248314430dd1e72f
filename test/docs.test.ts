import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

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

const withoutCode = (text: string): string => text.replace(/^( *)```[\s\S]*?^\1```/gm, '');

/** GitHub's anchors of a page's headings: the second of a name ends in -1. */
function anchorsOf(text: string): string[] {
  const seen = new Map<string, number>();
  return [...withoutCode(text).matchAll(/^#{1,6}\s+(.*)$/gm)].map(([, heading]) => {
    const anchor = (heading as string)
      .replace(/\]\([^)]*\)/g, '')
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-');
    const before = seen.get(anchor) ?? 0;
    seen.set(anchor, before + 1);
    return before === 0 ? anchor : `${anchor}-${before}`;
  });
}

/** Where a page's links and images lead: `[a](b)`, `[a](b "title")`, `[a]: b`, `<b>`, `src="b"`. */
function targetsOf(text: string): string[] {
  const forms = /\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]: *(\S+)|<(https?:[^>]*)>|(?:src|href)="([^"]*)"/gm;
  return [
    ...withoutCode(text)
      .replace(/`[^`\n]*`/g, '')
      .matchAll(forms),
  ].map((match) => match.slice(1).find((group) => group !== undefined) as string);
}

/** What is wrong with a link, if anything is. Addresses elsewhere are not asked: tests need no network. */
function faultOf(page: string, target: string): string | undefined {
  if (/^[a-z][a-z+.-]*:/i.test(target)) {
    if (/^mailto:[^@]+@[^@]+$/.test(target)) return undefined;
    const url = URL.canParse(target) ? new URL(target) : undefined;
    return url?.protocol === 'https:' && url.hostname.includes('.')
      ? undefined
      : `${target}: no https address`;
  }
  const [path, anchor] = target.split('#', 2) as [string, string | undefined];
  const file = path === '' ? page : join(dirname(page), path);
  if (file.startsWith('..')) return `${target}: leads out of the checkout`;
  if (!existsSync(join(ROOT, file))) return `${target}: there is no ${file}`;
  if (anchor === undefined || anchorsOf(read(file)).includes(anchor)) return undefined;
  return `${target}: ${file} has no such heading`;
}

it.each(pages)('every link of %s leads somewhere', (page) => {
  const faults = targetsOf(read(page)).map((target) => faultOf(page, target));
  expect(faults.filter((fault) => fault !== undefined)).toEqual([]);
});

it.each([
  ['[a](missing.md)', /no missing\.md/],
  ['![a](picture.png "A title")', /no picture\.png/],
  ['[a](README.md#no-such-heading)', /no such heading/],
  ['[a]: missing.md', /no missing\.md/],
  ['<img src="missing.svg">', /no missing\.svg/],
  ['[a](../outside.md)', /out of the checkout/],
  ['[a](http://example.org/)', /no https address/],
  ['[a](https://nowhere)', /no https address/],
  ['<https://exa mple.org>', /no https address/],
])('a broken link is noticed: %s', (text, fault) => {
  expect(targetsOf(text).map((target) => faultOf('README.md', target) ?? '')).toEqual([
    expect.stringMatching(fault),
  ]);
});

it('every page of docs/ can be reached from docs/README.md', () => {
  const reached = new Set(['docs/README.md']);
  for (const page of reached) {
    for (const target of targetsOf(read(page))) {
      const file = join(dirname(page), target.split('#')[0] as string);
      if (pages.includes(file)) reached.add(file);
    }
  }
  expect(pages.filter((page) => /^docs\/(?!api\/)/.test(page) && !reached.has(page))).toEqual([]);
});

it('no private key, and no download address in the lock file, is in the repository', () => {
  const keys = files.filter(
    (file) => !/^(test|keys)\//.test(file) && /BEGIN ([A-Z]+ )?PRIVATE KEY/.test(read(file)),
  );
  expect(keys).toEqual([]);
  expect(read('package-lock.json')).not.toMatch(/"resolved"/);
});
