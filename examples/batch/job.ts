/**
 * A job that runs, does its work, and ends: no signal, no daemon. It works through its items with a few calls at a time,
 * waits where the server's limit says so, and exits with 1 if an item could not be done.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CallError, SecureMesh } from 'hauberk';

const address = process.env.RESIZER ?? '127.0.0.1:50054';
const items = Array.from({ length: Number(process.env.ITEMS ?? 100) }, (_, i) => `picture-${i}`);
const AT_ONCE = 8;
const ATTEMPTS = Number(process.env.ATTEMPTS ?? 20);

await using mesh = await new SecureMesh({ serviceId: 'nightly', services: { resizer: address } }).start();
const resizer = mesh.connect('resizer');
const failed: string[] = [];
let waits = 0;

async function resize(picture: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await resizer.call('resize', { picture }, { timeout: '10s' });
      return;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      // Neither was the call delivered: a limit refused it, or there was no session to send it on.
      const again = error.reason === 'limited' || error.reason === 'peer-unreachable';
      if (!again || attempt === ATTEMPTS) {
        console.error(`${picture}: ${error.message}`);
        failed.push(picture);
        return;
      }
      waits++;
      await sleep(pushback(error) ?? 100 * attempt);
    }
  }
}

/** How long the server asks us to wait, ms. */
function pushback({ metadata }: CallError): number | undefined {
  const [ms] = metadata?.get('grpc-retry-pushback-ms') ?? [];
  return ms === undefined ? undefined : Number(ms);
}

const left = items.values();
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (const item of left) await resize(item);
  }),
);

console.log(`${items.length - failed.length} of ${items.length} done, waited ${waits} times`);
if (failed.length > 0) process.exitCode = 1;
