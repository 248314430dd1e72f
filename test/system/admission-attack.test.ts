import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Admission, type HalfOpen } from '../../src/transport/admission.ts';
import { DEFAULT_HANDSHAKE_LIMITS } from '../../src/transport/limits.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { Bench, gone } from '../transport/wire.ts';
import { makePair } from '../transport/world.ts';

// Whoever owns many addresses and wants nobody else to get in, against Admission, on a clock of the test's. What a
// connection may do is the driver's affair; here it is: a message waits for its turn, of which there is one a millisecond,
// the other end has half a second for each of its own, from the beginning.

const TICK_MS = 10;
const STEPS_A_TICK = 10;
const ANSWER_MS = 500;
const ROUND_TRIP_MS = 60;
const { timeoutMs } = DEFAULT_HANDSHAKE_LIMITS;

/** What an attacker's connection does, as a list of its messages: what they cost and what comes after. */
interface Plan {
  /** Whole messages that are worked on, each when the one before has been answered. */
  readonly messages: number;
  /** The last of them is garbage: the handshake fails at once. */
  readonly garbage?: boolean;
  /** It sends octets now and then that make no message: such a handshake is not busy. */
  readonly dribbles?: boolean;
  /** It goes by itself so long after its last answer. */
  readonly leavesAfterMs?: number;
}

const PLANS: Readonly<Record<string, Plan>> = {
  'say nothing': { messages: 0 },
  'send an octet now and then': { messages: 0, dribbles: true },
  'send a message 1 and fall silent': { messages: 1 },
  'send a message 1 and go just before they would have to': {
    messages: 1,
    leavesAfterMs: ANSWER_MS - TICK_MS,
  },
  'send a message 1 and then octets': { messages: 1, dribbles: true },
  'send a message 1 that is none': { messages: 1, garbage: true },
  'send a message 1 and then garbage': { messages: 2, garbage: true },
  'let themselves be sent RETRY, go on, and fall silent': { messages: 2 },
};

class Handshake implements HalfOpen {
  readonly address: string;
  readonly plan: Plan | undefined;
  readonly began: number;
  readonly #clock: FakeClock;
  queued = false;
  answered = 0;
  answeredAt = Number.NEGATIVE_INFINITY;
  over: 'evicted' | 'done' | 'failed' | undefined;

  constructor(clock: FakeClock, address: string, plan: Plan | undefined) {
    this.#clock = clock;
    this.address = address;
    this.plan = plan;
    this.began = clock.monotonic();
  }

  get busy(): boolean {
    if (this.plan?.dribbles === true && this.answered === this.plan.messages) return false;
    return this.queued || this.#clock.monotonic() - Math.max(this.began, this.answeredAt) < ANSWER_MS;
  }

  evict(): void {
    this.over = 'evicted';
  }
}

/** The mesh port, and all that come to it. */
class Port {
  readonly clock = new FakeClock();
  readonly admission = new Admission(DEFAULT_HANDSHAKE_LIMITS, this.clock);
  readonly #live = new Set<Handshake>();
  #turnstile: Handshake[] = [];

  connect(address: string, plan?: Plan): Handshake | undefined {
    if (!this.admission.take(address)) return undefined;
    const handshake = new Handshake(this.clock, address, plan);
    if (!this.admission.enter(handshake)) return undefined;
    this.#live.add(handshake);
    if (plan?.messages !== 0) this.#send(handshake);
    return handshake;
  }

  #send(handshake: Handshake): void {
    handshake.queued = true;
    this.#turnstile.push(handshake);
  }

  #end(handshake: Handshake, how: 'done' | 'failed'): void {
    handshake.over = how;
    this.admission.leave(handshake, how === 'failed');
  }

  #step(handshake: Handshake): void {
    const { plan } = handshake;
    handshake.queued = false;
    handshake.answered++;
    handshake.answeredAt = this.clock.monotonic();
    if (plan === undefined && handshake.answered === 2) this.#end(handshake, 'done');
    else if (plan?.garbage === true && handshake.answered === plan.messages) this.#end(handshake, 'failed');
  }

  tick(): void {
    this.clock.advance(TICK_MS);
    const now = this.clock.monotonic();
    this.#turnstile = this.#turnstile.filter(({ over }) => over === undefined);
    for (const handshake of this.#turnstile.splice(0, STEPS_A_TICK)) this.#step(handshake);
    for (const handshake of this.#live) {
      const { plan, over, queued, answered, answeredAt, began } = handshake;
      if (over !== undefined) this.#live.delete(handshake);
      else if (
        now - began >= timeoutMs ||
        (answered > 0 && now - answeredAt >= (plan?.leavesAfterMs ?? timeoutMs))
      )
        this.#end(handshake, 'failed');
      else if (
        !queued &&
        answered > 0 &&
        answered < (plan?.messages ?? 2) &&
        now - answeredAt >= ROUND_TRIP_MS
      )
        this.#send(handshake);
    }
  }
}

