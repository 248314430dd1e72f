// `npm run bench:peers`: sets up what is missing (dependencies, dist/), then runs bench/peers.ts with the same options.
// Written in plain JavaScript without imports from node_modules, so that it runs in a fresh clone.
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const at = (...path) => join(root, ...path);
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

/** Runs the driver and passes signals on, so that it ends the proxies however this process is told to end. */
function drive(args) {
  const loader = pathToFileURL(require.resolve('tsx')).href;
  const child = spawn(process.execPath, ['--import', loader, at('bench', 'peers.ts'), ...args], {
    stdio: 'inherit',
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

try {
  if (!dependenciesAreCurrent()) step('Installing the locked dependencies (npm ci) ...', 'npm', ['ci']);
  if (!buildIsCurrent()) {
    const tsc = join(require.resolve('typescript/package.json'), '..', 'bin', 'tsc');
    step('Building dist/ ...', process.execPath, [tsc, '-p', at('tsconfig.build.json')]);
  }
  drive(process.argv.slice(2));
} catch (error) {
  console.error(`bench: the set-up failed: ${error.message}`);
  process.exitCode = 1;
}
