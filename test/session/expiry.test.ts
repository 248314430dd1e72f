import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { endOf } from '../../src/session/expiry.ts';
import { DAY, HOUR, MINUTE, SECOND, setUp } from './sessions.ts';

describe('a session ends at the earliest of', () => {
  it('idle time since its last use', () => {
    const { clock, manager, open, ends } = setUp();
    const session = open();
    expect(session.expiresAt).toBe(clock.now() + HOUR);
    clock.advance(HOUR - SECOND);
    expect(session.isDisposed).toBe(false);
    clock.advance(2 * SECOND);
    expect(session.isDisposed).toBe(true);
    expect(manager.size).toBe(0);
    expect(ends()).toMatchObject([{ reason: 'idle', outcome: 'expired' }]);
  });

  it('its absolute lifetime, however busy it is', () => {
    const { clock, open, ends } = setUp();
    const session = open();
    const start = clock.now();
    while (!session.isDisposed) {
      session.callStarted();
      clock.advance(SECOND);
      session.callEnded();
    }
    expect(clock.now() - start).toBeGreaterThanOrEqual(8 * HOUR);
    expect(clock.now() - start).toBeLessThanOrEqual(8 * HOUR + SECOND);
    expect(ends()).toMatchObject([{ reason: 'expired', outcome: 'expired', counters: { calls: 8 * 3600 } }]);
  });

  it('the first certificate to end, also in the middle of a call', () => {
    const { clock, open, ends } = setUp();
    const session = open({ notAfter: clock.now() + 10 * MINUTE });
    session.callStarted();
    expect(session.expiresAt).toBe(clock.now() + 10 * MINUTE);
    clock.advance(10 * MINUTE - SECOND);
    expect(session.isDisposed).toBe(false);
    clock.advance(SECOND);
    expect(ends()).toMatchObject([{ reason: 'identity-expired', outcome: 'expired' }]);
    session.callEnded();
  });
});

it('the idle part does not run while a call is open, and runs in full after it', () => {
  const { clock, open, ends } = setUp();
  const session = open();
  session.callStarted();
  clock.advance(5 * HOUR);
  expect(session.isDisposed).toBe(false);
  session.callEnded();
  clock.advance(HOUR - SECOND);
  expect(session.isDisposed).toBe(false);
  clock.advance(2 * SECOND);
  expect(ends()).toMatchObject([{ reason: 'idle' }]);
});

it('get and touch slide the expiry, peek and list do not', () => {
  const { clock, manager, open } = setUp();
  const [got, touched, peeked, listed] = [open(), open(), open(), open()];
  clock.advance(40 * MINUTE);
  expect(manager.getSession(got.id)).toBe(got);
  touched.touch();
  expect(manager.peek(peeked.id)).toBe(peeked);
  expect(manager.getSessionsByLastUsed()).toContain(listed);
  clock.advance(30 * MINUTE);
  expect([got, touched, peeked, listed].map((session) => session.isDisposed)).toEqual([
    false,
    false,
    true,
    true,
  ]);
  expect(got.lastActivity).toBe(got.createdAt + 40 * MINUTE);
});

it('a session whose time has come is not found, even before the sweep', () => {
  const { clock, manager, open, ends } = setUp({ cleanupIntervalMs: DAY });
  const session = open();
  clock.advance(HOUR);
  expect(manager.getSession(session.id)).toBeUndefined();
  expect(session.isDisposed).toBe(true);
  expect(ends()).toMatchObject([{ reason: 'idle' }]);
});

it('a certificate that has ended already opens no session', () => {
  const { clock, manager, init } = setUp();
  const refused = init({ notAfter: clock.now() });
  expect(() => manager.create(refused)).toThrowError(expect.objectContaining({ code: 'already-expired' }));
  expect(refused.sessionKey.wiped).toBe(true);
});

