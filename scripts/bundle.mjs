// Makes dist/bundle/, the program as an image has it: hauberk.mjs, and beside it the chunks of what is loaded only when it is used, and
// what the program reads: package.json, proto/; and for people the bill of materials (CycloneDX) and the licences of what is in it.
import { chmod, cp, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { billOfMaterials, licencesOf, packagesOf } from './materials.mjs';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const OUT = join(ROOT, 'dist/bundle');
const HEALTH_PROTO = join(ROOT, 'node_modules/grpc-health-check/proto/health');

/** Where distroless images have Node. */
const NODE = '/nodejs/bin/node';

/** Lines above the bundle: what modules in CommonJS expect to have. */
const COMMONJS = [
  "import { createRequire as bundleRequire } from 'node:module';",
  'const require = bundleRequire(import.meta.url);',
  'const __dirname = import.meta.dirname;',
];

/** What modules name relative to themselves is beside the bundle. */
const BESIDE = [
  [/new URL\('(?:\.\.\/)+(proto|package\.json)', import\.meta\.url\)/g, "new URL('./$1', import.meta.url)"],
  [/new URL\('\.\.\/main\.js', import\.meta\.url\)/g, "new URL('./hauberk.mjs', import.meta.url)"],
  // Without it esbuild knows `require`, and puts what is required into the bundle.
  [/^const require = createRequire\(import\.meta\.url\);\n/gm, ''],
];

const places = {
  name: 'places',
  setup(esbuild) {
    esbuild.onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => {
      let contents = await readFile(path, 'utf8');
      for (const [pattern, beside] of BESIDE) contents = contents.replace(pattern, beside);
      const left = contents.split('\n').filter((line) => /import\.meta\.(?!url\))|URL\('\.\./.test(line));
      if (left.length === 0) return { contents, loader: 'ts' };
      return {
        errors: left.map((line) => ({ text: `${path}: where is this beside the bundle? ${line.trim()}` })),
      };
    });
    esbuild.onLoad({ filter: /\/grpc-health-check\/build\/src\/health\.js$/ }, async ({ path }) => ({
      contents: (await readFile(path, 'utf8')).replace('__dirname}/../../proto', '__dirname}/proto'),
    }));
  },
};

/**
 * What `import()` of a package in CommonJS yields, as Node has it: its names, and all of it as `default`. esbuild alone gives a chunk
 * only the latter.
 */
const commonJs = {
  name: 'commonjs',
  setup(esbuild) {
    esbuild.onResolve({ filter: /^[^.]/ }, async ({ path, kind, resolveDir }) => {
      if (kind !== 'dynamic-import' || isBuiltin(path)) return undefined;
      const found = await esbuild.resolve(path, { kind: 'import-statement', resolveDir });
      const plain = /(?<!\.es)\.js$/.test(found.path) && !(await isModule(found.path));
      if (!plain && !found.path.endsWith('.cjs')) return undefined;
      return { path, namespace: 'commonjs', pluginData: resolveDir };
    });
    esbuild.onLoad({ filter: /.*/, namespace: 'commonjs' }, async ({ path, pluginData }) => {
      const names = Object.keys(await import(path)).filter((name) =>
        /^(?!default$)[A-Za-z_$][\w$]*$/.test(name),
      );
      const text = `const all = require('${path}');\nexport default all;\nexport const { ${names.join(', ')} } = all;\n`;
      return { contents: text, resolveDir: pluginData };
    });
  },
};

/** By the nearest package.json. */
async function isModule(file) {
  for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) {
    const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => undefined);
    if (text !== undefined) return JSON.parse(text).type === 'module';
  }
  return false;
}

await rm(OUT, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: ROOT,
  entryPoints: ['src/cli/main.ts'],
  outdir: OUT,
  entryNames: 'hauberk',
  outExtension: { '.js': '.mjs' },
  bundle: true,
  // The text of a loaded file stays in memory: all in one, an idle sidecar takes 6 MiB more, and as much again with white space.
  splitting: true,
  minifyWhitespace: true,
  lineLimit: 160,
  // The same text wherever the packages really are.
  preserveSymlinks: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  mainFields: ['module', 'main'],
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
  banner: { js: COMMONJS.join('\n') },
  plugins: [places, commonJs],
});

const packages = packagesOf(ROOT, metafile);
const { name, version, license } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
const json = (value) => `${JSON.stringify(value, undefined, 2)}\n`;
await writeFile(join(OUT, 'package.json'), json({ name, version, license, type: 'module' }));
await writeFile(join(OUT, 'sbom.cdx.json'), json(billOfMaterials(ROOT, packages)));
await writeFile(join(OUT, 'THIRD-PARTY-LICENSES'), `${licencesOf(packages)}\n`);
await cp(join(ROOT, 'LICENSE'), join(OUT, 'LICENSE'));
await cp(join(ROOT, 'proto'), join(OUT, 'proto'), { recursive: true });
await cp(HEALTH_PROTO, join(OUT, 'proto/health'), { recursive: true });

// `hauberk` for whoever executes something in a container; there is no env(1).
const program = join(OUT, 'hauberk.mjs');
await writeFile(program, (await readFile(program, 'utf8')).replace(/^#!.*/, `#!${NODE}`));
await chmod(program, 0o755);
await mkdir(join(OUT, 'bin'));
await symlink('../hauberk.mjs', join(OUT, 'bin/hauberk'));
