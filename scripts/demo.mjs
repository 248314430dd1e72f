// `npm run demo`: sets up what is missing, then runs `hauberk demo` with the same options.
import { spawn } from 'node:child_process';
import { at, setUp } from './setup.mjs';

try {
  setUp();
  const child = spawn(process.execPath, [at('dist', 'cli', 'main.js'), 'demo', ...process.argv.slice(2)], {
    stdio: 'inherit',
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
} catch (error) {
  console.error(`demo: the set-up failed: ${error.message}`);
  process.exitCode = 1;
}
