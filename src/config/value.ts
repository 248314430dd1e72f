// A configuration as plain values: shape and defaults (check.ts, from schema.ts) -> parsed scalars (check.ts, kinds.ts)
// -> rules between keys (rules.ts). What comes of it becomes a SidecarConfig in build.ts.
import { resolve } from 'node:path';
import { checkShape, type Finding, parseKinds } from './check.ts';
import type { SidecarConfig } from './config.ts';
import type { Form } from './form.ts';
import { keysOf } from './pointer.ts';
import { type Origin, runRules } from './rules.ts';
import { SIDECAR_FORM } from './sidecarform.ts';

const MAX_FINDINGS = 1_000;

export interface CheckedValue<F> {
  /** At most 1,000. */
  readonly findings: readonly Finding[];
  /** To be used only if there are no findings. */
  readonly file: F;
}

/** Checks the values of a file, in its own names, and fills in defaults in place. Relative paths are below `folder`. */
export function checkValue<F>(
  form: Form<F, unknown>,
  root: unknown,
  folder: string,
  origin: Origin,
): CheckedValue<F> {
  const shape = checkShape(form.schema, root);
  const parsed = parseKinds(form.schema, root, (path) => resolve(folder, path));
  const across = runRules(form, parsed, origin);
  return {
    findings: [...shape, ...parsed.findings, ...across].slice(0, MAX_FINDINGS),
    file: parsed.value as F,
  };
}

/**
 * The configuration that a program has put together, in the names of the file; `root` is left as it is. Either the
 * configuration or everything that is wrong with it.
 */
export function configOf(
  root: object,
  folder: string,
): { readonly config: SidecarConfig } | { readonly findings: readonly Finding[] } {
  const { findings, file } = checkValue(SIDECAR_FORM, structuredClone(root), folder, {
    given: (pointer) => has(root, pointer),
    line: () => undefined,
  });
  return findings.length > 0 ? { findings } : { config: SIDECAR_FORM.build(file) };
}

function has(root: object, pointer: string): boolean {
  let value: unknown = root;
  for (const key of keysOf(pointer)) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return false;
    value = (value as Record<string, unknown>)[key];
  }
  return true;
}
