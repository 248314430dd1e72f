/**
 * Keeps a copy of the source's table, for days. What it has is in a file, the position with it, so that nothing is lost
 * and nothing comes twice, whatever ends: the stream, the session, the source, or this program.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CallError, SecureMesh } from 'hauberk';
import type { Change } from './change.ts';

const file = process.env.COPY ?? 'copy.json';
const address = process.env.SOURCE ?? '127.0.0.1:50053';
const MAX_PAUSE_MS = 30_000;

interface Copy {
  position: number;
  rows: Record<string, string>;
}

const copy: Copy = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { position: 0, rows: {} };

/** All or nothing: a new file takes the name of the old one. */
function save(): void {
  writeFileSync(`${file}.new`, JSON.stringify(copy));
  renameSync(`${file}.new`, file);
}

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stopping.abort());

// The certificate is renewed in time by itself (rotation), and sessions follow it: days are no matter.
await using mesh = await new SecureMesh({ serviceId: 'copy', services: { source: address } }).start();
const source = mesh.connect('source');
console.log(`copying from position ${copy.position}`);

for (let failures = 0; !stopping.signal.aborted; ) {
  try {
    const { signal } = stopping;
    for await (const { position, key, value } of source.serverStream<{ after: number }, Change>(
      'changes',
      { after: copy.position },
      { signal },
    )) {
      if (position !== copy.position + 1) throw new Error(`a gap: ${position} after ${copy.position}`);
      copy.rows[key] = value;
      copy.position = position;
      save();
      failures = 0;
    }
  } catch (error) {
    if (stopping.signal.aborted) break;
    if (!(error instanceof CallError)) throw error;
    console.log(`${error.status} at position ${copy.position}: asking again`);
  }
  // Full jitter, so that many copies do not come back at once.
  const pause = Math.random() * Math.min(MAX_PAUSE_MS, 100 * 2 ** failures++);
  await sleep(pause, undefined, { signal: stopping.signal }).catch(() => {});
}
console.log(`stopped at position ${copy.position}`);
