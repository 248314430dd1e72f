import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const file = (path: string): string =>
  readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

/** The table of docs/relay.md: what each rule is held by. */
function rules(): Array<{ rule: string; path: string; claims: string[] }> {
  const rows = file('docs/relay.md')
    .split('\n')
    .filter((line) => line.startsWith('| ') && line.includes('.test.ts'));
  return rows.flatMap((row) => {
    const [rule = '', held = ''] = row.slice(2, -2).split(' | ');
    return [...held.matchAll(/`([^`]+\.test\.ts)`: (.*?)(?=\. `test\/|$)/g)].map(
      ([, path = '', claims = '']) => ({
        rule,
        path,
        claims: claims.split('; '),
      }),
    );
  });
}

it.each(rules())('$rule: $path', ({ path, claims }) => {
  const text = file(path);
  for (const claim of claims) expect(text).toContain(claim);
});

it('every file of rules is named', () => {
  const named = new Set(rules().map(({ path }) => path));
  for (const layer of ['relay', 'http2']) {
    const folder = fileURLToPath(new URL(`../${layer}/`, import.meta.url));
    for (const name of readdirSync(folder)) {
      if (/^rules-(?!doc).*\.test\.ts$/.test(name)) expect(named).toContain(`test/${layer}/${name}`);
    }
  }
  expect(rules().length).toBeGreaterThan(30);
});
