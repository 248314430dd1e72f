/*
 * Loaded into a sidecar's process before the sidecar, by `node --expose-gc --import`: collects garbage when it is told to by
 * SIGUSR2, and tells a file named by TEST_INSIDER_FILE what memory is in use then, a line of JSON each time.
 */
import { appendFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';

const COLLECTIONS = 10;

process.on('SIGUSR2', async () => {
  for (let n = 0; n < COLLECTIONS; n++) {
    globalThis.gc();
    await turn();
  }
  appendFileSync(process.env.TEST_INSIDER_FILE, `${JSON.stringify(process.memoryUsage())}\n`);
});
