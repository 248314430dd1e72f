import { buildConfig } from './build.ts';
import type { SidecarConfig } from './config.ts';
import { SIDECAR_RULES } from './crosscheck.ts';
import type { Form } from './form.ts';
import { type ParsedFile, SCHEMA } from './schema.ts';
import type { SchemaNode } from './schemanode.ts';

/** The file of `hauberk run`. */
export const SIDECAR_FORM: Form<ParsedFile, SidecarConfig> = {
  schema: SCHEMA as unknown as SchemaNode,
  rules: SIDECAR_RULES,
  build: buildConfig,
};
