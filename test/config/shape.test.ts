import { Ajv, type ErrorObject } from 'ajv';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { SCHEMA } from '../../src/config/schema.ts';
import type { SchemaNode } from '../../src/config/schemanode.ts';
import { checkNode } from '../../src/config/shape.ts';
import { COMPLETE, LEAST } from './samples.ts';

const ROOT = SCHEMA as unknown as SchemaNode;

/** The plain twin: what Ajv finds, as `keyword pointer key`, and the value with its defaults. */
function byAjv(value: unknown): { found: string[]; value: unknown } {
  const own = structuredClone(value);
  validate(own);
  const errors: ErrorObject[] = validate.errors ?? [];
  const wrong = new Set(errors.filter(({ keyword }) => keyword === 'type').map((e) => e.instancePath));
  const found = errors
    .filter(({ keyword, instancePath }) => keyword === 'type' || !wrong.has(instancePath))
    .map(({ keyword, instancePath, params }) =>
      [keyword, instancePath, params.missingProperty ?? params.additionalProperty ?? ''].join(' '),
    );
  return { found: found.sort(), value: own };
}

function byUs(value: unknown): { found: string[]; value: unknown } {
  const own = structuredClone(value);
  const found = checkNode(ROOT, own).map(({ keyword, pointer, key = '' }) => `${keyword} ${pointer} ${key}`);
  return { found: found.sort(), value: own };
}

const ajv = new Ajv({ allErrors: true, useDefaults: true, allowUnionTypes: true, messages: false });
ajv.addVocabulary(['x-kind', 'x-range', 'x-unit', 'x-words', 'x-secret']);
const validate = ajv.compile(ROOT);

const junk = fc.oneof(
  fc.constantFrom(null, true, false, '', 'off', 0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53),
  fc.jsonValue({ maxDepth: 2 }),
);
const KEYS = fc.constantFrom('idel', 'constructor', 'a/b~c', 'listen', 'file');

/** Values of which most parts are as the schema says. */
function likely(node: SchemaNode): fc.Arbitrary<unknown> {
  const fitting = [node.type].flat().map((type): fc.Arbitrary<unknown> => {
    if (type === 'object') {
      const known = Object.entries(node.properties ?? {}).map(([key, child]) => [key, likely(child)]);
      const record = fc.record(Object.fromEntries(known) as Record<string, fc.Arbitrary<unknown>>, {
        requiredKeys: [],
      });
      const more = fc.oneof(
        { weight: 5, arbitrary: fc.constant({}) },
        fc.dictionary(KEYS, junk, { maxKeys: 2 }),
      );
      return fc.tuple(record, more).map(([own, extra]) => ({ ...extra, ...own }));
    }
    if (type === 'array') {
      const few = fc.array(likely(node.items as SchemaNode), { maxLength: 3 });
      const many = fc.constant(Array.from({ length: 4097 }, () => 'x'));
      return fc.oneof({ weight: 30, arbitrary: few }, { weight: 1, arbitrary: many });
    }
    if (type === 'boolean') return fc.boolean();
    if (type === 'string') {
      const words = [
        ...(node.enum ?? []),
        ...(node['x-words'] ?? []),
        ...(node.examples ?? []),
        'stdou',
        'x',
      ];
      return fc.constantFrom(...words);
    }
    const { minimum = 0, maximum = 1 } = node;
    return fc.constantFrom(minimum, maximum, minimum - 1, maximum + 1, (minimum + maximum) / 2);
  });
  return fc.oneof({ weight: 12, arbitrary: fc.oneof(...fitting) }, { weight: 1, arbitrary: junk });
}

it('files are found right and wrong as by Ajv, and get the same defaults', () => {
  for (const text of [LEAST, COMPLETE, '{}', `${LEAST}session: { idel: 1h }`]) {
    expect(byUs(parse(text))).toEqual(byAjv(parse(text)));
  }
  const seen = new Set<string>();
  fc.assert(
    fc.property(likely(ROOT), (value) => {
      const ours = byUs(value);
      for (const line of ours.found) seen.add(line.split(' ', 1)[0] as string);
      expect(ours).toEqual(byAjv(value));
    }),
    { numRuns: 400 },
  );
  // The property has been everywhere.
  expect([...seen].sort()).toEqual([
    'additionalProperties',
    'enum',
    'maxItems',
    'maximum',
    'minItems',
    'minimum',
    'pattern',
    'required',
    'type',
  ]);
});

it('defaults are copies: what one file makes of them is not in the next', () => {
  const before = JSON.stringify(ROOT);
  const first = byUs({}).value as { egress: { routes: unknown[] } };
  first.egress.routes.push('mine');
  expect(byUs({})).toEqual(byAjv({}));
  expect(JSON.stringify(ROOT)).toBe(before);
});

it('the schema has no keyword that is not checked', () => {
  const checked = [
    'type',
    'enum',
    'pattern',
    'minimum',
    'maximum',
    'minItems',
    'maxItems',
    'items',
    'properties',
  ];
  const meaning = ['required', 'additionalProperties', 'default', 'description', 'examples'];
  const known = new Set([...checked, ...meaning]);
  const visit = (node: SchemaNode): string[] => [
    ...Object.keys(node).filter((key) => !known.has(key) && !key.startsWith('x-')),
    ...Object.values(node.properties ?? {}).flatMap(visit),
    ...(node.items === undefined ? [] : visit(node.items)),
  ];
  expect(visit(ROOT)).toEqual([]);
});

it('a list of a hundred thousand wrong entries is no trouble', () => {
  const routes = Array.from({ length: 100_000 }, () => 1);
  expect(checkNode(ROOT, { ...parse(LEAST), egress: { routes } })).toHaveLength(100_001);
});
