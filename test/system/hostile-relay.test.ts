import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
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
import { type Ledger, methodOf } from '../harness/ledger.ts';
import { Mulberry } from '../harness/seeded.ts';

const SEED = Number(process.env.HOSTILE_SEED ?? randomInt(2 ** 31));
const CALLS = 10_000;
const FAULT_COUNT = 200;
/** Callers of each service, each with one call at a time. */
const CALLERS = 12;
const OK = 0;

/** Makes calls that nobody else makes, until there have been enough, of them and of faults. */
class Callers {
  readonly calls = new Map<string, ClientCall>();
  readonly #app: Ledger;
  enough = false;
  #started = 0;

  constructor(app: Ledger) {
    this.#app = app;
  }

  async run(client: TestClient, service: string, random: Mulberry): Promise<void> {
    while (this.#started < CALLS || !this.enough) {
      const code = await this.one(client, `${service}-${this.#started++}`, random);
      // Not as fast as a dead connection says no.
      if (code !== OK) await pause(10);
    }
  }

  async one(client: TestClient, id: string, random: Mulberry): Promise<number> {
    const kind = 'unary';
    this.#app.expect(id, kind);
    const request = randomBytes(random.below(4) === 0 ? random.below(20_000) : random.below(100));
    const answer = await client.unary(methodOf(id, kind), request, { deadlineMs: 60_000 });
    const { code, messages: received } = answer;
    const details = `${answer.hauberkError ?? ''} ${answer.details}`;
    this.calls.set(id, { kind, sent: [request], halfClosed: true, code, details, received });
    return code;
  }
}

it(`of ${CALLS} calls through a wire with ${FAULT_COUNT} faults each happens once or is UNAVAILABLE`, async () => {
  console.info(`HOSTILE_SEED=${SEED}`);
  const random = new Mulberry(SEED);
  const pair = await startHostilePair(random);
  const { app, relay, clients, web, greeter } = pair;
  onTestFailed(() =>
    console.error(`failed with HOSTILE_SEED=${SEED}\n${web.log}\n${greeter.log}`.slice(-5000)),
  );
  const callers = new Callers(app);
  const running = clients.flatMap((client, i) =>
    Array.from({ length: CALLERS }, () =>
      callers.run(client, SERVICES[i] as string, new Mulberry(random.below(2 ** 31))),
    ),
  );
  const all = Promise.all(running);
  await inflict(
    relay,
    faultsInOrder(FAULT_COUNT, random),
    (n) => callers.calls.size >= (n * CALLS) / FAULT_COUNT,
  );
  callers.enough = true;
  await all;

  // The wire is sound again: every service answers, without a restart of anything.
  for (const [i, client] of clients.entries()) {
    let n = 0;
    const after = (): Promise<number> => callers.one(client, `${SERVICES[i]}-after-${n++}`, random);
    await expect.poll(after, { timeout: 30_000 }).toBe(OK);
  }
  const settled = await quiet(pair);
  expect(callers.calls.size).toBeGreaterThanOrEqual(CALLS + SERVICES.length);
  const { wrong, answered, unavailable, unheard } = await balanceOf(pair, callers.calls);
  expect(wrong).toEqual([]);
  expect(await wrongConnections(pair)).toEqual([]);
  expect(settled).toBe(true);

  // It did happen.
  expect(Object.values(relay.done)).toEqual(Object.values(relay.done).map(() => FAULT_COUNT / 10));
  expect(answered).toBeGreaterThan(CALLS / 2);
  expect(unavailable).toBeGreaterThan(FAULT_COUNT / 2);
  expect(unheard).toBeGreaterThan(0);
  console.info(
    `${answered} answered, ${unavailable} UNAVAILABLE (${unheard} of them answered by the app), ${relay.links.length} connections`,
  );
});
