import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, it } from 'vitest';
import type { LimitStatus } from '../../src/limit/ratelimits.ts';
import type { MeshClient } from '../../src/mesh/meshclient.ts';
import { SecureMesh } from '../../src/mesh/securemesh.ts';
import { atEnd, World } from '../harness/sidecars.ts';

/* Two programs, each with a mesh of its own: no sidecar process, and no port but the mesh port. */

const PROGRAM = fileURLToPath(new URL('../harness/mesh-program.mjs', import.meta.url));

let client: MeshClient;
let ended: Promise<unknown>;
let endServer: () => void;
beforeAll(async () => {
  const world = await World.make();
  await world.identityFiles('greeter');
  await world.identityFiles('web');
  const keys = world.trust.dir;
  const child = spawn(process.execPath, [PROGRAM, keys], { stdio: ['ignore', 'pipe', 'inherit'] });
  atEnd(() => void child.kill('SIGKILL'));
  ended = once(child, 'exit');
  endServer = () => void child.kill('SIGTERM');
  const [port] = await once(createInterface(child.stdout), 'line');
  const mesh = new SecureMesh({
    serviceId: 'web',
    keys,
    services: { greeter: `127.0.0.1:${port}` },
    log: 'silent',
  });
  atEnd(() => mesh.cleanup(0));
  await mesh.start();
  client = await mesh.connect('greeter');
});

const all = async <T>(values: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
};
interface Live {
  open: number;
  done: number;
  left: number;
}
const state = (): Promise<Live> => client.call<null, Live>('state', null);

it.each([null, 0, false, '', 'text', { a: [null, { b: 'ü' }] }, Buffer.from([0, 1, 255]), Buffer.alloc(0)])(
  'a value comes back as it went: %j',
  async (value) => {
    expect(await client.call('echo', value)).toEqual(value);
  },
);

it('messages of megabytes go both ways', async () => {
  const octets = Buffer.alloc(1_500_000, 'abcdefg');
  const [back, text] = await Promise.all([
    client.call<Buffer, Buffer>('echo', octets),
    client.call<string, string>('echo', 'ä'.repeat(700_000)),
  ]);
  expect([back.equals(octets), text === 'ä'.repeat(700_000)]).toEqual([true, true]);
});

it('streams of each kind go through, whole and in order', async () => {
  const numbers = Array.from({ length: 1000 }, (_, n) => n + 1);
  const [counted, sum, doubled] = await Promise.all([
    all(client.serverStream<object, number>('count', { to: 1000 })),
    client.clientStream<number, number>('sum', numbers),
    all(client.bidiStream<number, number>('double', numbers)),
  ]);
  expect(counted).toEqual(numbers);
  expect(sum).toBe(500_500);
  expect(doubled).toEqual(numbers.map((n) => n * 2));
  expect(await state()).toMatchObject({ open: 0, done: 2 });
});

it('a stream that is left ends the generator of the other program', async () => {
  const before = await state();
  for await (const n of client.serverStream<object, number>('count', { to: 1e9 })) if (n === 10) break;
  async function* endless() {
    for (let n = 0; ; n++) {
      yield n;
      await sleep(1);
    }
  }
  for await (const n of client.bidiStream<number, number>('double', endless())) if (n === 10) break;
  while ((await state()).open > 0) await sleep(5);
  expect(await state()).toEqual({ open: 0, done: before.done, left: before.left + 2 });
});

it.each([2, 3, 1e9])(
  'a method that streams, called for one of its %d replies, fails with what to call instead',
  async (to) => {
    await expect(client.call('count', { to })).rejects.toMatchObject({
      status: 'UNIMPLEMENTED',
      details: expect.stringContaining('serverStream'),
    });
    await expect(client.clientStream('double', [1, 2])).rejects.toMatchObject({ status: 'UNIMPLEMENTED' });
  },
);

it('errors have what the program says, and limits what the mesh says', async () => {
  await expect(client.call('refuse', null)).rejects.toMatchObject({
    code: 9,
    status: 'FAILED_PRECONDITION',
    details: 'not today',
    reason: undefined,
  });
  await expect(client.call('nothing', null)).rejects.toMatchObject({ status: 'UNIMPLEMENTED' });
  const [limit] = await client.call<null, LimitStatus[]>('limits', null);
  const left = limit?.remaining as number;
  expect(left).toBeGreaterThan(400);
  const calls = await Promise.allSettled(Array.from({ length: left + 10 }, (_, n) => client.call('echo', n)));
  const answers = calls.filter(({ status }) => status === 'fulfilled');
  expect(answers).toHaveLength(left);
  expect(calls.at(-1)).toMatchObject({ reason: { status: 'RESOURCE_EXHAUSTED', reason: 'limited' } });
});

it('a program that ends says so to the other', async () => {
  endServer();
  await ended;
  await expect(client.call('echo', 1)).rejects.toMatchObject({ status: 'UNAVAILABLE' });
});
