import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import type { ProtocolVectors } from '../transport/reference/vectors.ts';

/*
 * What is left of keys in a process's memory when their handshakes are over, their connections closed and their sessions
 * disposed of: with the native provider nothing.
 */

const HOLDER = fileURLToPath(new URL('../harness/keyholder.ts', import.meta.url));
const VECTORS = fileURLToPath(new URL('../vectors/hbk1.json', import.meta.url));
const KEY_LENGTH = 32;
const WINDOW = 4 * 1024 * 1024;

/** Every key that the process has or has had, by what it is. */
function secrets(): Map<string, Buffer> {
  const known = new Map<string, Buffer>();
  const { handshakes } = JSON.parse(readFileSync(VECTORS, 'utf8')) as ProtocolVectors;
  for (const { name, first, initiator, responder, ticket, records, ...keys } of handshakes) {
    if (first !== null) continue;
    const add = (what: string, hex: string): void =>
      void known.set(`${name}: ${what}`, Buffer.from(hex, 'hex'));
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

/** The names of those that are in the writable memory of a process. */
function search(pid: number, wanted: Map<string, Buffer>): string[] {
  const found = new Set<string>();
  const window = Buffer.alloc(WINDOW + KEY_LENGTH);
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from === undefined || to === undefined) continue;
      const end = Number.parseInt(to, 16);
      for (let at = Number.parseInt(from, 16); at < end; at += WINDOW) {
        const here = window.subarray(0, readAt(memory, window, at, end));
        for (const [name, key] of wanted) if (here.includes(key)) found.add(name);
      }
    }
  } finally {
    closeSync(memory);
  }
  return [...found];
}

/** How much of `window` could be filled; the process may have given the mapping back meanwhile. */
function readAt(memory: number, window: Buffer, at: number, end: number): number {
  try {
    return readSync(memory, window, 0, Math.min(window.length, end - at), at);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EIO') return 0;
    throw cause;
  }
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
  expect(search(pid, wanted)).toEqual(
    expect.arrayContaining([
      'mode 0: session key',
      "mode 0: initiator's second key",
      "mode 2: responder's second key",
    ]),
  );
  holder.stdin.write('dispose\n');
  expect((await lines.next()).value).toBe('disposed');
  expect(search(pid, wanted)).toEqual([]);
  holder.stdin.end();
});
