import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { Chat, SayHello } from '../harness/greeter-methods.ts';
import { type Pair, startPair } from '../harness/sidecars.ts';

/** Content that no two messages share, so that none can stand in for another. */
function content(n: number, size: number): Buffer {
  const block = createHash('sha512').update(`${n}`).digest();
  return Buffer.alloc(size, block);
}

/** Sends messages and takes each back, one after the other, until `done`; how many that were. */
async function exchange(pair: Pair, size: number, done: (sent: number) => Promise<boolean>): Promise<number> {
  const { call, answer } = pair.client.bidi(Chat, { paused: true });
  let sent = 0;
  do {
    for (let i = 0; i < 100; i++) {
      const data = content(sent++, size);
      const back = once(call, 'data');
      call.write({ data });
      const [echo] = (await back) as [{ data: Buffer }];
      if (!echo.data.equals(data)) throw new Error(`message ${sent} came back with other content`);
    }
  } while (!(await done(sent)));
  call.end();
  expect((await answer).code).toBe(0);
  return sent;
}

/** How often a key has changed, by direction and cause. */
async function rekeys(pair: Pair): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const name of ['web', 'greeter'] as const) {
    for (const { direction, cause } of await pair[name].audit.of('session.rekeyed')) {
      const key = `${name} ${direction} ${cause}`;
      counts[key] = (counts[key] ?? 0) + 1;
    }
  }
  return counts;
}

it.each([
  { cause: 'records', records: { rekeyRecords: 1024 }, size: 10 },
  { cause: 'bytes', records: { rekeyBytes: '64MiB' }, size: 2 ** 20 },
])('one stream goes on over many keys, changed after so many $cause', async ({ cause, records, size }) => {
  const pair = await startPair({ web: { records }, greeter: { records } });
  const wanted = [`web send ${cause}`, 'web receive peer', `greeter send ${cause}`, 'greeter receive peer'];
  await exchange(pair, size, async () => {
    const counts = await rekeys(pair);
    return wanted.every((key) => (counts[key] ?? 0) >= 3);
  });
  expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  for (const { audit } of [pair.web, pair.greeter]) {
    const [created, ...others] = await audit.of('session.created');
    expect(others).toEqual([]);
    const events = await audit.of('session.rekeyed');
    expect(new Set(events.map(({ sessionId }) => sessionId))).toEqual(new Set([created?.sessionId]));
    expect(await audit.of('session.closed')).toEqual([]);
  }
  expect(Object.keys(await rekeys(pair)).sort()).toEqual(wanted.sort());
  // Every change at one end is one at the other.
  const at = ({ audit }: Pair['web'], direction: 'send' | 'receive') =>
    audit.of('session.rekeyed').then((all) => all.filter((event) => event.direction === direction).length);
  const [out, into] = await Promise.all(
    ['out', 'in'].map((flow) => pair.web.metric('hauberk_rekeys_total', { flow })),
  );
  const written = (): Promise<number[]> =>
    Promise.all([
      at(pair.web, 'send'),
      at(pair.greeter, 'receive'),
      at(pair.web, 'receive'),
      at(pair.greeter, 'send'),
    ]);
  await expect.poll(written, { timeout: 20_000 }).toEqual([out, out, into, into]);
});

it('only one end changes its key often: the other follows', async () => {
  const pair = await startPair({ greeter: { records: { rekeyRecords: 1024 } } });
  await exchange(pair, 10, async () => ((await rekeys(pair))['web receive peer'] ?? 0) >= 2);
  expect(Object.keys(await rekeys(pair)).sort()).toEqual(['greeter send records', 'web receive peer']);
});
