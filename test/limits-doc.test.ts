import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { CATALOGUE } from '../src/audit/catalogue.ts';
import { CONNECTION_FLOODS, STREAM_FLOODS } from '../src/http2/errors.ts';
import { DEFINITIONS } from '../src/telemetry/definitions.ts';
import { RECORD_FLOODS } from '../src/transport/errors.ts';

const read = (file: string): string => readFileSync(new URL(`../docs/${file}`, import.meta.url), 'utf8');
const page = read('limits.md');
const rows = page
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
  .map((line) => line.split('|').map((cell) => cell.trim()));
const code = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1] as string);

it('docs/limits.md has every kind of flood once, and no other', () => {
  const kinds = rows.filter((row) => row.length === 7).flatMap((row) => code(row[1] as string));
  expect(kinds.sort()).toEqual([...CONNECTION_FLOODS, ...STREAM_FLOODS, ...RECORD_FLOODS].sort());
});

it('docs/limits.md names settings, events and counters that exist', () => {
  const settings = code(page).filter(
    (text) => /^(http2|egress|session|handshake|records)\.\w+$/.test(text) && !(text in CATALOGUE),
  );
  expect(settings.length).toBeGreaterThan(40);
  const known = read('configuration.md');
  expect(settings.filter((name) => !known.includes(`| \`${name}\` |`))).toEqual([]);
  const others = rows.filter((row) => row.length === 8).slice(1);
  expect(others.length).toBeGreaterThan(10);
  for (const row of others) {
    expect(Object.keys(CATALOGUE)).toContain(code(row[5] as string)[0]);
    expect(Object.keys(DEFINITIONS)).toContain(code(row[6] as string)[0]);
  }
});
