import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ANNOTATIONS } from '../../src/kube/injector/annotations.ts';

const PAGE = readFileSync(new URL('../../docs/kubernetes-annotations.md', import.meta.url), 'utf8');

it('the page has every annotation as the code has it, and no other', () => {
  const rows = Object.entries(ANNOTATIONS).map(
    ([name, { means, default: usual, example }]) => `| \`${name}\` | ${means} | ${usual} | \`${example}\` |`,
  );
  const table = ['| name | what it says | default | example |', '| --- | --- | --- | --- |', ...rows].join(
    '\n',
  );
  const shown = /<!-- annotations -->\n([\s\S]*?)\n<!-- end -->/.exec(PAGE)?.[1];
  expect(shown).toBe(table);
});
