// RFC 6902: what leads from one JSON document to another, in small steps.
import { isDeepStrictEqual } from 'node:util';
import { below } from '../../config/pointer.ts';

export type JsonPatchOperation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string };

type Mapping = Readonly<Record<string, unknown>>;
const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const keyOf = (item: unknown): string =>
  isMapping(item) && typeof item.name === 'string' ? `name ${item.name}` : `value ${JSON.stringify(item)}`;

/** Operations that make `to` of `from`, in the order in which they are to be applied. Undefined fields are absent. */
export function diff(from: unknown, to: unknown, path = ''): JsonPatchOperation[] {
  if (isDeepStrictEqual(from, to)) return [];
  if (isMapping(from) && isMapping(to)) return diffMappings(from, to, path);
  if (Array.isArray(from) && Array.isArray(to)) {
    return diffLists(from, to, path) ?? [{ op: 'replace', path, value: to }];
  }
  return [{ op: 'replace', path, value: to }];
}

function diffMappings(from: Mapping, to: Mapping, path: string): JsonPatchOperation[] {
  const operations: JsonPatchOperation[] = [];
  for (const key of Object.keys(from)) {
    if (!Object.hasOwn(to, key) || to[key] === undefined)
      operations.push({ op: 'remove', path: below(path, key) });
  }
  for (const [key, value] of Object.entries(to)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(from, key)) operations.push({ op: 'add', path: below(path, key), value });
    else operations.push(...diff(from[key], value, below(path, key)));
  }
  return operations;
}

/** Lists whose items are told apart by `name`; undefined where an item is gone or the order is another. */
function diffLists(
  from: readonly unknown[],
  to: readonly unknown[],
  path: string,
): JsonPatchOperation[] | undefined {
  const operations: JsonPatchOperation[] = [];
  let next = 0;
  for (const [index, item] of to.entries()) {
    if (next < from.length && keyOf(from[next]) === keyOf(item)) {
      operations.push(...diff(from[next], item, below(path, index)));
      next += 1;
    } else {
      operations.push({ op: 'add', path: below(path, index), value: item });
    }
  }
  return next === from.length ? operations : undefined;
}
