import type { Rule } from './rules.ts';
import type { SchemaNode } from './schemanode.ts';

/** A sort of configuration file: `F` is what it says in its own names, `C` what the program makes of it. */
export interface Form<F, C> {
  readonly schema: SchemaNode;
  readonly rules: readonly Rule<F>[];
  readonly build: (file: F) => C;
}
