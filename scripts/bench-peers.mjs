// `npm run bench:peers`: sets up what is missing (dependencies, dist/), then runs bench/peers.ts with the same options.
// Written in plain JavaScript without imports from node_modules, so that it runs in a fresh clone.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { at, setUp } from './setup.mjs';

const require = createRequire(import.meta.url);

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
  setUp();
  drive(process.argv.slice(2));
} catch (error) {
  console.error(`bench: the set-up failed: ${error.message}`);
  process.exitCode = 1;
}
