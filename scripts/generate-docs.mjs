// Writes what is generated: docs/configuration.md and docs/sidecar.schema.json from src/config/schema.ts, their like for the
// controller from src/config/controllerschema.ts, the tables of
// docs/cli.md from the commands, the values of helm/hauberk from scripts/chart/values.ts, docs/api/ from the doc comments of what the package exports. Run it as `npm run docs` after a
// change of these; no build is needed.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { tsImport } from 'tsx/esm/api';

const { CONTROLLER_PAGE, editorSchema, renderJson, renderReference, SIDECAR_PAGE } = await tsImport(
  '../src/config/reference.ts',
  import.meta.url,
);

const { renderCommands } = await tsImport('../src/cli/reference.ts', import.meta.url);

const docs = new URL('../docs/', import.meta.url);
const pages = [
  ['configuration.md', 'sidecar.schema.json', SIDECAR_PAGE],
  ['controller-configuration.md', 'controller.schema.json', CONTROLLER_PAGE],
];
for (const [text, schema, page] of pages) {
  writeFileSync(new URL(text, docs), renderReference(page));
  writeFileSync(new URL(schema, docs), `${renderJson(editorSchema(page))}\n`);
}

const cli = new URL('cli.md', docs);
writeFileSync(cli, renderCommands(readFileSync(cli, 'utf8')));

const { renderRanges, renderReadme, renderValues, valuesSchema } = await tsImport(
  './chart/render.ts',
  import.meta.url,
);
const chart = new URL('../helm/hauberk/', import.meta.url);
const readme = new URL('README.md', chart);
writeFileSync(new URL('values.yaml', chart), renderValues());
writeFileSync(new URL('values.schema.json', chart), `${renderJson(valuesSchema())}\n`);
writeFileSync(new URL('templates/_ranges.tpl', chart), renderRanges());
writeFileSync(readme, renderReadme(readFileSync(readme, 'utf8')));

const reference = fileURLToPath(new URL('api-reference.mjs', import.meta.url));
execFileSync(process.execPath, [reference], { stdio: 'inherit' });
