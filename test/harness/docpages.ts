import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** The pages whose examples are run, by their path in the checkout. What is generated from doc comments is not among them. */
export function examplePages(): string[] {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md') && !file.startsWith('api/'))
    .map((file) => `docs/${file}`);
  const programs = readdirSync(join(ROOT, 'examples'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => `examples/${file}`);
  return ['README.md', ...docs.sort(), ...programs.sort()];
}

/** The folder whose files a reader of the page has before them: that of a program in examples/. */
export const filesOf = (page: string): string | undefined =>
  /^examples\/[^/]+\//.test(page) ? join(ROOT, dirname(page)) : undefined;

export const readPage = (page: string): string => readFileSync(join(ROOT, page), 'utf8');
