import { describeValue } from './document.ts';
import type { ConfigErrorCode } from './errors.ts';
import { kindOf, type Resolve, tryKind } from './kinds.ts';
import { nearest } from './nearest.ts';
import { below, dotted, keysOf, quote } from './pointer.ts';
import { formatDuration, formatSize } from './quantity.ts';
import type { SchemaNode } from './schemanode.ts';
import { checkNode, type Violation } from './shape.ts';

/** Something wrong at a pointer; `atKey` when the key itself is, not its value. */
export interface Finding {
  readonly code: ConfigErrorCode;
  readonly pointer: string;
  readonly atKey?: boolean;
  readonly message: string;
}

const MAX_KEYS_LISTED = 30;

/** The schema of what is at a pointer, as far as it is known. */
function nodeAt(schema: SchemaNode, pointer: string): SchemaNode | undefined {
  let node: SchemaNode | undefined = schema;
  for (const key of keysOf(pointer)) node = node?.properties?.[key] ?? node?.items;
  return node;
}

/** What belongs at a node, with an example. */
export function expectation(node: SchemaNode): string {
  const example = node.examples?.[0];
  const types = [node.type].flat();
  const such = example === undefined || typeof example === 'object' ? '' : `, as in ${example}`;
  if (node.enum !== undefined) return `one of ${node.enum.join(', ')}`;
  if (node['x-words'] !== undefined) {
    return `${node['x-words'].join(', ')} or a mapping (${Object.keys(node.properties ?? {}).join(', ')})`;
  }
  if (node['x-kind'] !== undefined) {
    const { noun, example: usual } = kindOf(node['x-kind']);
    return `${noun}${types.includes('array') ? ', or a list of them' : ''}, as in ${such === '' ? usual : example}`;
  }
  if (types.includes('array')) return 'a list (lines that begin with -)';
  if (types.includes('object')) return 'a mapping (lines of key: value)';
  if (types.includes('boolean')) return 'true or false';
  return `${types.includes('integer') ? 'a whole number' : 'a number'} from ${node.minimum} to ${node.maximum}${such}`;
}

/** Every key of the file with this name, for one that stands in the wrong place. */
function elsewhere(name: string, node: SchemaNode, path = ''): string | undefined {
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const at = path === '' ? key : `${path}.${key}`;
    if (key === name) return at;
    const deeper = elsewhere(name, child, at) ?? (child.items && elsewhere(name, child.items, `${at}[]`));
    if (deeper !== undefined) return deeper;
  }
  return undefined;
}

function unknownKey(schema: SchemaNode, pointer: string, name: string): Finding {
  const path = below(pointer, name);
  const known = Object.keys(nodeAt(schema, pointer)?.properties ?? {});
  const near = nearest(name, known) ?? elsewhere(name, schema);
  const meant = near === undefined ? '.' : `: did you mean ${near}?`;
  const here =
    known.length === 0
      ? ' No keys belong here'
      : ` Known here: ${known.slice(0, MAX_KEYS_LISTED).join(', ')}`;
  return {
    code: 'unknown-key',
    pointer: path,
    atKey: true,
    message: `${dotted(path)}: unknown key${meant}${here}`,
  };
}

/** A key that has to be there is not. */
export function missingKey(schema: SchemaNode, pointer: string, otherwise = ''): Finding {
  const wanted = expectation(nodeAt(schema, pointer) ?? schema);
  return {
    code: 'missing-key',
    pointer,
    atKey: true,
    message: `${dotted(pointer)} is missing: expected ${wanted}${otherwise}`,
  };
}

function translate(schema: SchemaNode, { keyword, pointer, key }: Violation, root: unknown): Finding {
  const node = nodeAt(schema, pointer) ?? schema;
  const name = pointer === '' ? 'the file' : dotted(pointer);
  let value = root;
  for (const step of keysOf(pointer)) value = (value as Record<string, unknown>)[step];
  switch (keyword) {
    case 'additionalProperties':
      return unknownKey(schema, pointer, String(key));
    case 'required':
      return missingKey(schema, below(pointer, String(key)));
    case 'type': {
      const types = [node.type].flat();
      const cure = value === null ? '; give it a value, or remove the key' : '';
      const found = describeValue(value, !types.includes('object') && node['x-secret'] !== true);
      return {
        code: 'wrong-type',
        pointer,
        message: `${name}: expected ${expectation(node)}, found ${found}${cure}`,
      };
    }
    case 'enum':
    case 'pattern': {
      const words = node.enum ?? node['x-words'] ?? [];
      const near = typeof value === 'string' ? nearest(value, words) : undefined;
      const meant = near === undefined ? '' : `; did you mean ${near}?`;
      const message = `${name}: expected ${expectation(node)}, found ${describeValue(value, true)}${meant}`;
      return { code: 'invalid-value', pointer, message };
    }
    case 'minItems':
      return {
        code: 'invalid-value',
        pointer,
        message: `${name}: the list is empty: expected at least one entry`,
      };
    case 'maxItems':
      return { code: 'invalid-value', pointer, message: `${name}: more than ${node.maxItems} entries` };
    default:
      return {
        code: 'invalid-value',
        pointer,
        message: `${name}: ${outOfRange(node, describeValue(value, true))}`,
      };
  }
}