/** Somebody new, who tries again after a pause as a sidecar does; how long it takes him to be connected. */
class Newcomer {
  readonly began: number;
  readonly #port: Port;
  readonly #address: string;
  #handshake: Handshake | undefined;
  #pause = 100; // the mean of what is drawn from [0, 200 ms)
  #nextAt: number;
  doneAfter: number | undefined;

  constructor(port: Port, address: string) {
    this.#port = port;
    this.#address = address;
    this.began = port.clock.monotonic();
    this.#nextAt = this.began;
  }

  tick(): void {
    const now = this.#port.clock.monotonic();
    if (this.doneAfter !== undefined || now < this.#nextAt) return;
    if (this.#handshake === undefined) this.#handshake = this.#port.connect(this.#address);
    if (this.#handshake?.over === 'done') this.doneAfter = now - this.began;
    else if (this.#handshake === undefined || this.#handshake.over !== undefined) {
      this.#handshake = undefined;
      this.#nextAt = now + this.#pause;
      this.#pause = Math.min(2 * this.#pause, 5_000);
    }
  }
}

/** So often the rate of an address lets it come. */
const COMES_EVERY_MS = 20;

/** What newcomers, one every 200 ms, need, while others keep as many connections as they can. */
function underAttack(addresses: number, each: number, plan: Plan): number[] {
  const port = new Port();
  const held = Array.from({ length: addresses }, () =>
    new Array<Handshake | undefined>(each).fill(undefined),
  );
  const newcomers: Newcomer[] = [];
  for (let ms = 0; ms < 5_000; ms += TICK_MS) {
    for (const [i, mine] of ms % COMES_EVERY_MS === 0 ? held.entries() : []) {
      for (const [j, handshake] of mine.entries()) {
        if (handshake === undefined || handshake.over !== undefined)
          mine[j] = port.connect(`10.66.${i >> 8}.${i & 255}`, plan);
      }
    }
    if (ms >= 1_000 && ms < 3_000 && ms % 200 === 0)
      newcomers.push(new Newcomer(port, `10.1.0.${newcomers.length}`));
    for (const newcomer of newcomers) newcomer.tick();
    port.tick();
  }
  return newcomers.map(({ doneAfter }) => doneAfter ?? Number.POSITIVE_INFINITY);
}

const MANY = [
  [16, 16],
  [256, 1],
  [1_000, 1],
] as const;

describe.each(MANY)('%i addresses with %i connections each', (addresses, each) => {
  it.each(Object.entries(PLANS))('that %s keep nobody out', (_what, plan) => {
    const took = underAttack(addresses, each, plan);
    expect(took).toHaveLength(10);
    // Two messages wait for their turns behind all others', once or twice.
    expect(Math.max(...took)).toBeLessThan(2_000);
  });
});

it('the mesh port lets a newcomer in when others keep all places busy that they have wasted before', async () => {
  const handshake = { maxHalfOpen: 8, maxHalfOpenPerAddress: 2 };
  const bench = await Bench.open({ limits: { handshake } });
  onTestFinished(() => bench.close());
  const { initiator } = await makePair();
  const opening = initiator().start();
  const attack = async (address: string): Promise<Socket> => {
    const socket = connect({ port: bench.port, host: '127.0.0.1', localAddress: address });
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write(opening);
    await once(socket, 'data'); // answered: busy
    return socket;
  };
  const all = async (): Promise<Socket[]> => {
    const sockets: Socket[] = [];
    for (let i = 0; i < 8; i++) sockets.push(await attack(`127.66.0.${1 + (i >> 1)}`));
    return sockets;
  };
  await all();
  expect(bench.acceptor.halfOpen).toBe(8);
  // One connection of each has no more than its share: nobody gives way yet.
  await expect(bench.dial()).rejects.toThrow();
  expect(await bench.refusals.next()).toMatchObject({ reason: 'overloaded', remoteAddress: '127.0.0.1' });
  bench.clock.advance(501);
  const second = await all(); // in the places of the first
  for (let i = 0; i < 8; i++) expect((await bench.refusals.next()).reason).toBe('half-open-evicted');
  const { server } = await bench.connect();
  expect(server.channel.peer.spiffeId).toBe(bench.web.spiffeId);
  expect(await bench.refusals.next()).toMatchObject({
    reason: 'half-open-evicted',
    remoteAddress: '127.66.0.1',
  });
  await gone(second[0] as Socket);
  expect(bench.acceptor.halfOpen).toBe(7);
});
