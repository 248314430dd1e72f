import { describe, expect, it } from 'vitest';
import { ManagerShutDownError, SessionDisposedError } from '../../src/session/errors.ts';
import { inSlices } from '../../src/session/slices.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { HOUR, MINUTE, SECOND, setUp } from './sessions.ts';

const COUNT = 200;
const END_MS = 0.25;

/** Many sessions whose ends take a quarter of a millisecond each, as by what listens to them. */
function many() {
  const world = setUp({ idleMs: HOUR, max: 1000, maxPerPeer: 1000, graceMs: SECOND });
  const sessions = Array.from({ length: COUNT }, () => world.open());
  for (const session of sessions) session.listen({ disposed: () => world.clock.advance(END_MS) });
  const ended = () => sessions.filter(({ isDisposed }) => isDisposed).length;
  return { ...world, sessions, ended };
}

describe('sessions that end together', () => {
  it('end in slices, between which others have their turns', () => {
    const { clock, ended } = many();
    const seen: number[] = [];
    clock.every(SECOND, () => {
      const look = (): void => {
        seen.push(ended());
        // Later than what the end of one session takes, in which the clock goes on, too.
        if (ended() > 0 && ended() < COUNT) clock.after(1, look);
      };
      look();
    });
    clock.advance(HOUR + 2 * SECOND);
    expect(ended()).toBe(COUNT);
    const between = new Set(seen.filter((count) => count > 0 && count < COUNT));
    expect(between.size).toBeGreaterThan(10);
  });

  it('are over at once for whoever uses them, though the sweep has not come to them', () => {
    const { clock, manager, sessions, ended } = many();
    let late: (() => void) | undefined = () => {
      late = undefined;
      const last = sessions.filter(({ isDisposed }) => !isDisposed).at(-1);
      expect(last?.takesCalls).toBe(false);
      expect(last && manager.peek(last.id)).toBeUndefined();
      expect(last?.isDisposed).toBe(true);
      expect(() => last?.callStarted()).toThrow(SessionDisposedError);
      expect(last?.endReason).toBe('idle');
    };
    sessions[0]?.listen({ disposed: () => late?.() });
    clock.advance(HOUR + 2 * SECOND);
    expect(late).toBeUndefined();
    expect(ended()).toBe(COUNT);
  });

  it('drain in slices when all end', async () => {
    const { clock, manager, init, ended } = many();
    const end = manager.shutdown(MINUTE);
    expect(ended()).toBeLessThan(COUNT);
    expect(() => manager.create(init())).toThrow(ManagerShutDownError);
    clock.advance(SECOND);
    expect(ended()).toBe(COUNT);
    await end;
    expect(manager.state).toBe('disposed');
  });
});

describe('the process is kept alive', () => {
  it('while a drain has slices to do', () => {
    const { clock, manager, ended } = many();
    manager.drain(MINUTE);
    expect(ended()).toBeLessThan(COUNT);
    expect(clock.holds).toBe(1);
    clock.advance(SECOND);
    expect([ended(), clock.holds]).toEqual([COUNT, 0]);
  });

  it('until a shutdown is over, also if what it waits for fails', async () => {
    const { clock, manager, open } = setUp();
    const session = open();
    session.callStarted();
    expect(clock.holds).toBe(0);
    const end = manager.shutdown(MINUTE, () => Promise.reject(new Error('disk full')));
    clock.advance(MINUTE - 1);
    expect([session.isDisposed, clock.holds]).toEqual([false, 1]);
    clock.advance(1);
    expect([session.isDisposed, clock.holds]).toEqual([true, 1]);
    await expect(end).rejects.toThrow('disk full');
    expect([manager.state, clock.holds]).toEqual(['disposed', 0]);
  });
});

describe('a session that was barred', () => {
  it('ends once, whoever tries and however often; one that had ended is not barred', () => {
    const { open, ends, manager } = setUp();
    const [session, other] = [open(), open()];
    for (const bar of [true, false]) session.bar(bar);
    session.end('evicted');
    expect([session.state, session.isDisposed, session.takesCalls]).toEqual(['connected', true, false]);
    expect([manager.size, session.sessionKey.wiped]).toEqual([1, true]);
    for (let n = 0; n < 2; n++) session.finishEnd();
    expect(ends()).toMatchObject([{ session, reason: 'revoked', outcome: 'revoked' }]);
    expect(session.revocation).toEqual({ mayReturn: true });

    other.end('evicted');
    other.bar(false);
    other.finishEnd();
    expect(ends()).toMatchObject([{ session }, { session: other, reason: 'evicted' }]);
    expect(other.revocation).toBeUndefined();
  });

  it('is not ended by halves: one that lives is not finished', () => {
    const { open } = setUp();
    const session = open();
    session.finishEnd();
    expect([session.state, session.takesCalls]).toEqual(['connected', true]);
  });
});

describe('a session takes calls', () => {
  it.each([
    ['until it has been idle', { idleMs: HOUR, absoluteMs: 24 * HOUR }, {}, HOUR],
    ['until it is too old', { idleMs: 2 * HOUR, absoluteMs: HOUR }, {}, HOUR],
    ['until a certificate ends', { idleMs: 2 * HOUR, absoluteMs: 24 * HOUR }, { life: HOUR }, HOUR],
  ])('%s, to the millisecond', (_what, terms, { life }: { life?: number }, end) => {
    // No sweep comes then: only the time itself tells.
    const { clock, open } = setUp({ ...terms, cleanupIntervalMs: 7 * MINUTE });
    const session = open(life === undefined ? {} : { notAfter: clock.now() + life });
    clock.advance(end - 1);
    expect([session.takesCalls, session.endIfOver()]).toEqual([true, false]);
    clock.advance(1);
    expect([session.takesCalls, session.isDisposed]).toEqual([false, false]);
    expect(session.endIfOver()).toBe(true);
  });

  it('beyond its idle time while it has one', () => {
    const { clock, open } = setUp({ idleMs: HOUR, absoluteMs: 24 * HOUR });
    const session = open();
    session.callStarted();
    clock.advance(3 * HOUR);
    expect(session.takesCalls).toBe(true);
  });
});

it('an item that throws keeps no other from its turn, nor the work from its end', () => {
  const clock = new FakeClock();
  const seen: number[] = [];
  let done = 0;
  const each = (n: number): void => {
    seen.push(n);
    if (n === 2 || n === 3) throw new Error(`item ${n}`);
  };
  expect(() => inSlices(clock, [1, 2, 3, 4], each, () => done++)).toThrow('item 2');
  expect(() => clock.advance(1)).toThrow('item 3');
  clock.advance(1);
  expect(seen).toEqual([1, 2, 3, 4]);
  expect(done).toBe(1);
});
