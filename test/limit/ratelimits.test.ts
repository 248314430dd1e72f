import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import type { LimitConfig } from '../../src/config/config.ts';
import { openRateLimits, RateLimits, type RateLimitsOptions } from '../../src/limit/ratelimits.ts';
import { ALLOWED, type Verdict } from '../../src/limit/verdict.ts';

const WEB = 'spiffe://shop.example/ns/shop/sa/web';
const MINUTE = 60_000;

// rate-limiter-flexible goes by the global Date and timers, so these are what stands still here.
beforeEach(() => {
  vi.useFakeTimers({
    toFake: ['Date', 'performance', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'],
  });
});
afterEach(() => {
  vi.useRealTimers();
});

const limit = (scope: LimitConfig['scope'], maxRequests: number, windowMs = MINUTE): LimitConfig => ({
  scope,
  maxRequests,
  windowMs,
});
const setUp = (limits: LimitConfig[], more: Partial<RateLimitsOptions> = {}) =>
  new RateLimits({ limits, clock: systemClock, ...more });

async function admitted(limits: RateLimits, calls: number, session = 's', peer = WEB): Promise<number> {
  let count = 0;
  for (let n = 0; n < calls; n++) if ((await limits.admit(session, peer)).allowed) count++;
  return count;
}

describe('a limit', () => {
  it.each([1, 2, 15, 16, 17, 63, 64, 65, 128, 1_000])(
    'of %d allows so many calls a window, no more, no fewer',
    async (max) => {
      const limits = setUp([limit('session', max)]);
      expect(await admitted(limits, max + 100)).toBe(max);
      vi.advanceTimersByTime(MINUTE - 1);
      expect(await admitted(limits, 10)).toBe(0);
      vi.advanceTimersByTime(1);
      expect(await admitted(limits, max + 100)).toBe(max);
      limits.close();
    },
  );

  it('that is crossed says which it was and how long it lasts', async () => {
    const limits = setUp([limit('session', 2)]);
    await admitted(limits, 1);
    vi.advanceTimersByTime(20_000);
    await admitted(limits, 1);
    expect(await limits.admit('s', WEB)).toEqual({
      allowed: false,
      scope: 'session',
      limit: 2,
      windowMs: MINUTE,
      retryAfterMs: 40_000,
    });
    limits.close();
  });

  it('says what is left of it, which each call takes one of, until its window ends', async () => {
    const limits = setUp([limit('peer', 2_000), limit('session', 3)]);
    const ofSession = { scope: 'session', maxRequests: 3, windowMs: MINUTE };
    const ofPeer = { scope: 'peer', maxRequests: 2_000, windowMs: MINUTE };
    expect(limits.status('s', WEB)).toEqual([
      { ...ofSession, remaining: 3, resetMs: 0 },
      { ...ofPeer, remaining: 2_000, resetMs: 0 },
    ]);
    expect(limits.stats()).toEqual({ sessions: 0, peers: 0 });
    await admitted(limits, 1);
    vi.advanceTimersByTime(10_000);
    await admitted(limits, 1);
    expect(limits.status('s', WEB)).toEqual([
      { ...ofSession, remaining: 1, resetMs: 50_000 },
      { ...ofPeer, remaining: 1_998, resetMs: 50_000 },
    ]);
    await admitted(limits, 10);
    expect(limits.status('s', WEB).map(({ remaining }) => remaining)).toEqual([0, 1_997]);
    // More than what is fetched of a limit at once.
    await admitted(limits, 1_500, 'other');
    for (let n = 0; n < 500; n++) await admitted(limits, 3, `s${n}`);
    expect(limits.status('s', WEB)[1]?.remaining).toBe(1_997 - 3 - 1_500);
    vi.advanceTimersByTime(50_000);
    expect(limits.status('s', WEB).map(({ remaining, resetMs }) => [remaining, resetMs])).toEqual([
      [3, 0],
      [2_000, 0],
    ]);
    limits.close();
  });

  it('holds the calls that arrive together, too', async () => {
    const limits = setUp([limit('session', 100), limit('peer', 150)]);
    const verdicts = await Promise.all(Array.from({ length: 300 }, (_, n) => limits.admit(`s${n % 3}`, WEB)));
    expect(verdicts.filter((verdict) => verdict.allowed)).toHaveLength(150);
    limits.close();
  });

  it('of a session ends with it, of a peer does not: ten fresh handshakes gain nothing', async () => {
    const limits = setUp([limit('session', 10), limit('peer', 25)]);
    let count = 0;
    for (let handshake = 0; handshake < 10; handshake++) {
      count += await admitted(limits, 20, `session ${handshake}`);
      limits.release(`session ${handshake}`);
    }
    expect(count).toBe(25);
    expect(limits.stats()).toEqual({ sessions: 0, peers: 1 });
    expect(await admitted(limits, 20, 'another', `${WEB}2`)).toBe(10);
    limits.close();
  });

  it('counts a call nowhere if another limit denies it', async () => {
    const limits = setUp([limit('session', 3), limit('peer', 10)]);
    expect(await admitted(limits, 50, 'a')).toBe(3);
    expect(await admitted(limits, 3, 'b')).toBe(3);
    expect(await admitted(limits, 50, 'c')).toBe(3);
    expect(await admitted(limits, 50, 'd')).toBe(1);
    expect(await limits.admit('d', WEB)).toMatchObject({ scope: 'peer' });
    vi.advanceTimersByTime(MINUTE);
    expect(await admitted(limits, 50, 'd')).toBe(3);
    limits.close();
  });

  it('may have others of its scope; the one that lasts longest is named', async () => {
    const limits = setUp([limit('peer', 2, 1_000), limit('peer', 3, MINUTE), limit('session', 3, 2_000)]);
    expect(await admitted(limits, 5)).toBe(2);
    expect(await limits.admit('s', WEB)).toMatchObject({ limit: 2, retryAfterMs: 1_000 });
    vi.advanceTimersByTime(1_000);
    expect(await admitted(limits, 5)).toBe(1);
    expect(await limits.admit('s', WEB)).toMatchObject({ scope: 'peer', limit: 3, retryAfterMs: 59_000 });
    limits.close();
  });
});

it('nearly every call is answered at once, by the same object', async () => {
  const limits = setUp([limit('session', 10_000), limit('peer', 10_000)]);
  let waited = 0;
  for (let n = 0; n < 10_000; n++) {
    const verdict = limits.admit('s', WEB);
    if (verdict instanceof Promise) waited++;
    expect(await verdict).toBe(ALLOWED);
  }
  expect(waited).toBe(1);
  expect(limits.admit('s', WEB)).toMatchObject({ allowed: false });
  limits.close();
});

it('a denied flood is answered at once, too', async () => {
  const limits = setUp([limit('session', 1)]);
  await admitted(limits, 2);
  for (let n = 0; n < 1_000; n++) expect(limits.admit('s', WEB)).toMatchObject({ allowed: false });
  limits.close();
});

it('without limits everything is allowed, and nothing is remembered', () => {
  const limits = setUp([]);
  expect(limits.admit('s', WEB)).toBe(ALLOWED);
  expect(limits.stats()).toEqual({ sessions: 0, peers: 0 });
  expect(vi.getTimerCount()).toBe(0);
});

describe('memory', () => {
  it('of keys whose windows have ended is given back', async () => {
    const limits = setUp([limit('session', 5), limit('peer', 5)]);
    for (let n = 0; n < 500; n++) await admitted(limits, 1, `s${n}`, `${WEB}${n}`);
    expect(limits.stats()).toEqual({ sessions: 500, peers: 500 });
    vi.advanceTimersByTime(MINUTE + 10_000);
    expect(limits.stats()).toEqual({ sessions: 0, peers: 0 });
    // What is left is the sweep.
    expect(vi.getTimerCount()).toBe(1);
    limits.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is bounded: a key too many is denied until another ends', async () => {
    const limits = setUp([limit('peer', 5)], { maxKeys: 2 });
    expect(await admitted(limits, 1, 's', 'a')).toBe(1);
    expect(await admitted(limits, 1, 's', 'b')).toBe(1);
    expect(await limits.admit('s', 'c')).toEqual({
      allowed: false,
      scope: 'peer',
      limit: 5,
      windowMs: MINUTE,
      retryAfterMs: MINUTE,
    });
    expect(await admitted(limits, 1, 's', 'a')).toBe(1);
    vi.advanceTimersByTime(MINUTE);
    expect(await admitted(limits, 1, 's', 'c')).toBe(1);
    limits.close();
  });
});

it('a clock that is set back does not lengthen a denial beyond a window', async () => {
  const limits = setUp([limit('session', 200)]);
  await admitted(limits, 100);
  vi.setSystemTime(Date.now() - 3_600_000);
  expect(await admitted(limits, 200)).toBe(100);
  expect(await limits.admit('s', WEB)).toMatchObject({ allowed: false });
  vi.advanceTimersByTime(MINUTE);
  expect(await admitted(limits, 300)).toBe(200);
  limits.close();
});

it.each([
  limit('session', 0),
  limit('session', 1.5),
  limit('peer', 1, 99),
  limit('peer', 1, 2 ** 31),
  limit('peer', 1, Number.NaN),
])('a limit that cannot work is refused: %j', async (bad) => {
  expect(() => setUp([bad])).toThrowError(expect.objectContaining({ code: 'bad-limit' }));
  await expect(
    openRateLimits({
      limits: [bad],
      clock: systemClock,
      store: { type: 'memory' },
      namespace: WEB,
      onStoreChange: () => undefined,
    }),
  ).rejects.toThrowError(expect.objectContaining({ code: 'bad-limit' }));
});

/** The plain twin: one window a key, that begins with a call that is allowed. */
class Naive {
  readonly #windows = new Map<string, { count: number; endsAt: number }>();

  hasRoom(key: string, max: number, now: number): boolean {
    const window = this.#windows.get(key);
    return window === undefined || now >= window.endsAt || window.count < max;
  }

  count(key: string, windowMs: number, now: number): void {
    const window = this.#windows.get(key);
    if (window === undefined || now >= window.endsAt) {
      this.#windows.set(key, { count: 1, endsAt: now + windowMs });
    } else window.count++;
  }
}

it('agrees with a plain counter, whatever comes in whatever order', async () => {
  const batch = fc.record({
    wait: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 1_500 })),
    calls: fc.array(fc.record({ session: fc.nat(3), peer: fc.nat(1) }), { maxLength: 60 }),
    together: fc.boolean(),
  });
  const config = fc.record({
    max: fc.integer({ min: 1, max: 150 }),
    windowMs: fc.integer({ min: 100, max: 2_000 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { maxLength: 25 }), config, config, async (batches, session, peer) => {
      const limits = setUp([
        limit('session', session.max, session.windowMs),
        limit('peer', peer.max, peer.windowMs),
      ]);
      const naive = new Naive();
      for (const { wait, calls, together } of batches) {
        vi.advanceTimersByTime(wait);
        const now = performance.now();
        const settled: Array<{ keys: [string, string]; verdict: Verdict }> = [];
        const ask = async (call: { session: number; peer: number }) => {
          const peerKey = `peer ${call.peer}`;
          const sessionKey = `session ${call.session} of ${peerKey}`;
          const verdict = await limits.admit(sessionKey, peerKey);
          settled.push({ keys: [sessionKey, peerKey], verdict });
        };
        if (together) await Promise.all(calls.map(ask));
        else for (const call of calls) await ask(call);
        expect(settled).toHaveLength(calls.length);
        for (const { keys, verdict } of settled) {
          if (!verdict.allowed) continue;
          expect(naive.hasRoom(keys[0], session.max, now)).toBe(true);
          expect(naive.hasRoom(keys[1], peer.max, now)).toBe(true);
          naive.count(keys[0], session.windowMs, now);
          naive.count(keys[1], peer.windowMs, now);
        }
        // Whoever was denied had no room: nothing that was allowed later in the batch could have made any.
        for (const { keys, verdict } of settled) {
          if (verdict.allowed) continue;
          const room = [naive.hasRoom(keys[0], session.max, now), naive.hasRoom(keys[1], peer.max, now)];
          expect(room[verdict.scope === 'session' ? 0 : 1]).toBe(false);
        }
      }
      limits.close();
    }),
    { numRuns: 150 },
  );
});
