import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const file = (path: string): string =>
  readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

/** The first cells of the table below a heading of docs/errors.md. */
function documented(heading: string): string[] {
  const section = file('docs/errors.md').split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return [...section.matchAll(/^\| `([^`]+)`/gm)].map(([, code]) => code as string).sort();
}

/** The literals of a union, as the source has them. */
function literals(path: string, type: string): string[] {
  const [, rest = ''] = file(path).split(`type ${type} =`);
  const [union = ''] = rest.split(/^(?=export|\/\*\*)/m);
  return [...union.matchAll(/^ {2}\| '([A-Za-z-]+)'/gm)].map(([, code]) => code as string).sort();
}

it.each([
  ['Why the API server could not be asked', 'src/kube/client/errors.ts', 'LocalReason', 9],
  ['Why a service account token is refused', 'src/kube/tokenreview.ts', 'TokenRefusalReason', 4],
] as const)('docs/errors.md, %s: has every one, and no other', (heading, path, type, count) => {
  const codes = literals(path, type);
  expect(codes).toHaveLength(count);
  expect(documented(heading)).toEqual(codes);
});
