// A file's way: text -> YAML nodes (document.ts) -> HAUBERK_* variables (environment.ts) -> everything that needs no
// text (value.ts). Every step reports all it finds; only YAML that cannot be read ends the way early.
import { dirname, resolve } from 'node:path';
import type { Finding } from './check.ts';
import type { SidecarConfig } from './config.ts';
import { type Document, readDocument } from './document.ts';
import { applyEnvironment, type Environment } from './environment.ts';
import { ConfigError, type ConfigIssue } from './errors.ts';
import type { Form } from './form.ts';
import { dotted, parent } from './pointer.ts';
import { SIDECAR_FORM } from './sidecarform.ts';
import { checkValue } from './value.ts';

export interface ParseOptions {
  /** Names the text in messages; relative paths in it count from this file's folder. */
  readonly file: string;
  /** Only names that begin with `HAUBERK_` matter. */
  readonly env?: Environment;
}

function place(finding: Finding, document: Document, origins: ReadonlyMap<string, string>): ConfigIssue {
  const { code, pointer, message } = finding;
  const key = pointer === '' ? {} : { key: dotted(pointer) };
  for (let at = pointer; at !== ''; at = parent(at)) {
    const variable = origins.get(at);
    if (variable !== undefined) return { code, ...key, variable, message };
  }
  const at = finding.atKey === true ? document.keyAt(pointer) : document.valueAt(pointer);
  return { code, ...key, ...(at === undefined ? {} : at), message };
}

const order = (a: ConfigIssue, b: ConfigIssue): number =>
  (a.line ?? Number.MAX_SAFE_INTEGER) - (b.line ?? Number.MAX_SAFE_INTEGER) ||
  (a.column ?? 0) - (b.column ?? 0);

/**
 * Checks a sidecar's configuration and fills in its defaults. Reads nothing but its arguments.
 * Throws `ConfigError` with everything that is wrong.
 */
export function parseConfig(text: string, options: ParseOptions): SidecarConfig {
  return parseForm(SIDECAR_FORM, text, options);
}

/** As `parseConfig`, for a file of any sort. */
export function parseForm<F, C>(form: Form<F, C>, text: string, { file, env = {} }: ParseOptions): C {
  const document = readDocument(text);
  const fatal = document.issues.filter((issue) => issue.code !== 'duplicate-key');
  if (fatal.length > 0) throw new ConfigError(file, fatal);

  const root = document.value ?? Object.create(null);
  const { origins, issues } = applyEnvironment(root, env, form.schema);
  const { findings, file: parsed } = checkValue(form, root, dirname(resolve(file)), {
    given: (pointer) => document.has(pointer) || origins.has(pointer),
    line: (pointer) => (document.has(pointer) ? document.valueAt(pointer)?.line : undefined),
  });
  const all = [
    ...document.issues,
    ...findings.map((finding) => place(finding, document, origins)),
    ...issues,
  ].sort(order);
  if (all.length > 0) throw new ConfigError(file, all);
  return form.build(parsed);
}