it('a wall clock that is set ends certificates at once, and no idle or absolute life', () => {
  const { clock, manager, open, ends } = setUp();
  const [short, long] = [open({ notAfter: clock.now() + DAY }), open()];
  const now = clock.now.bind(clock);
  clock.now = () => now() + 2 * DAY;
  clock.advance(SECOND);
  expect(ends()).toMatchObject([{ session: short, reason: 'identity-expired' }]);
  expect(manager.peek(long.id)).toBe(long);
});

describe('draining', () => {
  it('begins a grace period before the end, once, and the cut is at the end', () => {
    const { clock, open, said } = setUp();
    const session = open();
    const drained: Array<[string, number]> = [];
    session.listen({ draining: (reason, endsAt) => drained.push([reason, endsAt]) });
    session.callStarted();
    const end = session.createdAt + 8 * HOUR;
    clock.advance(8 * HOUR - 31 * SECOND);
    expect(session.isDraining).toBe(false);
    clock.advance(SECOND);
    expect(drained).toEqual([['expired', end]]);
    expect(said('draining')).toMatchObject([{ reason: 'expired', endsAt: end }]);
    clock.advance(29 * SECOND);
    expect([session.isDraining, session.isDisposed]).toEqual([true, false]);
    clock.advance(SECOND);
    expect(session.isDisposed).toBe(true);
    expect(drained).toHaveLength(1);
    session.callEnded();
  });

  it('comes before the idle end too, and a call in the grace period may still finish', () => {
    const { clock, open } = setUp();
    const session = open();
    clock.advance(HOUR - 30 * SECOND);
    expect(session.isDraining).toBe(true);
    session.callStarted();
    clock.advance(HOUR);
    expect(session.isDisposed).toBe(false);
    session.callEnded();
    clock.advance(HOUR + SECOND);
    expect(session.isDisposed).toBe(true);
  });

  it('is not missed when the last call ends between two looks', () => {
    const { clock, open } = setUp({ idleMs: 10 * SECOND });
    const session = open();
    session.callStarted();
    clock.advance(8.5 * SECOND);
    session.callEnded();
    clock.advance(7 * SECOND);
    expect(session.isDraining).toBe(false);
    clock.advance(2 * SECOND);
    expect([session.isDraining, session.isDisposed]).toEqual([true, false]);
  });

  it('takes at most a tenth of a short life', () => {
    const { clock, open } = setUp({ idleMs: 1_000, graceMs: 30_000 });
    const session = open();
    clock.advance(800);
    expect(session.isDraining).toBe(false);
    clock.advance(100);
    expect(session.isDraining).toBe(true);
    clock.advance(100);
    expect(session.isDisposed).toBe(true);
  });

  it('is told at once to whoever asks late', () => {
    const { clock, open } = setUp();
    const session = open();
    clock.advance(HOUR - 20 * SECOND);
    const told: string[] = [];
    session.listen({ draining: (reason) => told.push(reason) });
    expect(told).toEqual(['idle']);
    session.end('revoked');
    session.listen({ disposed: (reason) => told.push(reason) });
    expect(told).toEqual(['idle', 'revoked']);
  });
});

it('the end is the plain minimum of the three, whatever the times', () => {
  const time = fc.integer({ min: 0, max: 1_000_000 });
  fc.assert(
    fc.property(
      time,
      time,
      time,
      time,
      time,
      fc.integer({ min: 0, max: 2 }),
      (idleMs, absoluteMs, used, left, now, openCalls) => {
        const life = {
          createdAt: 5_000_000,
          created: 0,
          lastActivity: used,
          notAfter: 6_000_000 + left,
          openCalls,
        };
        const wallNow = 5_000_000 + now;
        const end = endOf(life, { idleMs, absoluteMs, graceMs: 30_000 }, now, wallNow);
        const candidates = [absoluteMs - now, life.notAfter - wallNow];
        if (openCalls === 0) candidates.push(used + idleMs - now);
        expect(end.inMs).toBe(Math.min(...candidates));
        expect(end.drainInMs).toBeLessThanOrEqual(end.inMs);
        expect(end.inMs - end.drainInMs).toBeLessThanOrEqual(30_000);
      },
    ),
  );
});

