import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { overridableKeys } from '../../src/config/environment.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { editorSchema, renderJson, renderReference, schemaKeys } from '../../src/config/reference.ts';
import { COMPLETE, LEAST } from './samples.ts';

const CURE = 'is out of date: run `node scripts/generate-docs.mjs`';
const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

it('docs/configuration.md is what the schema generates', () => {
  expect(read('configuration.md') === renderReference(), `docs/configuration.md ${CURE}`).toBe(true);
});

it('docs/sidecar.schema.json is what the schema generates', () => {
  expect(
    read('sidecar.schema.json') === `${renderJson(editorSchema())}\n`,
    `docs/sidecar.schema.json ${CURE}`,
  ).toBe(true);
  expect(JSON.parse(read('sidecar.schema.json'))).toEqual(editorSchema());
});

it('every key has one row with type, default, meaning and example', () => {
  const rows = read('configuration.md')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.slice(2, -2).split(/ \| /));
  const keys = schemaKeys();
  expect(keys.length).toBeGreaterThan(90);
  for (const { key, node } of keys) {
    const found = rows.filter(([name, ...rest]) => name === `\`${key}\`` && rest.length === 5);
    expect(found, key).toHaveLength(1);
    const [, type, preset, , meaning, example] = found[0];
    expect(
      [type, preset, meaning, example].every((text) => text.trim() !== ''),
      key,
    ).toBe(true);
    expect(node.description, key).toMatch(/\S/);
  }
});

it('every number has bounds, and every duration and size a range', () => {
  for (const { key, node } of schemaKeys()) {
    const types = [node.type].flat();
    if (types.includes('integer') || types.includes('number')) {
      expect([key, typeof node.minimum, typeof node.maximum]).toEqual([key, 'number', 'number']);
    }
    if (node['x-kind'] === 'duration' || node['x-kind'] === 'size')
      expect(node['x-range'], key).toHaveLength(2);
  }
});

it('every environment variable is listed', () => {
  const text = read('configuration.md');
  for (const { variable } of overridableKeys()) expect(text).toContain(`| \`${variable}\` | `);
});

it('every example and default is valid where it stands', () => {
  const env = Object.fromEntries(
    overridableKeys()
      .filter(({ node }) => node.default !== undefined)
      .map(({ variable, node }) => [variable, String(node.default)]),
  );
  const file = '/etc/hauberk/sidecar.yaml';
  expect(parseConfig(LEAST, { file, env })).toEqual(parseConfig(LEAST, { file }));
});

it('the complete file in the reference is the one that the tests load', () => {
  const [, shown] = /```yaml\n([\s\S]*?)```/.exec(read('configuration.md')) ?? [];
  expect(shown).toBe(COMPLETE);
});

it('an editor accepts with the schema what the sidecar accepts, and refuses a misspelt key', () => {
  const ajv = new Ajv({ allowUnionTypes: true });
  ajv.addVocabulary(['x-kind', 'x-range', 'x-unit', 'x-words', 'x-secret']);
  const validate = ajv.compile(editorSchema());
  for (const text of [LEAST, COMPLETE])
    expect(validate(parse(text)), JSON.stringify(validate.errors)).toBe(true);
  expect(validate(parse(`${LEAST}session: { idel: 1h }`))).toBe(false);
  expect(validate(parse(`${LEAST}session: { idle: 60 }`))).toBe(false);
  expect(validate(parse(`${LEAST}session: { idle: 60x }`))).toBe(false);
});
