// Containers and volumes of ours in a pod that was injected before: what others may have changed, and what not.
import { isDeepStrictEqual } from 'node:util';
import type { Container, Volume } from './pod.ts';

/** An item by its name: inserted at `index` if there is none, else mended where it is. */
function ensure<Item extends { name: string }>(
  list: Item[],
  wanted: Item,
  index: number,
  mend: (found: Mapping, wanted: Mapping) => void,
): void {
  const found = list.find(({ name }) => name === wanted.name);
  if (found === undefined) list.splice(index, 0, structuredClone(wanted));
  else mend(found, wanted);
}

/** A container of ours at its end of the list, whoever has put another there since. */
export function ensureContainer(list: Container[], wanted: Container, end: 'first' | 'last'): void {
  const place = (): number => (end === 'first' ? 0 : list.length);
  ensure(list, wanted, place(), (found) => {
    restoreWork(found as Container, wanted);
    complete(found, wanted);
    list.splice(list.indexOf(found as Container), 1);
    list.splice(place(), 0, found as Container);
  });
}

/**
 * What our container does is ours, whoever wrote the status: what it runs, as whom, by which configuration, on which volumes.
 * Its image is others' to change, as for a mirror, and so are its resources and the times of its probes.
 */
function restoreWork(found: Container, wanted: Container): void {
  const fields: Mapping = found;
  for (const field of ['command', 'args', 'workingDir', 'restartPolicy', 'envFrom'] as const) {
    if (wanted[field] === undefined) delete fields[field];
    else fields[field] = structuredClone(wanted[field]);
  }
  const own = (wanted.env ?? []).filter(({ name }) => isSetting(name));
  const isWhole = own.every((each) =>
    isDeepStrictEqual(
      each,
      (found.env ?? []).find(({ name }) => name === each.name),
    ),
  );
  const settings = (found.env ?? []).filter(({ name }) => isSetting(name));
  if (!isWhole || settings.length !== own.length) {
    found.env = [...structuredClone(own), ...(found.env ?? []).filter(({ name }) => !isSetting(name))];
  }
  const paths = (wanted.volumeMounts ?? []).map(({ mountPath }) => mountPath);
  for (const mount of found.volumeMounts ?? []) {
    const at = paths.indexOf(mount.mountPath);
    if (at >= 0) restore(mount, wanted.volumeMounts?.[at] as Mapping);
  }
  for (const field of ['securityContext', 'lifecycle'] as const) {
    if (isMapping(wanted[field]) && isMapping(found[field])) restore(found[field], wanted[field]);
  }
}

/** A variable that the sidecar or its runtime goes by. */
const isSetting = (name: string): boolean => name.startsWith('HAUBERK_') || name.startsWith('NODE_');

/** Makes `found` have what `wanted` has; what API servers add to it by default stays. */
function restore(found: Mapping, wanted: Mapping): void {
  for (const [field, value] of Object.entries(wanted)) {
    const has = found[field];
    if (isMapping(has) && isMapping(value)) restore(has, value);
    else if (!isDeepStrictEqual(has, value)) found[field] = structuredClone(value);
  }
}

type Mapping = Record<string, unknown>;
const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Lists whose items merge, by what tells them apart. */
const MERGE_KEYS: Readonly<Record<string, string>> = {
  env: 'name',
  ports: 'containerPort',
  volumeMounts: 'mountPath',
};

/** Adds to `found` what `wanted` has and it has not. */
function complete(found: Mapping, wanted: Mapping): void {
  for (const [field, value] of Object.entries(wanted)) {
    const has = found[field];
    const key = MERGE_KEYS[field];
    if (has === undefined || has === null) found[field] = structuredClone(value);
    else if (isMapping(has) && isMapping(value)) complete(has, value);
    else if (key !== undefined && Array.isArray(has) && Array.isArray(value)) {
      for (const item of value as Mapping[]) {
        if (!(has as Mapping[]).some((each) => each[key] === item[key])) has.push(structuredClone(item));
      }
    }
  }
}

export const ensureVolume = (list: Volume[], wanted: Volume): void =>
  ensure(list, wanted, list.length, restore);
