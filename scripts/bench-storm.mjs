// A handshake storm (bench/storm.ts): sets up what is missing, then runs it. Its only argument is the number of clients.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { at, setUp } from './setup.mjs';

const require = createRequire(import.meta.url);

try {
  setUp();
  const loader = pathToFileURL(require.resolve('tsx')).href;
  const args = ['--import', loader, at('bench', 'storm.ts'), ...process.argv.slice(2)];
  const child = spawn(process.execPath, args, { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill('SIGTERM'));
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
} catch (error) {
  console.error(`bench: the set-up failed: ${error.message}`);
  process.exitCode = 1;
}
