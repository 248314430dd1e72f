import { once } from 'node:events';
import * as http2 from 'node:http2';
import { connect, type Socket } from 'node:net';
import { afterAll, expect, it } from 'vitest';
import { AdminApi } from '../../src/admin/adminapi.ts';
import type { AdminControl } from '../../src/admin/admincontrol.ts';
import { AdminToken } from '../../src/admin/admintoken.ts';
import { systemClock } from '../../src/clock/clock.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { AdminClient } from '../harness/admin-client.ts';

const TOKEN = 'a'.repeat(32);
const MAX_CONNECTIONS = 64;
const ends: Array<() => unknown> = [];
afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

it('whoever has no token cannot close the connections of those who have, however many he opens', async () => {
  let watches = 0;
  const recorder = {
    record: () => {},
    watch: () => {
      watches++;
      return () => void watches--;
    },
  };
  const api = await AdminApi.open({
    listen: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }],
    groupAccess: false,
    token: new AdminToken(TOKEN),
    control: { recorder } as unknown as AdminControl,
    clock: systemClock,
    log: silentLogger,
    onSkipped: () => {},
  });
  const [address] = api.bound as [string];
  const port = Number(address.slice(address.lastIndexOf(':') + 1));
  const strangers: Socket[] = [];
  const crowd = async (): Promise<void> => {
    for (let n = 0; n < 2 * MAX_CONNECTIONS; n++) {
      const socket = connect(port, '127.0.0.1').resume();
      socket.on('error', () => {});
      strangers.push(socket);
      await once(socket, 'connect');
    }
    await expect
      .poll(() => strangers.filter(({ closed }) => closed).length, { timeout: 20_000 })
      .toBeGreaterThan(MAX_CONNECTIONS);
  };
  const operator = new AdminClient(address, `Bearer ${TOKEN}`);
  const watch = operator.watch();
  let over = false;
  watch.on('error', () => {
    over = true;
  });
  watch.on('end', () => {
    over = true;
  });
  ends.push(
    () => api.close(),
    () => {
      for (const socket of strangers) socket.destroy();
      operator.close();
    },
    () => watch.cancel(),
  );
  await expect.poll(() => watches, { timeout: 20_000 }).toBe(1);
  await crowd();
  expect([watches, over]).toEqual([1, false]);
  // Nor if every stranger calls, with another token.
  for (let n = 0; n < 2 * MAX_CONNECTIONS; n++) {
    const session = http2.connect(`http://${address}`);
    session.on('error', () => {});
    ends.push(() => session.destroy());
    const call = session.request({
      ':method': 'POST',
      ':path': '/hauberk.admin.v1.Admin/GetStatus',
      'content-type': 'application/grpc',
      authorization: `Bearer ${'b'.repeat(32)}`,
    });
    const [headers] = (await once(call, 'response')) as [http2.IncomingHttpHeaders];
    expect(headers['grpc-status']).toBe('16'); // UNAUTHENTICATED
    call.close();
  }
  expect([watches, over]).toEqual([1, false]);
});
