/**
 * The source of a table that others keep a copy of. A copy asks for everything after the last change that it has, and
 * then hears of each new one, for days: whenever the stream ends, it asks again from where it was.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SecureMeshServer } from 'hauberk';
import type { Change } from './change.ts';

const file = process.env.CHANGES ?? 'changes.jsonl';
const changes: Change[] = existsSync(file)
  ? readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
  : [];
const followers = new Set<() => void>();

function append(key: string, value: string): void {
  const change = { position: changes.length + 1, key, value };
  appendFileSync(file, `${JSON.stringify(change)}\n`);
  changes.push(change);
  for (const wake of followers) wake();
}

const server = new SecureMeshServer({
  serviceId: 'source',
  allow: [{ peer: 'copy', methods: ['changes'] }],
  // The stream keeps its session in use. A week is the longest that it lives; its successor is there before it ends.
  security: { sessionTimeout: '1d', absoluteLifetime: '7d' },
});

server.handleServerStream<{ after: number }, Change>('changes', async function* ({ after }, { signal }) {
  let wake = (): void => {};
  const follower = (): void => wake();
  followers.add(follower);
  signal.addEventListener('abort', follower);
  try {
    for (let next = after; !signal.aborted; ) {
      const change = changes[next];
      if (change === undefined) await new Promise<void>((resolve) => (wake = resolve));
      else {
        yield change;
        next = change.position;
      }
    }
  } finally {
    followers.delete(follower);
  }
});

const port = await server.start(Number(process.env.PORT ?? 50053));
console.log(`the source listens on port ${port}`);

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    stopping.abort();
    void server.cleanup(1000);
  });
}

// Something changes all the time.
const every = Number(process.env.EVERY_MS ?? 1000);
while (!stopping.signal.aborted) {
  append(`item-${changes.length % 10}`, `value ${changes.length + 1}`);
  await sleep(every, undefined, { signal: stopping.signal }).catch(() => {});
}
