import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { Secrets } from '../harness/memorysearch.ts';
import type { ProtocolVectors } from '../transport/reference/vectors.ts';

/*
 * What is left of keys in a process's memory when their handshakes are over, their connections closed and their sessions
 * disposed of: with the native provider nothing.
 */

const HOLDER = fileURLToPath(new URL('../harness/keyholder.ts', import.meta.url));
const VECTORS = fileURLToPath(new URL('../vectors/hbk1.json', import.meta.url));

/** Every key that the process has or has had, by what it is. */
function secrets(): Secrets {
  const known = new Secrets();
  const { handshakes } = JSON.parse(readFileSync(VECTORS, 'utf8')) as ProtocolVectors;
  for (const { name, first, initiator, responder, ticket, records, ...keys } of handshakes) {
    if (first !== null) continue;
    const add = (what: string, hex: string): void =>
      known.addKey(`${name}: ${what}`, Buffer.from(hex, 'hex'));
    for (const [role, side] of [
      ['initiator', initiator],
      ['responder', responder],
    ] as const) {
      add(`${role}'s ephemeral key`, side.ephemeralPrivate);
    }
    if (ticket !== null) add('PSK', ticket.psk);
    add('exporter', keys.exporter);
    add('session key', keys.sessionKey);
    add('k1', keys.k1);
    add('k2', keys.k2);
    for (const { key, from } of records) {
      if (key !== keys.k1 && key !== keys.k2) add(`${from}'s second key`, key);
    }
  }
  return known;
}

let holder: ChildProcessByStdio<Writable, Readable, null> | undefined;
afterAll(async () => {
  if (holder === undefined || holder.exitCode !== null) return;
  holder.kill('SIGKILL');
  await once(holder, 'exit');
});

it('no ephemeral, traffic or session key, exporter or PSK is left in memory after disposal', async () => {
  holder = spawn(process.execPath, ['--expose-gc', '--import', 'tsx', HOLDER, 'native'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: holder.stdout })[Symbol.asyncIterator]();
  const pid = holder.pid as number;
  const wanted = secrets();
  expect((await lines.next()).value).toBe('holds');
  // The search finds what is there: live sessions and connections need these.
  expect(wanted.findIn(pid).map(({ secret }) => secret)).toEqual(
    expect.arrayContaining([
      'mode 0: session key',
      "mode 0: initiator's second key",
      "mode 2: responder's second key",
    ]),
  );
  holder.stdin.write('dispose\n');
  expect((await lines.next()).value).toBe('disposed');
  // The process has read the vectors, which are in hex.
  expect(wanted.findIn(pid).filter(({ form }) => !/hex/i.test(form))).toEqual([]);
  holder.stdin.end();
});
