import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import type { ClientWritableStream } from '@grpc/grpc-js';
import { expect, it, onTestFailed } from 'vitest';
import type { ClientCall } from '../harness/accounts.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import {
  balanceOf,
  faultsInOrder,
  inflict,
  quiet,
  SERVICES,
  startHostilePair,
  wrongConnections,
} from '../harness/hostilepair.ts';
import { type CallKind, type Ledger, methodOf, numbered, order } from '../harness/ledger.ts';
import { Mulberry } from '../harness/seeded.ts';

const SEED = Number(process.env.HOSTILE_SEED ?? randomInt(2 ** 31));
const STREAMS = 1_500;
const FAULT_COUNT = 100;
/** Callers of each service, each with one stream at a time. */
const CALLERS = 12;
const KINDS = ['client-stream', 'server-stream', 'bidi'] as const;
const MAX_MESSAGES = 40;
const MAX_SIZE = 3_000; // octets; some messages have ten times that
const MAX_PAUSE_MS = 8;
const OK = 0;

/** Opens streams that nobody else opens, until there have been enough, of them and of faults. */
class Streamers {
  readonly calls = new Map<string, ClientCall>();
  readonly #app: Ledger;
  enough = false;
  #started = 0;

  constructor(app: Ledger) {
    this.#app = app;
  }

  async run(client: TestClient, service: string, random: Mulberry): Promise<void> {
    while (this.#started < STREAMS || !this.enough) {
      const code = await this.one(client, `${service}-${this.#started++}`, random.pick(KINDS), random);
      if (code !== OK) await pause(10);
    }
  }

  async one(client: TestClient, id: string, kind: CallKind, random: Mulberry): Promise<number> {
    this.#app.expect(id, kind);
    const method = methodOf(id, kind);
    const options = { deadlineMs: 60_000 };
    const count = random.below(MAX_MESSAGES);
    const size = random.below(random.below(8) === 0 ? 10 * MAX_SIZE : MAX_SIZE);
    const pauseMs = random.below(MAX_PAUSE_MS);
    const sent: Buffer[] = [];
    if (kind === 'server-stream') {
      sent.push(order({ count, size, pauseMs }));
      const { answer } = client.serverStream(method, sent[0] as Buffer, options);
      return this.#note(id, kind, sent, true, await answer);
    }
    const { call, answer } =
      kind === 'bidi' ? client.bidi(method, options) : client.clientStream(method, options);
    const halfClosed = await write(call, sent, count, size, pauseMs);
    return this.#note(id, kind, sent, halfClosed, await answer);
  }

  #note(
    id: string,
    kind: CallKind,
    sent: readonly Buffer[],
    halfClosed: boolean,
    answer: Awaited<ReturnType<TestClient['serverStream']>['answer']>,
  ): number {
    const { code, hauberkError = '', details, messages } = answer;
    const received = messages as readonly Buffer[];
    this.calls.set(id, { kind, sent, halfClosed, code, details: `${hauberkError} ${details}`, received });
    return code;
  }
}

/** Writes a stream's messages, one after the other; true if it came to its end. */
async function write(
  call: Pick<ClientWritableStream<Buffer>, 'write' | 'end' | 'once'>,
  sent: Buffer[],
  count: number,
  size: number,
  pauseMs: number,
): Promise<boolean> {
  let over = false;
  const end = new Promise<void>((resolve) =>
    call.once('status', () => {
      over = true;
      resolve();
    }),
  );
  for (let i = 0; i < count && !over; i++) {
    const message = numbered(i, size);
    sent.push(message);
    if (!call.write(message)) await Promise.race([once(call as never, 'drain'), end]);
    if (pauseMs > 0) await pause(pauseMs);
  }
  if (over) return false;
  call.end();
  return true;
}

it(`of ${STREAMS} streams through a wire with ${FAULT_COUNT} faults each happens once, or is UNAVAILABLE after a beginning`, async () => {
  console.info(`HOSTILE_SEED=${SEED}`);
  const random = new Mulberry(SEED);
  const pair = await startHostilePair(random);
  const { app, relay, clients, web, greeter } = pair;
  onTestFailed(() =>
    console.error(`failed with HOSTILE_SEED=${SEED}\n${web.log}\n${greeter.log}`.slice(-5000)),
  );
  const streamers = new Streamers(app);
  const all = Promise.all(
    clients.flatMap((client, i) =>
      Array.from({ length: CALLERS }, () =>
        streamers.run(client, SERVICES[i] as string, new Mulberry(random.below(2 ** 31))),
      ),
    ),
  );
  await inflict(
    relay,
    faultsInOrder(FAULT_COUNT, random),
    (n) => streamers.calls.size >= (n * STREAMS) / FAULT_COUNT,
  );
  streamers.enough = true;
  await all;

  for (const [i, client] of clients.entries()) {
    for (const kind of KINDS) {
      let n = 0;
      const after = (): Promise<number> =>
        streamers.one(client, `${SERVICES[i]}-${kind}-after-${n++}`, kind, random);
      await expect.poll(after, { timeout: 30_000 }).toBe(OK);
    }
  }
  const settled = await quiet(pair);
  const { wrong, answered, unavailable } = await balanceOf(pair, streamers.calls);
  expect(wrong).toEqual([]);
  expect(await wrongConnections(pair)).toEqual([]);
  expect(settled).toBe(true);

  // It did happen.
  expect(Object.values(relay.done)).toEqual(Object.values(relay.done).map(() => FAULT_COUNT / 10));
  expect(answered).toBeGreaterThan(STREAMS / 2);
  const begun = [...streamers.calls].filter(([id, { code }]) => code !== OK && app.of(id) !== undefined);
  expect(begun.filter(([, { sent }]) => sent.length > 1).length).toBeGreaterThan(0);
  expect(begun.filter(([, { received }]) => received.length > 0).length).toBeGreaterThan(0);
  console.info(
    `${answered} whole, ${unavailable} UNAVAILABLE (${begun.length} of them begun at the app), ${relay.links.length} connections`,
  );
});
