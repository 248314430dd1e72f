import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { overridableKeys } from '../../src/config/environment.ts';
import { parseConfig } from '../../src/config/parse.ts';
import {
  CONTROLLER_PAGE,
  editorSchema,
  renderJson,
  renderReference,
  SIDECAR_PAGE,
  schemaKeys,
} from '../../src/config/reference.ts';
import { COMPLETE, LEAST } from './samples.ts';

const PAGES = [
  ['configuration.md', 'sidecar.schema.json', SIDECAR_PAGE, 90],
  ['controller-configuration.md', 'controller.schema.json', CONTROLLER_PAGE, 50],
] as const;

const CURE = 'is out of date: run `node scripts/generate-docs.mjs`';
const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

it.each(PAGES)('docs/%s is what the schema generates', (name, _schema, page) => {
  expect(read(name) === renderReference(page), `docs/${name} ${CURE}`).toBe(true);
});

it.each(PAGES)('docs/%s: docs/%s is what the schema generates', (_name, schema, page) => {
  expect(read(schema) === `${renderJson(editorSchema(page))}\n`, `docs/${schema} ${CURE}`).toBe(true);
  expect(JSON.parse(read(schema))).toEqual(editorSchema(page));
});

it.each(PAGES)(
  'docs/%s: every key has one row with type, default, meaning and example',
  (name, _schema, page, least) => {
    const rows = read(name)
      .split('\n')
      .filter((line) => line.startsWith('| `'))
      .map((line) => line.slice(2, -2).split(/ \| /));
    const keys = schemaKeys(page);
    expect(keys.length).toBeGreaterThan(least);
    for (const { key, node } of keys) {
      const found = rows.filter(([first, ...rest]) => first === `\`${key}\`` && rest.length === 5);
      expect(found, key).toHaveLength(1);
      const [, type, preset, , meaning, example] = found[0];
      expect(
        [type, preset, meaning, example].every((text) => text.trim() !== ''),
        key,
      ).toBe(true);
      expect(node.description, key).toMatch(/\S/);
    }
  },
);

it.each(PAGES)(
  'docs/%s: every number has bounds, and every duration and size a range',
  (_name, _schema, page) => {
    for (const { key, node } of schemaKeys(page)) {
      const types = [node.type].flat();
      if (types.includes('integer') || types.includes('number')) {
        expect([key, typeof node.minimum, typeof node.maximum]).toEqual([key, 'number', 'number']);
      }
      if (node['x-kind'] === 'duration' || node['x-kind'] === 'size')
        expect(node['x-range'], key).toHaveLength(2);
    }
  },
);

it.each(PAGES)('docs/%s: every environment variable is listed', (name, _schema, page) => {
  const text = read(name);
  for (const { variable } of overridableKeys(page.schema)) expect(text).toContain(`| \`${variable}\` | `);
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
  const validate = ajv.compile(editorSchema(SIDECAR_PAGE));
  for (const text of [LEAST, COMPLETE])
    expect(validate(parse(text)), JSON.stringify(validate.errors)).toBe(true);
  expect(validate(parse(`${LEAST}session: { idel: 1h }`))).toBe(false);
  expect(validate(parse(`${LEAST}session: { idle: 60 }`))).toBe(false);
  expect(validate(parse(`${LEAST}session: { idle: 60x }`))).toBe(false);
});
