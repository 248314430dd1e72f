// Writes what is generated from src/config/schema.ts: docs/configuration.md and docs/sidecar.schema.json.
// Run it as `node scripts/generate-docs.mjs` after a change of the schema; no build is needed.
import { writeFileSync } from 'node:fs';
import { tsImport } from 'tsx/esm/api';

const { editorSchema, renderJson, renderReference } = await tsImport(
  '../src/config/reference.ts',
  import.meta.url,
);

const docs = new URL('../docs/', import.meta.url);
writeFileSync(new URL('configuration.md', docs), renderReference());
writeFileSync(new URL('sidecar.schema.json', docs), `${renderJson(editorSchema())}\n`);
