import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const read = (path: string): string => readFileSync(`${ROOT}${path}`, 'utf8');
const entries = readdirSync(`${ROOT}src/entries`).map((file) => file.replace(/\.ts$/, ''));
const { exports, typesVersions, main, types } = JSON.parse(read('package.json')) as {
  exports: Record<string, unknown>;
  typesVersions: { '*': Record<string, string[]> };
  main: string;
  types: string;
};

/** The names that a file re-exports, each with where it comes from: `RateLimiter < limit/ratelimiter.ts`. */
function exported(file: string): string[] {
  const statements = read(file).matchAll(/^export (?:type )?\{([^}]*)\} from '\.{1,2}\/([^']+)';$/gm);
  return [...statements].flatMap(([, names, from]) =>
    (names as string)
      .split(',')
      .map((name) => name.trim().replace(/^type /, ''))
      .filter((name) => name !== '')
      .map((name) => `${name} < ${from}`),
  );
}

/** What stands in an entry beside re-exports. */
const rest = (file: string): string =>
  read(file)
    .replace(/^export (?:type )?\{[^}]*\} from '[^']+';$/gm, '')
    .replace(/\/\*\*[\s\S]*?\*\//g, '')
    .trim();

const everything = exported('src/index.ts');

/** Needs a package that not everybody has, and so `hauberk` must not import it. */
const APART = ['bufbuild'];

it.each(entries)('hauberk/%s only hands on, and what it exports hauberk does too', (entry) => {
  const names = exported(`src/entries/${entry}.ts`);
  expect(names.length).toBeGreaterThan(0);
  const others = names.filter((name) => !everything.includes(name));
  expect(others).toEqual(APART.includes(entry) ? names : []);
  expect(rest(`src/entries/${entry}.ts`)).toBe('');
});

it('hauberk only hands on, each name once', () => {
  expect(rest('src/index.ts')).toBe('');
  expect(everything.filter((name, index) => everything.indexOf(name) !== index)).toEqual([]);
  expect(everything.length).toBeGreaterThan(50);
});

it('package.json has every entry, for each way to load it', () => {
  const both = (module: string, name: string) => ({
    import: { types: `./dist/${module}.d.ts`, default: `./dist/${module}.js` },
    require: { types: `./dist/cjs/${name}.d.cts`, default: `./dist/cjs/${name}.cjs` },
  });
  expect(exports).toEqual({
    '.': both('index', 'index'),
    './package.json': './package.json',
    ...Object.fromEntries(entries.map((entry) => [`./${entry}`, both(`entries/${entry}`, entry)])),
  });
  expect(typesVersions['*']).toEqual(
    Object.fromEntries(entries.map((entry) => [entry, [`./dist/entries/${entry}.d.ts`]])),
  );
  expect([main, types]).toEqual(['./dist/cjs/index.cjs', './dist/index.d.ts']);
});
