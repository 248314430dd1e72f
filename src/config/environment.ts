import type { ConfigIssue } from './errors.ts';
import { CONFIG_VARIABLE } from './load.ts';
import { nearest } from './nearest.ts';
import { below, keysOf } from './pointer.ts';
import { SCHEMA } from './schema.ts';
import type { SchemaNode } from './schemanode.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const PREFIX = 'HAUBERK_';
const SIDECAR = SCHEMA as unknown as SchemaNode;

/** What Kubernetes puts into every pod of a namespace that has a Service called `hauberk` or `hauberk-...`. */
const FROM_KUBERNETES =
  /^HAUBERK_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/;

/** Variables that are not called as their key is: what Kubernetes calls `status.podIPs`, a list with commas. */
const NAMED: Readonly<Record<string, string>> = { '/ingress/podAddresses': `${PREFIX}POD_IPS` };

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Keys that a variable can set: every scalar (or list of addresses) that is not inside a list. */
export function overridableKeys(
  schema: SchemaNode = SIDECAR,
): Array<{ variable: string; pointer: string; node: SchemaNode }> {
  const found: Array<{ variable: string; pointer: string; node: SchemaNode }> = [];
  const visit = (node: SchemaNode, pointer: string): void => {
    if (node.type === 'array') return;
    for (const [key, child] of Object.entries(node.properties ?? {})) visit(child, below(pointer, key));
    if (node.properties !== undefined || node.type === 'object') return;
    const named = NAMED[pointer];
    if (named !== undefined) {
      found.push({ variable: named, pointer, node });
      return;
    }
    const words = keysOf(pointer).map((key) => key.replaceAll(/[A-Z]/g, '_$&').toUpperCase());
    found.push({ variable: `${PREFIX}${words.join('_')}`, pointer, node });
  };
  visit(schema, '');
  return found;
}

/** Takes those out of the environment that may hold a password: a diagnostic report of Node.js shows all of it. */
export function forgetPasswords(environment: NodeJS.ProcessEnv = process.env): void {
  delete environment[CONFIG_VARIABLE];
  for (const { variable, node } of overridableKeys()) {
    if (node['x-kind'] === 'redis-url') delete environment[variable];
  }
}

/** A variable's text as the file would have it. What does not fit stays text, and the check refuses it. */
function scalar(text: string, { type }: SchemaNode): unknown {
  const types = [type].flat();
  if (types.includes('array') && text.includes(',')) return text.split(',').map((item) => item.trim());
  if (types.includes('boolean') && (text === 'true' || text === 'false')) return text === 'true';
  if ((types.includes('integer') || types.includes('number')) && /^-?[0-9]+(\.[0-9]+)?$/.test(text)) {
    return Number(text);
  }
  return text;
}

/**
 * Sets the keys that `HAUBERK_*` variables name in `value` (which is changed in place); empty variables count as
 * unset. Returns which pointers came from which variable, and an issue for every name that is not known.
 */
export function applyEnvironment(
  value: unknown,
  environment: Environment,
  schema: SchemaNode,
): { origins: ReadonlyMap<string, string>; issues: ConfigIssue[] } {
  const origins = new Map<string, string>();
  const issues: ConfigIssue[] = [];
  const keys = new Map(overridableKeys(schema).map((key) => [key.variable, key]));
  for (const variable of Object.keys(environment).sort()) {
    const text = environment[variable];
    if (!variable.startsWith(PREFIX) || text === undefined || text === '') continue;
    if (variable === CONFIG_VARIABLE) continue;
    const key = keys.get(variable);
    if (key === undefined) {
      if (FROM_KUBERNETES.test(variable)) continue;
      const near = nearest(
        variable.slice(PREFIX.length),
        [...keys.keys()].map((name) => name.slice(PREFIX.length)),
      );
      const cure = near === undefined ? 'unset it' : `did you mean ${PREFIX}${near}?`;
      issues.push({
        code: 'unknown-variable',
        variable: variable.slice(0, 128),
        message: `unknown variable: ${cure}`,
      });
      continue;
    }
    let at = value;
    const path = keysOf(key.pointer);
    const last = path.pop() as string;
    for (const step of path) {
      if (isMapping(at)) at[step] ??= Object.create(null);
      at = isMapping(at) ? at[step] : undefined;
    }
    // Where the file has something else than a mapping, the check refuses the file anyway.
    if (!isMapping(at)) continue;
    at[last] = scalar(text, key.node);
    origins.set(key.pointer, variable);
  }
  return { origins, issues };
}
