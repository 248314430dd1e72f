// What `npm run demo` and `npm run bench:peers` need before they run: the locked dependencies and a fresh dist/.
// Plain JavaScript without imports from node_modules, so that it runs in a fresh clone.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const at = (...path) => join(root, ...path);
const require = createRequire(import.meta.url);

/** Whether node_modules holds exactly the locked versions; packages for other platforms may be left out. */
function dependenciesAreCurrent() {
  try {
    const packagesOf = (path) => JSON.parse(readFileSync(path, 'utf8')).packages;
    const installed = packagesOf(at('node_modules', '.package-lock.json'));
    return Object.entries(packagesOf(at('package-lock.json'))).every(([name, locked]) => {
      if (name === '') return true;
      const found = installed[name];
      return found === undefined ? locked.optional === true : found.version === locked.version;
    });
  } catch {
    return false;
  }
}

const modified = (path) => statSync(path).mtimeMs;

function newestSource() {
  const sources = readdirSync(at('src'), { recursive: true }).map((name) => at('src', name));
  const settings = ['package.json', 'tsconfig.json', 'tsconfig.build.json'].map((name) => at(name));
  return Math.max(...[...sources, ...settings].map(modified));
}

function buildIsCurrent() {
  try {
    statSync(at('dist', 'cli', 'main.js'));
    return modified(at('dist', '.tsbuildinfo')) >= newestSource();
  } catch {
    return false;
  }
}

function step(what, program, args) {
  console.error(what);
  // What set-up prints is no part of the result on stdout.
  execFileSync(program, args, { cwd: root, stdio: ['ignore', 2, 2] });
}

/** Installs and builds what is missing or stale. Throws if either fails. */
export function setUp() {
  if (!dependenciesAreCurrent()) {
    step('Installing the locked dependencies (npm ci) ...', 'npm', ['ci', '--include=dev']);
  }
  if (!buildIsCurrent()) {
    step('Building dist/ ...', process.execPath, [
      join(require.resolve('typescript/package.json'), '..', 'bin', 'tsc'),
      '-p',
      at('tsconfig.build.json'),
    ]);
  }
}
