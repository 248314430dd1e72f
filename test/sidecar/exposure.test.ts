import { once } from 'node:events';
import { createServer as createHttp1 } from 'node:http';
import { createServer as createHttp2, createSecureServer } from 'node:http2';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import type { ListenAddress } from '../../src/config/config.ts';
import type { RelayContext } from '../../src/relay/context.ts';
import { ExposureWatch } from '../../src/sidecar/exposurewatch.ts';
import { type Dialled, dialPlaintext } from '../../src/sidecar/plaintextdial.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const POD = '127.0.0.2';
const ends: Array<() => void> = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function listening<S extends Server>(server: S, host: string, port = 0): Promise<number> {
  server.listen(port, host);
  await once(server, 'listening');
  ends.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

const tcp = (host: string, port: number): ListenAddress => ({ kind: 'tcp', host, port });

describe('an app that answers on an address of the pod is seen', () => {
  it.each<[string, () => Server, Dialled]>([
    ['in plaintext HTTP/2', () => createHttp2() as unknown as Server, 'plaintext'],
    ['in HTTP/1', () => createHttp1() as unknown as Server, 'plaintext'],
    ['in TLS', () => createSecureServer() as unknown as Server, 'other'],
    [
      'with something else',
      () => createServer((socket) => socket.end('220 mail.example ESMTP\r\n')),
      'other',
    ],
    [
      'with a frame that is no SETTINGS',
      () => createServer((socket) => socket.end(Buffer.alloc(9))),
      'other',
    ],
    ['with less than a frame', () => createServer((socket) => socket.end(Buffer.of(0, 0, 0, 4))), 'other'],
    ['without a word', () => createServer((socket) => socket.end()), 'other'],
    ['by a reset', () => createServer((socket) => socket.resetAndDestroy()), 'unknown'],
  ])('%s: %s', async (_what, make, seen) => {
    expect(await dialPlaintext(POD, await listening(make(), POD), systemClock)).toBe(seen);
  });

  it('unless it says nothing, or there is none', async () => {
    const clock = new FakeClock();
    const silent = createServer();
    const port = await listening(silent, POD);
    const asking = dialPlaintext(POD, port, clock);
    await once(silent, 'connection');
    clock.advance(2_000);
    expect(await asking).toBe('unknown');
    expect(clock.pending).toBe(0);
    expect(await dialPlaintext('127.0.0.3', port, clock)).toBe('refused');
  });
});

it('it is told once a change, at the start, every few minutes and when the app has come up; never of other apps', async () => {
  const clock = new FakeClock();
  const told: string[] = [];
  const lines: string[] = [];
  const metrics = new Metrics({ version: '0' });
  const log = (_fields: object, text: string): void => void lines.push(text);
  const context = {
    clock,
    metrics,
    log: { warn: log, info: log },
    recorder: {
      record: ({ type, address }: { type: string; address: string }) => told.push(`${type} ${address}`),
    },
  } as unknown as RelayContext;
  const open = createHttp2() as unknown as Server;
  const port = await listening(open, '0.0.0.0');
  const apps = [
    { service: 'web.shop', address: tcp('127.0.0.1', port) },
    { service: 'remote.shop', address: tcp('10.9.9.9', port) },
    { service: 'same.shop', address: tcp('127.0.0.1', port) },
    { service: 'socket.shop', address: { kind: 'unix', path: '/run/x' } as const },
  ];
  const watch = new ExposureWatch(context, { apps, podAddresses: [POD, '127.0.0.3'], listen: [], allow: [] });
  ends.push(() => watch.close());
  const both = [`app.exposed ${POD}:${port}`, `app.exposed 127.0.0.3:${port}`];
  await expect.poll(() => told).toEqual(both);
  expect(lines[0]).toBe(
    `the app answers in plaintext at ${POD}:${port}, past this sidecar: bind the app to 127.0.0.1, or admit only the ports of the sidecar by a NetworkPolicy, which this check cannot see, or use transparent mode`,
  );
  expect((await metrics.render()).body).toContain('hauberk_app_exposed_addresses{service="web.shop"} 2\n');
  await watch.look();
  await watch.look();
  expect(told).toEqual(both);
  open.close();
  await listening(createHttp2() as unknown as Server, '127.0.0.1', port);
  clock.advance(5 * 60_000);
  await expect
    .poll(() => told)
    .toEqual([...both, ...both.map((event) => event.replace('exposed', 'unexposed'))]);
  expect((await metrics.render()).body).toContain('hauberk_app_exposed_addresses{service="web.shop"} 0\n');
  await expect.poll(() => clock.pending).toBe(1);
  watch.close();
  expect(clock.pending).toBe(0);
});

it('nothing is dialled, timed or counted where no address of the pod is known', async () => {
  const clock = new FakeClock();
  const metrics = new Metrics({ version: '0' });
  const apps = [{ service: 'web.shop', address: { kind: 'tcp', host: '127.0.0.1', port: 1 } as const }];
  const watch = new ExposureWatch({ clock, metrics } as unknown as RelayContext, {
    apps,
    podAddresses: [],
    listen: [],
    allow: [],
  });
  await watch.look();
  expect(clock.pending).toBe(0);
  expect((await metrics.render()).body).not.toContain('hauberk_app_exposed_addresses{');
});

it('one that hangs is still exposed, and the controller is told of ports, each look anew', async () => {
  const clock = new FakeClock();
  const told: string[] = [];
  const reported: Array<readonly number[] | string> = [];
  const context = {
    clock,
    metrics: new Metrics({ version: '0' }),
    log: { warn: () => {}, info: () => {} },
    recorder: { record: ({ type }: { type: string }) => told.push(type) },
  } as unknown as RelayContext;
  const open = createHttp2() as unknown as Server;
  const port = await listening(open, '0.0.0.0');
  const report = {
    tell: (ports: ReadonlySet<number>) => void reported.push([...ports]),
    close: () => void reported.push('closed'),
  };
  const apps = [{ service: 'web.shop', address: tcp('127.0.0.1', port) }];
  const ingress = { apps, podAddresses: [POD, '127.0.0.3'], listen: [], allow: [] };
  const watch = new ExposureWatch(context, ingress, report);
  await expect.poll(() => reported).toEqual([[port]]);
  open.close();
  const hung = createServer((socket) => socket.on('error', () => {}));
  let dialled = 0;
  hung.on('connection', () => dialled++);
  await listening(hung, '0.0.0.0', port);
  const looking = watch.look();
  for (const [i] of ingress.podAddresses.entries()) {
    await expect.poll(() => dialled).toBe(i + 1);
    clock.advance(2_000);
  }
  await looking;
  expect([told, reported]).toEqual([
    ['app.exposed', 'app.exposed'],
    [[port], [port]],
  ]);
  hung.close();
  await watch.look();
  expect(told.slice(2)).toEqual(['app.unexposed', 'app.unexposed']);
  watch.close();
  expect(reported.slice(2)).toEqual([[], 'closed']);
});
