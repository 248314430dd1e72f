import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { AUDIT_EVENT_TYPES, CATALOGUE, STAMP_MEANINGS } from '../../src/audit/catalogue.ts';

const PAGE = readFileSync(new URL('../../docs/audit-events.md', import.meta.url), 'utf8');

/** The tables of the page by the heading above them: rows of cells. */
function tables(markdown: string): Map<string, string[][]> {
  const found = new Map<string, string[][]>();
  let heading = '';
  for (const line of markdown.split('\n')) {
    const title = /^#+ `?([^`]+?)`?$/.exec(line);
    if (title !== null) heading = title[1] as string;
    if (!line.startsWith('|') || /^\|[ |-]+\|$/.test(line)) continue;
    const cells = line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim());
    found.set(heading, [...(found.get(heading) ?? []), cells]);
  }
  return found;
}

const withoutHead = (rows: string[][] | undefined): string[][] => (rows ?? []).slice(1);
const rowsOf = (fields: Readonly<Record<string, string>>): string[][] =>
  Object.entries(fields).map(([name, meaning]) => [`\`${name}\``, meaning]);

const page = tables(PAGE);

it('the page lists every event with its meaning, and no other', () => {
  const expected = AUDIT_EVENT_TYPES.map((type) => [
    `[\`${type}\`](#${type.replaceAll('.', '')})`,
    CATALOGUE[type].means,
  ]);
  expect(withoutHead(page.get('Events'))).toEqual(expected);
});

it('the page has the fields that every event has', () => {
  expect(withoutHead(page.get('Fields of every event'))).toEqual(rowsOf(STAMP_MEANINGS));
});

it.each(AUDIT_EVENT_TYPES)('the page has the fields of %s, and no others', (type) => {
  expect(withoutHead(page.get(type))).toEqual(rowsOf(CATALOGUE[type].fields));
});

it('the page has no table of an event that is not', () => {
  const headings = [...page.keys()].filter((heading) => heading.includes('.'));
  expect(headings).toEqual([...AUDIT_EVENT_TYPES]);
});

it('no field of an event hides one that every event has', () => {
  const stamped = Object.keys(STAMP_MEANINGS);
  for (const type of AUDIT_EVENT_TYPES) {
    expect(Object.keys(CATALOGUE[type].fields).filter((field) => stamped.includes(field))).toEqual([]);
  }
});
