// The JSON Schema keywords that schemanode.ts makes, checked by walking the schema. Ajv, which checks the same in
// the tests, compiles it to code for one run: 5 MiB that a sidecar keeps, and a third of its start (bench/README.md).
import { below } from './pointer.ts';
import type { SchemaNode } from './schemanode.ts';

export type Keyword =
  | 'type'
  | 'enum'
  | 'pattern'
  | 'minimum'
  | 'maximum'
  | 'minItems'
  | 'maxItems'
  | 'required'
  | 'additionalProperties';

/** A keyword that does not hold for the value at a pointer; `key` is the one that is missing or too many. */
export interface Violation {
  readonly keyword: Keyword;
  readonly pointer: string;
  readonly key?: string;
}

/**
 * Everything about `value` that is not as `node` says; of a value of a wrong type only that. Fills in defaults
 * in place.
 */
export function checkNode(node: SchemaNode, value: unknown): Violation[] {
  const found: Violation[] = [];
  checkAt('', node, value, found);
  return found;
}

function checkAt(pointer: string, node: SchemaNode, value: unknown, found: Violation[]): void {
  const expect = (holds: boolean, keyword: Keyword): void => {
    if (!holds) found.push({ keyword, pointer });
  };
  if (![node.type].flat().some((type) => isOfType(type, value))) {
    expect(false, 'type');
    return;
  }
  expect(node.enum?.includes(value as string) !== false, 'enum');
  if (typeof value === 'string') {
    expect(node.pattern === undefined || new RegExp(node.pattern, 'u').test(value), 'pattern');
  } else if (typeof value === 'number') {
    expect(value >= (node.minimum ?? value), 'minimum');
    expect(value <= (node.maximum ?? value), 'maximum');
  } else if (Array.isArray(value)) {
    expect(value.length >= (node.minItems ?? 0), 'minItems');
    expect(value.length <= (node.maxItems ?? value.length), 'maxItems');
    for (const [index, item] of value.entries()) {
      checkAt(below(pointer, index), node.items as SchemaNode, item, found);
    }
  } else if (typeof value === 'object') {
    checkKeys(pointer, node, value as Record<string, unknown>, found);
  }
}

function checkKeys(
  pointer: string,
  node: SchemaNode,
  value: Record<string, unknown>,
  found: Violation[],
): void {
  const { properties = {}, required = [], additionalProperties } = node;
  for (const key of required) {
    if (value[key] === undefined) found.push({ keyword: 'required', pointer, key });
  }
  if (additionalProperties === false) {
    for (const key of Object.keys(value)) {
      if (!Object.hasOwn(properties, key)) found.push({ keyword: 'additionalProperties', pointer, key });
    }
  }
  for (const [key, child] of Object.entries(properties)) {
    if (value[key] === undefined && child.default !== undefined) value[key] = structuredClone(child.default);
    if (value[key] !== undefined) checkAt(below(pointer, key), child, value[key], found);
  }
}

function isOfType(type: string, value: unknown): boolean {
  switch (type) {
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    case 'number':
      return Number.isFinite(value);
    default:
      return typeof value === type;
  }
}