function outOfRange(node: SchemaNode, found: string): string {
  const [least, most] = node['x-range'] ?? [node.minimum, node.maximum];
  if (node['x-kind'] === undefined) {
    return `expected ${least} to ${most}${node['x-unit'] === undefined ? '' : ` (${node['x-unit']})`}, found ${found}`;
  }
  const write = node['x-kind'] === 'size' ? formatSize : formatDuration;
  return `expected ${write(least as number)} to ${write(most as number)}, found ${found}`;
}

/** Checks the shape against the schema and fills in defaults in place. */
export function checkShape(schema: SchemaNode, value: unknown): Finding[] {
  return checkNode(schema, value).map((violation) => translate(schema, violation, value));
}

/**
 * Values after parsing. What was wrong is undefined or left out of its list; mappings and lists are always what
 * the schema says. `pointerOf` tells where a parsed object came from.
 */
export interface Parsed {
  readonly value: unknown;
  readonly findings: Finding[];
  readonly pointerOf: ReadonlyMap<object, string>;
}

/** Parses every string of a kind. Values whose shape is wrong are passed over: `checkShape` has told. */
export function parseKinds(schema: SchemaNode, root: unknown, resolve: Resolve): Parsed {
  const findings: Finding[] = [];
  const pointerOf = new Map<object, string>();

  const text = (value: string, node: SchemaNode, pointer: string): unknown => {
    const kind = node['x-kind'];
    if (kind === undefined) return value;
    const shown = node['x-secret'] === true ? 'the value' : quote(value);
    const result = tryKind(kind, value, resolve);
    if ('problem' in result) {
      findings.push({
        code: 'invalid-value',
        pointer,
        message: `${dotted(pointer)}: ${shown} ${result.problem}`,
      });
      return undefined;
    }
    const range = node['x-range'];
    if (range !== undefined && ((result.value as number) < range[0] || (result.value as number) > range[1])) {
      findings.push({
        code: 'invalid-value',
        pointer,
        message: `${dotted(pointer)}: ${outOfRange(node, shown)}`,
      });
      return undefined;
    }
    for (const made of [result.value].flat())
      if (typeof made === 'object' && made !== null) pointerOf.set(made, pointer);
    return result.value;
  };

  const visitMapping = (value: object, node: SchemaNode, pointer: string): unknown => {
    if (node.properties === undefined) return value;
    const result: Record<string, unknown> = {};
    for (const [key, child] of Object.entries(node.properties)) {
      const own = (value as Record<string, unknown>)[key];
      if (own !== undefined) result[key] = visit(own, child, below(pointer, key));
    }
    pointerOf.set(result, pointer);
    return result;
  };

  const visit = (value: unknown, node: SchemaNode, pointer: string): unknown => {
    const types = [node.type].flat();
    const isList = types.includes('array');
    if (isList && (Array.isArray(value) || !types.includes('string'))) {
      const items = (Array.isArray(value) ? value : []).map((item, index) =>
        visit(item, node.items as SchemaNode, below(pointer, index)),
      );
      return items.flat().filter((item) => item !== undefined);
    }
    if (typeof value === 'string' && types.includes('string')) {
      const parsed = text(value, node, pointer);
      return isList ? [parsed].flat().filter((item) => item !== undefined) : parsed;
    }
    if (types.includes('object')) {
      const isMapping = typeof value === 'object' && value !== null && !Array.isArray(value);
      if (!isMapping && types.length > 1) return undefined;
      return visitMapping(isMapping ? value : {}, node, pointer);
    }
    if (isList) return [];
    if (typeof value === 'boolean') return types.includes('boolean') ? value : undefined;
    if (typeof value !== 'number' || !(types.includes('integer') || types.includes('number')))
      return undefined;
    if (!types.includes('number') && !Number.isInteger(value)) return undefined;
    return value >= (node.minimum ?? value) && value <= (node.maximum ?? value) ? value : undefined;
  };

  return { value: visit(root, schema, ''), findings, pointerOf };
}
