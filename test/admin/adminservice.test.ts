import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, expect, it } from 'vitest';
import type { AdminControl } from '../../src/admin/admincontrol.ts';
import { METHODS } from '../../src/admin/adminmethods.ts';
import { AdminService } from '../../src/admin/adminservice.ts';
import { AdminToken } from '../../src/admin/admintoken.ts';
import type { AuditEventInput } from '../../src/audit/event.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { AdminClient } from '../harness/admin-client.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const TOKEN = 'a'.repeat(32);
const ends: Array<() => void> = [];
afterAll(() => {
  for (const end of ends) end();
});

/** A TCP listener of the API. What it is asked to do, and what it writes down. */
async function listening(token: AdminToken | undefined) {
  const recorded: AuditEventInput[] = [];
  const clock = new FakeClock();
  const asked: string[] = [];
  const control = new Proxy(
    { recorder: { record: (event: AuditEventInput) => recorded.push(event) } },
    { get: (target, name) => (name === 'recorder' ? target.recorder : asked.push(String(name))) },
  ) as unknown as AdminControl;
  const service = await AdminService.load({ control, clock, log: silentLogger, token });
  const { inject } = service.server(undefined, () => {});
  const server = createServer(inject).listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => {
    service.close();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const client = (authorization?: string): AdminClient => {
    const made = new AdminClient(`127.0.0.1:${port}`, authorization);
    ends.push(() => made.close());
    return made;
  };
  return { asked, recorded, clock, client };
}

it('over TCP nobody is admitted where there is no token to compare with', async () => {
  const { asked, client } = await listening(undefined);
  for (const authorization of [undefined, 'Bearer undefined', `Bearer ${TOKEN}`]) {
    const api = client(authorization);
    for (const name of Object.keys(METHODS)) expect(await api.status(name)).toBe('UNAUTHENTICATED');
    const [error] = (await once(api.watch(), 'error')) as [{ code: number }];
    expect(error.code).toBe(16);
  }
  expect(asked).toEqual([]);
});

it('refusals are told at once and then once a second, with their number', async () => {
  const { recorded, clock, client } = await listening(new AdminToken(TOKEN));
  const api = client('Bearer wrong');
  for (let n = 0; n < 7; n++) await api.status('GetStatus');
  const counts = (): unknown[] => recorded.map((event) => (event as { count?: number }).count);
  expect(counts()).toEqual([1]);
  clock.advance(1_000);
  expect(counts()).toEqual([1, 6]);
  clock.advance(60_000);
  expect(clock.pending).toBe(0);
  await api.status('GetStatus');
  expect(counts()).toEqual([1, 6, 1]);
  expect(recorded[1]).toMatchObject({ type: 'admin.refused', method: 'GetStatus', reason: 'wrong-token' });
});
