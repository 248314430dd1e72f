import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { dial } from '../../src/transport/dial.ts';
import { XX } from '../../src/transport/mode.ts';
import { StaticKey } from '../../src/transport/statickey.ts';
import { atEnd, World } from '../harness/sidecars.ts';
import { crypto } from '../transport/world.ts';

/*
 * What is gone must not wait for a full collection: connections that come and go by the thousand would then fill V8's old
 * generation. It takes little: one function literal assigned to a property (V8 makes those in old space), a getter in an
 * object literal, or a Set that all of them pass through.
 */

const SCAVENGER = fileURLToPath(new URL('../harness/scavenger.mjs', import.meta.url));
const MARK = 65_536; // bytes
const AT_A_TIME = 4;
const ROUNDS = 8;
const LOOK_MS = 20;

async function marked() {
  const world = await World.make();
  const file = join(world.dir, 'scavenger');
  const sidecar = await world.sidecar(
    'greeter',
    { monitoring: { adapters: undefined }, crypto: { postQuantum: 'off' } },
    {
      nodeArgs: ['--expose-gc', '--import', SCAVENGER],
      env: { TEST_SCAVENGER_FILE: file, TEST_SCAVENGER_MARK: String(MARK) },
    },
  );
  const lines = async (): Promise<string[]> =>
    (await readFile(file, 'utf8').catch(() => '')).split('\n').slice(0, -1);
  /** Has the garbage collected. How many sockets a full collection has found that scavenges had left. */
  const collect = async (): Promise<number> => {
    const { length } = await lines();
    sidecar.signal('SIGUSR2');
    for (;;) {
      const { [length]: line } = await lines();
      if (line !== undefined) {
        const { young, full } = JSON.parse(line) as { young: number; full: number };
        return (young - full) / MARK;
      }
      await pause(LOOK_MS);
    }
  };
  return { world, sidecar, collect };
}

/** Lets connections come and go, some at a time; how many of them only a full collection has freed. */
async function keptOf(
  { collect }: Awaited<ReturnType<typeof marked>>,
  come: () => Promise<void>,
): Promise<number> {
  const go = async (rounds: number): Promise<void> => {
    for (let n = 0; n < rounds; n++) await come();
  };
  const all = (rounds: number) => Promise.all(Array.from({ length: AT_A_TIME }, () => go(rounds)));
  await all(2);
  await collect();
  await all(ROUNDS);
  return collect();
}

it('a session whose connection has ended leaves nothing that only a full collection finds', async () => {
  const all = await marked();
  const { world, sidecar } = all;
  const [host, port] = sidecar.ingress.split(':') as [string, string];
  const files = await world.identityFiles('web');
  const { identity, bundle } = await loadIdentity(
    { ...files, trustDomain: world.trust.trustDomain },
    systemClock,
  );
  const staticKey = new StaticKey(crypto, systemClock, 3_600_000);
  atEnd(() => staticKey.close());
  const expectedPeer = world.spiffeId('greeter');
  const kept = await keptOf(all, async () => {
    const channel = await dial({
      ...{ host, port: Number(port), identity, bundle, expectedPeer, staticKey, crypto },
      ...{ clock: systemClock, modes: [XX] },
    });
    const closed = new Promise<void>((resolve) => {
      const onClose = (): void => resolve();
      channel.onClose = onClose;
    });
    channel.onData = () => undefined;
    channel.close();
    await closed;
  });
  expect(kept).toBeLessThan((AT_A_TIME * ROUNDS) / 2);
});

it('nor does a stranger', async () => {
  const all = await marked();
  const [host, port] = all.sidecar.ingress.split(':') as [string, string];
  const kept = await keptOf(
    all,
    () =>
      new Promise((resolve) => {
        const socket = connect(Number(port), host);
        socket.on('error', () => undefined).on('close', () => resolve());
        socket.resume().end('GET / HTTP/1.1\r\n\r\n');
      }),
  );
  expect(kept).toBeLessThan((AT_A_TIME * ROUNDS) / 2);
});
