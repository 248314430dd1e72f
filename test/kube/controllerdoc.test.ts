import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { REFUSAL_STATUS } from '../../src/kube/issuer/errors.ts';

const PAGE = readFileSync(new URL('../../docs/kubernetes-controller.md', import.meta.url), 'utf8');

it('docs/kubernetes-controller.md has every refusal with its status and a cure, and no other', () => {
  const rows = [...PAGE.matchAll(/^\| `([a-z-]+)` \| ([A-Z_]+) \| (.+) \| (.+) \|$/gm)];
  expect(rows.map(([, code, status]) => [code, status])).toEqual(Object.entries(REFUSAL_STATUS));
  for (const [, code, , meaning, cure] of rows) {
    expect([code, (meaning ?? '').trim() !== '', (cure ?? '').trim() !== '']).toEqual([code, true, true]);
  }
});

it('docs/kubernetes-controller.md names settings that there are', () => {
  const known = readFileSync(new URL('../../docs/controller-configuration.md', import.meta.url), 'utf8');
  const named = [...PAGE.matchAll(/`((?:issuer|control|webhook|leader|drain|monitoring)\.\w+)`/g)].map(
    ([, key]) => key as string,
  );
  expect(named.length).toBeGreaterThan(8);
  expect([...new Set(named)].filter((key) => !known.includes(`| \`${key}\` |`))).toEqual([]);
});