it('no session outlives its bounds by more than a sweep, whatever is done to it', () => {
  const step = fc.record({
    wait: fc.integer({ min: 0, max: 90_000 }),
    act: fc.constantFrom('call', 'end', 'touch', 'get', 'peek', 'none'),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1_000, max: 900_000 }),
      (steps, certificate) => {
        const { clock, manager, open } = setUp({ idleMs: 60_000, absoluteMs: 600_000, graceMs: 5_000 });
        const start = clock.now();
        const session = open({ notAfter: start + certificate });
        let used = start;
        let calls = 0;
        for (const { wait, act } of steps) {
          clock.advance(wait);
          const hard = start + Math.min(600_000, certificate);
          const end = calls > 0 ? hard : Math.min(hard, used + 60_000);
          if (clock.now() >= end + SECOND) expect(session.isDisposed).toBe(true);
          if (clock.now() < end - SECOND) expect(session.isDisposed).toBe(false);
          if (session.isDisposed) break;
          if (act === 'call') session.callStarted();
          if (act === 'end' && calls > 0) session.callEnded();
          if (act === 'touch') session.touch();
          if (act === 'get' && manager.getSession(session.id) === undefined) break;
          if (act === 'peek' && manager.peek(session.id) === undefined) break;
          if (act === 'call') calls++;
          else if (act === 'end') {
            if (calls === 0) continue;
            calls--;
          } else if (act !== 'touch' && act !== 'get') continue;
          used = clock.now();
        }
      },
    ),
    { numRuns: 200 },
  );
});

describe('the successor of a session is due', () => {
  const due = (set: ReturnType<typeof setUp>) =>
    set.events.flatMap((event) => (event.type === 'successorDue' ? [event] : []));

  it('at 80 % of its age, once, if it has been used, before its grace period begins', () => {
    const set = setUp({ absoluteMs: HOUR, graceMs: HOUR });
    const { clock, open } = set;
    const session = open();
    const told: string[] = [];
    session.listen({
      draining: (reason) => told.push(`drain ${reason}`),
      disposed: () => {},
      successorDue: (reason) => told.push(`successor ${reason}`),
    });
    session.callStarted();
    clock.advance(48 * MINUTE - SECOND);
    expect(told).toEqual([]);
    clock.advance(SECOND);
    expect(told).toEqual(['successor expired']);
    expect(due(set)).toMatchObject([{ session, reason: 'expired' }]);
    clock.advance(6 * MINUTE);
    expect(told).toEqual(['successor expired', 'drain expired']);
    clock.advance(6 * MINUTE);
    expect([session.isDisposed, due(set).length]).toEqual([true, 1]);
  });

  it('at 80 % of the life of a certificate, if that is earlier', () => {
    const set = setUp();
    const session = set.open({ notAfter: set.clock.now() + 10 * MINUTE });
    session.callStarted();
    set.clock.advance(8 * MINUTE);
    expect(due(set)).toMatchObject([{ reason: 'identity-expired' }]);
  });

  it('never for one that was not used, or is idle', () => {
    const set = setUp({ idleMs: 10 * MINUTE, absoluteMs: HOUR });
    set.open();
    const used = set.open();
    used.callStarted();
    used.callEnded();
    set.clock.advance(HOUR);
    expect([set.manager.size, due(set)]).toEqual([0, []]);
  });

  it('and from then on no connection joins the one that we opened', () => {
    const { clock, open } = setUp({ absoluteMs: HOUR });
    const [ours, theirs] = [open({ direction: 'outbound' }), open()];
    expect([ours.joinable, theirs.joinable]).toEqual([true, true]);
    for (const session of [ours, theirs]) session.callStarted();
    clock.advance(48 * MINUTE);
    expect([ours.joinable, theirs.joinable]).toEqual([false, true]);
  });
});
