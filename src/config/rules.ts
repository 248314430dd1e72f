// What rules between keys are made of, and those that sidecar and controller share.
import { formatAddress } from './address.ts';
import { type Finding, missingKey, type Parsed } from './check.ts';
import type { ListenAddress } from './config.ts';
import { below, dotted, quote } from './pointer.ts';
import type { ParsedFile } from './schema.ts';
import type { SchemaNode } from './schemanode.ts';

export type DeepPartial<T> = T extends readonly (infer Item)[]
  ? DeepPartial<Item>[]
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> }
    : T;

export interface RuleContext<F> {
  readonly file: DeepPartial<F>;
  pointerOf(value: object): string;
  /** Whether the file or a variable gives this, rather than a default. */
  given(pointer: string): boolean;
  /** ` (line 8)`, or nothing when it is not in the file. */
  lineOf(pointer: string): string;
  conflict(pointer: string, message: string): void;
  /** A key has to be there in this case; `otherwise` says what would do instead. */
  missing(pointer: string, otherwise: string): void;
}

/** Looks at one matter, and passes over what is undefined. */
export type Rule<F> = (context: RuleContext<F>) => void;

/** What is known of a pointer's origin. */
export interface Origin {
  given(pointer: string): boolean;
  line(pointer: string): number | undefined;
}

/** Runs every rule. */
export function runRules<F>(
  { rules, schema }: { readonly rules: readonly Rule<F>[]; readonly schema: SchemaNode },
  parsed: Parsed,
  origin: Origin,
): Finding[] {
  const findings: Finding[] = [];
  const context: RuleContext<F> = {
    file: parsed.value as DeepPartial<F>,
    pointerOf: (value) => parsed.pointerOf.get(value) ?? '',
    given: origin.given,
    lineOf: (pointer) => {
      const line = origin.line(pointer);
      return line === undefined ? '' : ` (line ${line})`;
    },
    conflict: (pointer, message) =>
      findings.push({ code: 'conflict', pointer, message: `${dotted(pointer)}: ${message}` }),
    missing: (pointer, otherwise) => findings.push(missingKey(schema, pointer, otherwise)),
  };
  for (const rule of rules) rule(context);
  return findings;
}

/** An address that is to be bound, with where it is written and what it is called. */
export interface NamedListener {
  readonly address: ListenAddress;
  readonly pointer: string;
  readonly name: string;
}

const WILDCARDS: readonly string[] = ['0.0.0.0', '::'];

export function overlap(a: ListenAddress, b: ListenAddress): boolean {
  if (a.kind === 'unix' || b.kind === 'unix')
    return a.kind === b.kind && formatAddress(a) === formatAddress(b);
  if (a.port !== b.port || a.port === 0) return false;
  const sameFamily = a.host.includes(':') === b.host.includes(':');
  return a.host === b.host || (sameFamily && (WILDCARDS.includes(a.host) || WILDCARDS.includes(b.host)));
}

/** No address is bound twice. */
export function boundOnce<F>({ given, conflict }: RuleContext<F>, listeners: readonly NamedListener[]): void {
  // Only listeners on one port can overlap, so that thousands of routes are not compared pairwise.
  const groups = new Map<string, NamedListener[]>();
  for (const listener of listeners) {
    const { address } = listener;
    const group = address.kind === 'unix' ? address.path : String(address.port);
    const earlier = groups.get(group) ?? [];
    const other = earlier.find((candidate) => overlap(candidate.address, address));
    if (other !== undefined) {
      // Blame the one that was given, not a default.
      const [blamed, holder] = given(listener.pointer) ? [listener, other] : [other, listener];
      conflict(
        blamed.pointer,
        `${formatAddress(blamed.address)} is taken: ${holder.name} binds ${formatAddress(holder.address)}; choose another`,
      );
    }
    earlier.push(listener);
    groups.set(group, earlier);
  }
}

type Monitored = Pick<ParsedFile, 'monitoring'>;

/** Each entry of `monitoring.adapters` is one adapter. */
export function adapters({ file, pointerOf, conflict }: RuleContext<Monitored>): void {
  const seen = new Set<string>();
  for (const adapter of file.monitoring?.adapters ?? []) {
    if (typeof adapter === 'string') continue;
    const pointer = pointerOf(adapter);
    const kinds = (['stdout', 'file', 'module'] as const).filter((key) => adapter[key] !== undefined);
    if (kinds.length > 1 || Object.keys(adapter).every((key) => key === 'options')) {
      const found = kinds.length === 0 ? 'none of' : 'several of';
      conflict(
        pointer,
        `${found} stdout, file and module: write just one of them, and a list entry for each adapter`,
      );
    }
    if (adapter.options !== undefined && adapter.module === undefined && kinds.length > 0) {
      conflict(below(pointer, 'options'), 'options are for a module only: remove them');
    }
    const path = adapter.file?.path;
    if (path !== undefined && seen.has(path))
      conflict(pointer, `a second adapter writes to ${quote(path)}: keep one`);
    if (path !== undefined) seen.add(path);
  }
}
