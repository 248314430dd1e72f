import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { beforeAll, expect, it } from 'vitest';
import type { CallError } from '../../src/mesh/callerror.ts';
import { envelopeMethod } from '../harness/envelope-methods.ts';
import { type Caller, connected, type MeshScene, meshScene, SERVICE } from '../harness/meshscene.ts';

/* Many calls of a program's handlers at once: none is lost, and none that was left goes on. */

const live = { handlers: 0, made: 0 };
/** How often each number has come. */
const counted = new Map<number, number>();
let reasons: string[] = [];

let scene: MeshScene;
let callers: Caller[];
beforeAll(async () => {
  scene = await meshScene((server) => {
    server
      .handle('count', async ({ n }: { n: number }) => {
        counted.set(n, (counted.get(n) ?? 0) + 1);
        if (n % 3 === 0) await sleep(1);
        return { n };
      })
      .handleServerStream('ticks', async function* (_request, { signal }) {
        live.handlers++;
        try {
          for (;;) {
            live.made++;
            yield 'x'.repeat(100);
            await sleep(20, undefined, { signal });
          }
        } catch (error) {
          reasons.push((signal.reason as CallError | undefined)?.status ?? String(error));
          throw error;
        } finally {
          live.handlers--;
        }
      })
      .handleBidiStream('chat', async function* (messages) {
        live.handlers++;
        try {
          for await (const message of messages) yield message;
        } catch (error) {
          reasons.push((error as CallError).status);
          throw error;
        } finally {
          live.handlers--;
        }
      });
  });
  callers = [await scene.caller('web'), await scene.caller('shop')];
});

const method = (name: string) => envelopeMethod<unknown, { n: number }>(SERVICE, name);
const condition = async (met: () => boolean): Promise<void> => {
  while (!met()) await sleep(10);
};

it('of 10,000 calls, 400 at a time, each is answered once, with its own answer', async () => {
  const numbers = Array.from({ length: 10_000 }, (_, n) => n).values();
  let wrong = 0;
  const work = async (caller: Caller): Promise<void> => {
    for (const n of numbers) {
      const { code, message } = await caller.client.unary(method('count'), { n });
      if (code !== 0 || message?.n !== n) wrong++;
    }
  };
  await Promise.all(Array.from({ length: 400 }, (_, i) => work(callers[i % 2] as Caller)));
  expect(wrong).toBe(0);
  expect(counted.size).toBe(10_000);
  expect([...counted.values()].every((times) => times === 1)).toBe(true);
});

/** Opens `count` streams, half of each kind, and waits until all are served. */
async function open(count: number): Promise<Array<{ cancel(): void; ended: Promise<grpc.status> }>> {
  const streams = Array.from({ length: count }, (_, i) => {
    const { client } = callers[i % 2] as Caller;
    if (i % 4 < 2) {
      const { call, answer } = client.serverStream(method('ticks'), null);
      return { cancel: () => call.cancel(), ended: answer.then(({ code }) => code) };
    }
    const { call, answer } = client.bidi(method('chat'));
    call.write({ n: i });
    return { cancel: () => call.cancel(), ended: answer.then(({ code }) => code) };
  });
  await condition(() => live.handlers === count);
  return streams;
}

it('1,000 streams that are cancelled leave no generator', async () => {
  reasons = [];
  const streams = await open(1000);
  for (const [i, stream] of streams.entries()) {
    if (i % 50 === 0) await sleep(1);
    stream.cancel();
  }
  expect(new Set(await Promise.all(streams.map(({ ended }) => ended)))).toEqual(
    new Set([grpc.status.CANCELLED]),
  );
  // The sidecar tells a server of 800 cancelled calls at once, and of 30 a second then.
  await condition(() => live.handlers === 0);
  expect(new Set(reasons)).toEqual(new Set(['CANCELLED']));
  const { made } = live;
  await sleep(100);
  expect(live.made).toBe(made);
  expect(scene.errors).toEqual([]);
  expect(scene.server.mesh.getStats().calls.incoming.open).toBe(0);
});

it('a session that is cut takes the handlers of all its calls along at once', async () => {
  reasons = [];
  const streams = await open(1000);
  await scene.server.mesh.revocation.revoke({ all: true }, { reason: 'test' });
  await condition(() => live.handlers === 0);
  expect(new Set(await Promise.all(streams.map(({ ended }) => ended)))).toEqual(
    new Set([grpc.status.UNAVAILABLE]),
  );
  expect(new Set(reasons)).toEqual(new Set(['UNAVAILABLE']));
  expect(reasons).toHaveLength(1000);
  expect(scene.errors).toEqual([]);
});

it('the end takes the handlers along that are still there', async () => {
  await Promise.all(callers.map(connected));
  reasons = [];
  const streams = await open(100);
  await scene.server.cleanup(500);
  await condition(() => live.handlers === 0);
  expect(reasons).toHaveLength(100);
  expect(new Set(await Promise.all(streams.map(({ ended }) => ended)))).toEqual(
    new Set([grpc.status.UNAVAILABLE]),
  );
});
