// Writes dist/cjs/: for each entry of the package that has a `require` condition a module that CommonJS programs load,
// and its types. The modules hand on the ES modules, so that each class exists once, whoever loads it how; Node 20.19 does that
// without a warning for files below node_modules. `tsc` must have run.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = new URL('../', import.meta.url);
const { exports: entries } = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));
const pathOf = (file) => fileURLToPath(new URL(file, root));

for (const entry of Object.values(entries)) {
  if (entry.require === undefined) continue;
  const module = pathOf(entry.import.default);
  const cjs = pathOf(entry.require.default);
  const from = relative(dirname(cjs), module);
  await mkdir(dirname(cjs), { recursive: true });
  await writeFile(cjs, `'use strict';\nmodule.exports = require('${from}');\n`);
  await writeFile(pathOf(entry.require.types), typesOf(from, await import(module)));
}

/** Types of an ES module may be used in CommonJS, its values not: they are declared anew, as what they are. */
function typesOf(from, values) {
  const mode = "with { 'resolution-mode': 'import' }";
  const lines = Object.entries(values).flatMap(([name, value]) => [
    `export declare const ${name}: typeof esm.${name};`,
    ...(isClass(value) ? [`export type ${name} = esm.${name};`] : []),
  ]);
  return `import type * as esm from '${from}' ${mode};\nexport type * from '${from}' ${mode};\n${lines.join('\n')}\n`;
}

function isClass(value) {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}
