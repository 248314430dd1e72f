import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LimitError } from '../../src/limit/errors.ts';
import { RateLimiter, type RateLimiterOptions } from '../../src/limit/ratelimiter.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const MINUTE = 60_000;

function setUp(more: Partial<RateLimiterOptions> = {}): { limiter: RateLimiter; clock: FakeClock } {
  const clock = new FakeClock();
  return { clock, limiter: new RateLimiter({ maxRequests: 3, windowMs: MINUTE, clock, ...more }) };
}

async function allowed(limiter: RateLimiter, requests: number, key = 'a', cost = 1): Promise<number> {
  const results = await Promise.all(Array.from({ length: requests }, () => limiter.consume(key, cost)));
  return results.filter((result) => result.allowed).length;
}

it.each([1, 2, 100, 1_024, 5_000])(
  'a limit of %d allows so many requests a window, at once and again',
  async (max) => {
    const { limiter, clock } = setUp({ maxRequests: max });
    expect(await allowed(limiter, max + 50)).toBe(max);
    clock.advance(MINUTE - 1);
    expect(await allowed(limiter, 10)).toBe(0);
    clock.advance(1);
    expect(await allowed(limiter, max + 50)).toBe(max);
  },
);

it('an answer tells what is left, until when, and when to come again', async () => {
  const { limiter, clock } = setUp();
  const fixed = { limit: 3, windowMs: MINUTE };
  expect(await limiter.peek('a')).toEqual({
    allowed: true,
    remaining: 3,
    retryAfterMs: 0,
    resetMs: 0,
    ...fixed,
  });
  expect(await limiter.consume('a', 2)).toEqual({
    allowed: true,
    remaining: 1,
    retryAfterMs: 0,
    resetMs: MINUTE,
    ...fixed,
  });
  clock.advance(20_000.5);
  expect(await limiter.consume('a', 2)).toEqual({
    allowed: false,
    remaining: 1,
    retryAfterMs: 40_000,
    resetMs: 40_000,
    ...fixed,
  });
  expect(await limiter.consume('a')).toMatchObject({ allowed: true, remaining: 0 });
  expect(await limiter.peek('a')).toMatchObject({ allowed: false, remaining: 0, retryAfterMs: 40_000 });
  expect(await limiter.peek('b')).toMatchObject({ allowed: true, remaining: 3 });
});

it('a request that is denied uses nothing up, and peek never does', async () => {
  const { limiter } = setUp({ maxRequests: 10 });
  expect(await allowed(limiter, 1, 'a', 8)).toBe(1);
  expect(await allowed(limiter, 20, 'a', 3)).toBe(0);
  for (let n = 0; n < 20; n++) await limiter.peek('a');
  expect(await allowed(limiter, 5, 'a', 1)).toBe(2);
});

it('a reset begins anew, for one key', async () => {
  const { limiter } = setUp();
  await allowed(limiter, 3, 'a');
  await allowed(limiter, 3, 'b');
  await limiter.reset('a');
  expect([await allowed(limiter, 5, 'a'), await allowed(limiter, 5, 'b')]).toEqual([3, 0]);
});

it('is what a plain model says, whatever is asked when', async () => {
  const step = fc.record({
    key: fc.constantFrom('a', 'b'),
    cost: fc.integer({ min: 1, max: 5 }),
    wait: fc.nat(400),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { limiter, clock } = setUp({ maxRequests: 5, windowMs: 1_000 });
      const model = new Map<string, { since: number; used: number }>();
      for (const { key, cost, wait } of steps) {
        clock.advance(wait);
        let window = model.get(key);
        if (window === undefined || clock.monotonic() - window.since >= 1_000) {
          window = { since: clock.monotonic(), used: 0 };
          model.set(key, window);
        }
        const fits = window.used + cost <= 5;
        if (fits) window.used += cost;
        expect(await limiter.consume(key, cost)).toMatchObject({ allowed: fits, remaining: 5 - window.used });
      }
    }),
  );
});

