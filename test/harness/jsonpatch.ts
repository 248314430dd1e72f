/** JSON Patch (RFC 6902) and the merge patches of Kubernetes, for tests that look at what a patch comes to. */
import { isDeepStrictEqual } from 'node:util';

export type JsonPatch = ReadonlyArray<{
  readonly op: 'add' | 'remove' | 'replace' | 'test' | 'move' | 'copy';
  readonly path: string;
  readonly from?: string;
  readonly value?: unknown;
}>;

type Tree = Record<string, unknown> | unknown[];

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null;
const isMapping = (value: unknown): value is Record<string, unknown> =>
  isTree(value) && !Array.isArray(value);

/** A copy of `document` with the patch applied; throws where an operation does not fit, as servers do. */
export function applyJsonPatch<T>(document: T, patch: JsonPatch): T {
  const root = { document: structuredClone(document) as unknown };
  for (const { op, path, from, value } of patch) {
    if (op === 'test') {
      if (!isDeepStrictEqual(read(root, path), value)) throw new Error(`test failed at ${path}`);
    } else if (op === 'move' || op === 'copy') {
      const moved = structuredClone(read(root, from as string));
      if (op === 'move') write(root, from as string, 'remove');
      write(root, path, 'add', moved);
    } else {
      write(root, path, op, structuredClone(value));
    }
  }
  return root.document as T;
}

function stepsOf(pointer: string): string[] {
  if (pointer !== '' && !pointer.startsWith('/')) throw new Error(`${pointer} is not a JSON pointer`);
  return pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function read(root: { document: unknown }, pointer: string): unknown {
  let at: unknown = root.document;
  for (const step of stepsOf(pointer)) {
    if (!isTree(at) || !Object.hasOwn(at, step)) throw new Error(`nothing is at ${pointer}`);
    at = (at as Record<string, unknown>)[step];
  }
  return at;
}

function write(
  root: { document: unknown },
  pointer: string,
  op: 'add' | 'remove' | 'replace',
  value?: unknown,
) {
  const steps = stepsOf(pointer);
  const last = steps.pop();
  if (last === undefined) {
    root.document = value;
    return;
  }
  const parent = read(root, pointer.slice(0, pointer.lastIndexOf('/')));
  if (!isTree(parent)) throw new Error(`the parent of ${pointer} is neither an object nor a list`);
  if (op !== 'add' && !Object.hasOwn(parent, last)) throw new Error(`nothing is at ${pointer}`);
  if (!Array.isArray(parent)) {
    if (op === 'remove') delete parent[last];
    else parent[last] = value;
    return;
  }
  const index = last === '-' ? parent.length : Number(last);
  if (!/^(0|[1-9][0-9]*|-)$/.test(last) || index > parent.length)
    throw new Error(`${pointer} is outside its list`);
  parent.splice(index, op === 'add' ? 0 : 1, ...(op === 'remove' ? [] : [value]));
}

/**
 * JSON Merge Patch (RFC 7386). With `byName`, lists whose items all have a name are merged by it, which is what
 * strategic patches and server-side apply do with the lists that the tests patch.
 */
export function applyMergePatch<T>(document: T, patch: unknown, byName = false): T {
  if (byName && Array.isArray(document) && Array.isArray(patch) && named(document) && named(patch)) {
    const items = [...document];
    for (const item of patch as Array<{ name: string }>) {
      const at = items.findIndex(({ name }) => name === item.name);
      if (at === -1) items.push(item);
      else items[at] = applyMergePatch(items[at], item, byName);
    }
    return items as T;
  }
  if (!isMapping(patch)) return structuredClone(patch) as T;
  const merged: Record<string, unknown> = isMapping(document) ? { ...document } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = applyMergePatch(merged[key], value, byName);
  }
  return merged as T;
}

const named = (list: readonly unknown[]): list is Array<{ name: string }> =>
  list.every((item) => isMapping(item) && typeof item.name === 'string');
