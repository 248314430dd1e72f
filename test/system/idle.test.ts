import { expect, it } from 'vitest';
import { SayHello } from '../harness/greeter-methods.ts';
import { peakOf } from '../harness/memory.ts';
import { startPair } from '../harness/sidecars.ts';

const MIB = 1024 * 1024;
/** The budget of an idle sidecar. */
const IDLE = 80 * MIB;

it('an idle sidecar takes less than 80 MiB, from its start on and while it is probed and scraped', async () => {
  const limits = [{ scope: 'peer', maxRequests: 1000, window: '60s' }];
  const { web, greeter, client } = await startPair({ web: { limits }, greeter: { limits } });
  for (const sidecar of [web, greeter]) {
    expect((await peakOf(sidecar)) / MIB, `${sidecar.name} when it is ready`).toBeLessThan(IDLE / MIB);
    for (const path of ['/startupz', '/livez', '/readyz', '/metrics']) {
      expect((await sidecar.probe(path)).status).toBe(200);
    }
    expect((await peakOf(sidecar)) / MIB, `${sidecar.name}, probed`).toBeLessThan(IDLE / MIB);
  }
  expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  for (const sidecar of [web, greeter]) {
    expect((await peakOf(sidecar)) / MIB, `${sidecar.name}, used`).toBeLessThan(IDLE / MIB);
  }
});