describe('keys', () => {
  it('beyond maxKeys are denied until a window has ended; those that are followed go on', async () => {
    const { limiter, clock } = setUp({ maxKeys: 2 });
    await allowed(limiter, 1, 'a');
    clock.advance(1_000);
    await allowed(limiter, 1, 'b');
    expect(await limiter.consume('c')).toMatchObject({ allowed: false, retryAfterMs: MINUTE });
    expect(await limiter.peek('c')).toMatchObject({ allowed: true });
    expect(await allowed(limiter, 1, 'a')).toBe(1);
    clock.advance(MINUTE - 1_000);
    expect(await allowed(limiter, 1, 'c')).toBe(1);
    expect(await allowed(limiter, 1, 'd')).toBe(0);
  });

  it('whose windows have ended are forgotten by one timer, which the end clears', async () => {
    const { limiter, clock } = setUp({ maxKeys: 1_000 });
    expect(clock.pending).toBe(0);
    for (let n = 0; n < 1_000; n++) await limiter.consume(`key ${n}`);
    expect(clock.pending).toBe(1);
    expect(await allowed(limiter, 1, 'one more')).toBe(0);
    clock.advance(2 * MINUTE);
    expect(await allowed(limiter, 1, 'one more')).toBe(1);
    await limiter.close();
    expect(clock.pending).toBe(0);
  });

  it.each([[''], ['x'.repeat(2_049)], [undefined], [7], [{}]])(
    'that are none are refused: %j',
    async (key) => {
      const { limiter } = setUp();
      for (const ask of [
        limiter.consume(key as string),
        limiter.peek(key as string),
        limiter.reset(key as string),
      ]) {
        await expect(ask).rejects.toThrowError(
          expect.objectContaining({ code: 'bad-request', message: expect.stringContaining('1 to 2048') }),
        );
      }
    },
  );

  it('of the greatest length, and named as in every object, count', async () => {
    const { limiter } = setUp();
    for (const key of ['x'.repeat(2_048), '__proto__', 'constructor']) {
      expect(await allowed(limiter, 5, key)).toBe(3);
    }
  });
});

it.each([0, -1, 1.5, 4, Number.NaN, '1'])('a cost of %s is refused', async (cost) => {
  const { limiter } = setUp();
  await expect(limiter.consume('a', cost as number)).rejects.toThrowError(
    expect.objectContaining({ code: 'bad-request', message: expect.stringContaining('1 to 3') }),
  );
  expect(await limiter.peek('a')).toMatchObject({ remaining: 3 });
});

it.each<[string, Record<string, unknown>, string]>([
  ['no requests', { maxRequests: 0 }, 'maxRequests'],
  ['half a request', { maxRequests: 1.5 }, 'maxRequests'],
  ['requests as text', { maxRequests: '100' }, 'maxRequests must be a whole number from 1 on, not a string'],
  [
    'no window',
    { windowMs: undefined },
    'windowMs must be a number of milliseconds from 100 to 24 days, not undefined',
  ],
  ['a window too short', { windowMs: 99 }, 'windowMs'],
  ['a window too long', { windowMs: 2 ** 31 }, 'windowMs'],
  ['a window too short for Redis', { windowMs: 999, redis: 'redis://127.0.0.1' }, '1000 (with redis)'],
  ['no key at all', { maxKeys: 0 }, 'maxKeys'],
  ['an empty prefix', { keyPrefix: '' }, 'keyPrefix'],
  [
    'a Redis deadline beyond half a window',
    { redis: 'redis://127.0.0.1', redisTimeoutMs: 30_001 },
    'redisTimeoutMs',
  ],
  ['a Redis deadline of nothing', { redis: 'redis://127.0.0.1', redisTimeoutMs: 0 }, 'redisTimeoutMs'],
])('%s cannot be made', (_what, options, says) => {
  expect(() => setUp(options)).toThrowError(
    expect.objectContaining({ code: 'bad-limit', message: expect.stringContaining(says) }),
  );
});

it('a limiter without options says what is missing', () => {
  const make = RateLimiter as unknown as new () => RateLimiter;
  expect(() => new make()).toThrowError(
    expect.objectContaining({ code: 'bad-limit', message: expect.stringContaining('maxRequests') }),
  );
});

it.each(['cache.example', 'http://:hunter2@cache.example', 'redis://:hunter2@'])(
  'what is not a Redis address is refused at once, without repeating it: %s',
  (redis) => {
    try {
      setUp({ redis });
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(LimitError);
      expect(error).toMatchObject({
        code: 'bad-store-url',
        message: expect.stringMatching(/^The option redis/),
      });
      expect(inspect(error, { depth: 9, showHidden: true }).split('\n    at ')[0]).not.toContain('hunter2');
    }
  },
);

it('once closed says so, however often it is closed', async () => {
  const limiter = await (async () => {
    await using inner = setUp().limiter;
    await inner.consume('a');
    return inner;
  })();
  for (const ask of [limiter.consume('a'), limiter.peek('a'), limiter.reset('a')]) {
    await expect(ask).rejects.toThrowError(expect.objectContaining({ name: 'LimitError', code: 'closed' }));
  }
  await limiter.close();
});

it('answers in the turn in which it is asked', async () => {
  const { limiter } = setUp();
  let answered = false;
  void limiter.consume('a').then(() => {
    answered = true;
  });
  await Promise.resolve();
  await Promise.resolve();
  expect(answered).toBe(true);
});
