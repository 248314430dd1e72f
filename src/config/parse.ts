// A file's way: text -> YAML nodes (document.ts) -> HAUBERK_* variables (environment.ts) -> shape and defaults
// (check.ts, from schema.ts) -> parsed scalars (check.ts, kinds.ts) -> rules between keys (crosscheck.ts) ->
// SidecarConfig (build.ts). Every step reports all it finds; only YAML that cannot be read ends the way early.
import { dirname, resolve } from 'node:path';
import { buildConfig } from './build.ts';
import { checkShape, type Finding, parseKinds } from './check.ts';
import type { SidecarConfig } from './config.ts';
import { crossCheck } from './crosscheck.ts';
import { type Document, readDocument } from './document.ts';
import { applyEnvironment, type Environment } from './environment.ts';
import { ConfigError, type ConfigIssue } from './errors.ts';
import { dotted, parent } from './pointer.ts';
import type { ParsedFile } from './schema.ts';

const MAX_ISSUES = 1_000;

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
 * Checks a configuration and fills in its defaults. Reads nothing but its arguments.
 * Throws `ConfigError` with everything that is wrong.
 */
export function parseConfig(text: string, { file, env = {} }: ParseOptions): SidecarConfig {
  const document = readDocument(text);
  const fatal = document.issues.filter((issue) => issue.code !== 'duplicate-key');
  if (fatal.length > 0) throw new ConfigError(file, fatal);

  const root = document.value ?? Object.create(null);
  const { origins, issues } = applyEnvironment(root, env);
  const shape = checkShape(root);
  const folder = dirname(resolve(file));
  const parsed = parseKinds(root, (path) => resolve(folder, path));
  const across = crossCheck(parsed, {
    given: (pointer) => document.has(pointer) || origins.has(pointer),
    line: (pointer) => (document.has(pointer) ? document.valueAt(pointer)?.line : undefined),
  });
  const findings = [...shape, ...parsed.findings, ...across].slice(0, MAX_ISSUES);
  const all = [
    ...document.issues,
    ...findings.map((finding) => place(finding, document, origins)),
    ...issues,
  ].sort(order);
  if (all.length > 0) throw new ConfigError(file, all);
  return buildConfig(parsed.value as ParsedFile);
}
