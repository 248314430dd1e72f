import { expect, it } from 'vitest';
import type { Grant, WindowCounter } from '../../src/limit/counter.ts';
import { Lease } from '../../src/limit/lease.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const WINDOW = 1_000;

/** A counter far away: its answers come when the test says so. */
class SlowCounter implements WindowCounter {
  readonly block: number;
  readonly asked: number[] = [];
  #answers: Array<(grant: Grant) => void> = [];

  constructor(block: number) {
    this.block = block;
  }

  take(_key: string, points: number): Promise<Grant> {
    this.asked.push(points);
    return new Promise((resolve) => this.#answers.push(resolve));
  }

  forget(): void {}

  async answer(grant: Grant): Promise<void> {
    this.#answers.shift()!(grant);
    await settle();
  }
}

async function settle(): Promise<void> {
  for (let n = 0; n < 10; n++) await undefined;
}

function setUp(block = 8) {
  const clock = new FakeClock();
  const counter = new SlowCounter(block);
  const limit = { scope: 'peer', maxRequests: 100, windowMs: WINDOW } as const;
  const lease = new Lease('key', limit, counter, clock);
  const refill = async () => {
    const refilled = lease.refill();
    await settle();
    return refilled;
  };
  const points = () => {
    let count = 0;
    for (; lease.status(clock.monotonic()) === 'ready'; count++) lease.use();
    return count;
  };
  return { clock, counter, lease, refill, points };
}

it('what is left of one window is not carried into the next', async () => {
  const { clock, counter, lease, refill, points } = setUp();
  void refill();
  await settle();
  await counter.answer({ points: 8, left: 0, msLeft: WINDOW });
  clock.advance(WINDOW - 10);
  // Asked in the background near the end, answered for the window that began meanwhile.
  for (let n = 0; n < 6; n++) lease.use();
  await settle();
  await counter.answer({ points: 8, left: 0, msLeft: WINDOW });
  expect(points()).toBe(8);
});

it('an answer that comes after its window gives nothing', async () => {
  const { clock, counter, lease, refill, points } = setUp();
  void refill();
  await settle();
  clock.advance(WINDOW);
  await counter.answer({ points: 8, left: 0, msLeft: WINDOW - 1 });
  expect(lease.status(clock.monotonic())).toBe('empty');
  expect(points()).toBe(0);
});

it('answers about the same window add up', async () => {
  const { clock, counter, lease, refill, points } = setUp();
  void refill();
  await settle();
  await counter.answer({ points: 8, left: 0, msLeft: WINDOW });
  for (let n = 0; n < 6; n++) lease.use();
  await settle();
  clock.advance(100);
  await counter.answer({ points: 5, left: 0, msLeft: WINDOW - 90 });
  expect(points()).toBe(7);
  expect(lease.status(clock.monotonic())).toBe('spent');
  expect(counter.asked).toEqual([8, 8]);
});

it('those who wait together are one question', async () => {
  const { counter, lease, refill } = setUp(1);
  for (let n = 0; n < 30; n++) lease.join();
  void refill();
  void refill();
  await settle();
  expect(counter.asked).toEqual([30]);
});

it('a counter that fails is asked again by the next call, and its failure in the background harms nobody', async () => {
  const { clock, lease } = setUp();
  let grants = 1;
  const failing: WindowCounter = {
    block: 8,
    take: async () => {
      if (grants-- <= 0) throw new Error('bug');
      return { points: 8, left: 0, msLeft: WINDOW };
    },
    forget: () => {},
  };
  const broken = new Lease('key', lease.limit, failing, clock);
  await broken.refill();
  for (let n = 0; n < 8; n++) broken.use();
  await settle();
  expect(broken.status(clock.monotonic())).toBe('empty');
  await expect(broken.refill()).rejects.toThrowError('bug');
  await expect(broken.refill()).rejects.toThrowError('bug');
  clock.advance(WINDOW);
  expect(broken.isOver(clock.monotonic())).toBe(true);
});
