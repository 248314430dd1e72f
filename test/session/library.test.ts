import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { describe, expect, expectTypeOf, it } from 'vitest';
import {
  CryptoError,
  DuplicateSessionError,
  ManagerShutDownError,
  Secret,
  type Session,
  SessionDisposedError,
  SessionError,
  SessionManager,
  type SessionManagerOptions,
} from '../../src/index.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { HOUR, MINUTE, SECOND } from './sessions.ts';

const KEY = Buffer.from('0123456789abcdef0123456789abcdef');
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** As an embedding program has it, but for the clock. */
function library(options: SessionManagerOptions = {}) {
  const clock = new FakeClock();
  const sessions = new SessionManager({ clock, ...options });
  return { clock, sessions };
}

describe('createSession', () => {
  it('makes a session that is connected, with all that the program asked for', () => {
    const { clock, sessions } = library();
    const session = sessions.createSession('orders.shop', KEY, { tenant: 'blue' });
    expect(session.id).toMatch(UUID);
    expect(session).toMatchObject({
      serviceId: 'orders.shop',
      createdAt: clock.now(),
      lastActivity: clock.now(),
      expiresAt: clock.now() + HOUR,
      metadata: { tenant: 'blue' },
      state: 'connected',
      isDisposed: false,
    });
    expect(session.counters.calls).toBe(0);
    expect(session.sessionKey.bytes.equals(KEY)).toBe(true);
    expect(sessions.createSession('orders.shop', KEY).id).not.toBe(session.id);
  });

  it('copies bytes and takes over a Secret; neither is shown, both are wiped', () => {
    const { sessions } = library();
    const [bytes, owned] = [Buffer.from(KEY), Buffer.from(KEY)];
    const secret = new Secret(owned);
    const [copied, taken] = [sessions.createSession('a', bytes), sessions.createSession('b', secret)];
    const shown = [inspect([copied, taken], { depth: 9, showHidden: true }), JSON.stringify([copied, taken])];
    expect(shown.join()).not.toMatch(/0123456789abcdef|30 31 32|48,49,50/);
    expect(JSON.parse(JSON.stringify(copied))).not.toHaveProperty('sessionKey');
    for (const { id } of [copied, taken]) sessions.invalidateSession(id);
    expect([bytes.equals(KEY), owned.equals(Buffer.alloc(32))]).toEqual([true, true]);
    expect(() => copied.sessionKey.bytes).toThrowError(expect.objectContaining({ code: 'key-wiped' }));
  });

  it.each([0, 16, 31, 33])('refuses a key of %d bytes', (length) => {
    const { sessions } = library();
    expect(() => sessions.createSession('a', Buffer.alloc(length))).toThrowError(
      expect.objectContaining({ code: 'bad-option' }),
    );
    expect(sessions.size).toBe(0);
  });

  it.each([
    ['a service without a name', ['', KEY, {}, {}]],
    ['no service', [undefined, KEY, {}, {}]],
    ['no key', ['a', undefined, {}, {}]],
    ['a key that is text', ['a', 'x'.repeat(32), {}, {}]],
    ['an id that is no UUID', ['a', KEY, {}, { id: 'session-1' }]],
    ['a time that is none', ['a', KEY, {}, { notAfter: Number.NaN }]],
  ])('refuses %s', (_what, args) => {
    const { sessions } = library();
    const create = () => sessions.createSession(...(args as Parameters<typeof sessions.createSession>));
    expect(create).toThrowError(expect.objectContaining({ name: 'SessionError', code: 'bad-option' }));
    expect(sessions.state).toBe('inactive');
  });

  it('wipes a Secret that it has refused', () => {
    const { sessions } = library();
    const secret = Secret.copyOf(KEY);
    expect(() => sessions.createSession('', secret)).toThrowError(SessionError);
    expect(secret.wiped).toBe(true);
  });

  it('shows a copy of it no key either', () => {
    const { sessions } = library();
    const session = sessions.createSession('a', KEY);
    const copies = [structuredClone(session), structuredClone({ key: session.sessionKey }), { ...session }];
    for (const copy of copies) {
      expect(inspect(copy, { depth: 9, showHidden: true })).not.toMatch(
        /0123456789abcdef|30 31 32|Uint8Array/,
      );
    }
  });

  it('refuses an id that is taken, by an error of its own type', () => {
    const { sessions } = library();
    const { id } = sessions.createSession('a', KEY);
    expect(() => sessions.createSession('b', KEY, {}, { id })).toThrowError(DuplicateSessionError);
    expect(sessions.getSession(id)?.serviceId).toBe('a');
  });

  it('ends with a certificate if it is told of one', () => {
    const { clock, sessions } = library();
    const session = sessions.createSession('a', KEY, {}, { notAfter: clock.now() + MINUTE });
    expect(session.expiresAt).toBe(clock.now() + MINUTE);
    const late = () => sessions.createSession('a', KEY, {}, { notAfter: clock.now() });
    expect(late).toThrowError(expect.objectContaining({ code: 'already-expired' }));
  });
});

describe('sessions are found', () => {
  it('by id, which slides their expiry', () => {
    const { clock, sessions } = library({ idleMs: 10 * MINUTE });
    const { id } = sessions.createSession('a', KEY);
    for (let n = 0; n < 5; n++) {
      clock.advance(9 * MINUTE);
      expect(sessions.getSession(id)?.expiresAt).toBe(clock.now() + 10 * MINUTE);
    }
    expect(sessions.peek(id)?.lastActivity).toBe(clock.now());
    clock.advance(9 * MINUTE);
    expect(sessions.peek(id)?.id).toBe(id);
    clock.advance(MINUTE);
    expect([sessions.getSession(id), sessions.size]).toEqual([undefined, 0]);
  });

  it('by service: the one used last, which does not slide, and none that is over', () => {
    const { clock, sessions } = library({ idleMs: 10 * MINUTE, cleanupIntervalMs: HOUR });
    const first = sessions.createSession('a', KEY);
    clock.advance(MINUTE);
    const second = sessions.createSession('a', KEY);
    sessions.createSession('b', KEY);
    expect(sessions.getSessionByServiceId('a')).toBe(second);
    clock.advance(MINUTE);
    sessions.getSession(first.id);
    expect(sessions.getSessionByServiceId('a')).toBe(first);
    first.drain('shutdown');
    expect(sessions.getSessionByServiceId('a')).toBe(second);
    expect(sessions.getSessionByServiceId('c')).toBeUndefined();
    clock.advance(10 * MINUTE);
    expect(sessions.getSessionByServiceId('a')).toBeUndefined();
    expect([first.isDisposed, second.isDisposed]).toEqual([true, true]);
  });

  it('by their last use, the oldest first, those in use last', async () => {
    const { clock, sessions } = library();
    const made = ['a', 'b', 'c', 'd'].map((service) => {
      clock.advance(MINUTE);
      return sessions.createSession(service, KEY);
    });
    const [a, b, c, d] = made as [Session, Session, Session, Session];
    sessions.getSession(a.id);
    sessions.peek(b.id);
    await sessions.executeInSession(c.id, () => {
      expect(sessions.getSessionsByLastUsed()).toEqual([b, d, a, c]);
    });
    sessions.getSession(d.id);
    expect(sessions.getSessionsByLastUsed()).toEqual([b, a, c, d]);
    expect(sessions.getSessionsByLastUsed(({ serviceId }) => serviceId !== 'a')).toEqual([b, c, d]);
  });

  it('by how long they have been idle', async () => {
    const { clock, sessions } = library();
    const a = sessions.createSession('a', KEY);
    const busy = sessions.createSession('busy', KEY);
    clock.advance(5 * MINUTE);
    const b = sessions.createSession('b', KEY);
    clock.advance(MINUTE);
    await sessions.executeInSession(busy.id, () => {
      clock.advance(10 * MINUTE);
      expect(sessions.getIdleSessions(10 * MINUTE)).toEqual([a, b]);
      expect(sessions.getIdleSessions(12 * MINUTE)).toEqual([a]);
      expect(sessions.getIdleSessions(17 * MINUTE)).toEqual([]);
    });
    expect(a.expiresAt).toBe(a.createdAt + HOUR);
  });
});

describe('executeInSession', () => {
  it('is a call: it counts, returns what fn returns, and the session is not idle meanwhile', async () => {
    const { clock, sessions } = library({ idleMs: MINUTE });
    const { id } = sessions.createSession('a', KEY);
    const result = await sessions.executeInSession(id, async (session) => {
      expect([session.state, session.openCalls]).toEqual(['active', 1]);
      clock.advance(10 * MINUTE);
      expect(session.isDisposed).toBe(false);
      return 42;
    });
    expectTypeOf(result).toEqualTypeOf<number>();
    expect(result).toBe(42);
    const session = sessions.peek(id);
    expect(session?.expiresAt).toBe(clock.now() + MINUTE);
    expect(session?.counters).toMatchObject({ calls: 1, errors: 0 });
    clock.advance(MINUTE);
    expect(sessions.peek(id)).toBeUndefined();
  });

  it('spares the session from eviction', async () => {
    const { sessions } = library({ max: 1 });
    const { id } = sessions.createSession('a', KEY);
    await sessions.executeInSession(id, () => {
      expect(() => sessions.createSession('b', KEY)).toThrowError(
        expect.objectContaining({ code: 'capacity' }),
      );
    });
    sessions.createSession('b', KEY);
    expect(sessions.peek(id)).toBeUndefined();
  });

  it('throws what fn throws, and counts it', async () => {
    const { sessions } = library();
    const session = sessions.createSession('a', KEY);
    const fails = sessions.executeInSession(session.id, () => {
      throw new RangeError('mine');
    });
    await expect(fails).rejects.toThrowError(RangeError);
    await expect(sessions.executeInSession(session.id, () => Promise.reject(7))).rejects.toBe(7);
    expect([session.openCalls, session.counters]).toMatchObject([0, { calls: 2, errors: 2 }]);
  });

  it('does not know sessions that are over; one that ends meanwhile lets fn finish', async () => {
    const { sessions } = library();
    const unknown = { code: 'unknown-session' };
    await expect(sessions.executeInSession('none', () => 1)).rejects.toMatchObject(unknown);
    const session = sessions.createSession('a', KEY);
    const result = sessions.executeInSession(session.id, async () => {
      expect(sessions.invalidateSession(session.id)).toBe(true);
      return 'done';
    });
    expect(await result).toBe('done');
    await expect(sessions.executeInSession(session.id, () => 1)).rejects.toMatchObject(unknown);
  });
});

describe('the end', () => {
  it('of one, and of those that a predicate accepts', () => {
    const { sessions } = library();
    const ends: string[] = [];
    sessions.on('disposed', ({ session, reason, outcome }) => {
      ends.push(`${session.metadata.tenant} ${reason} ${outcome}`);
    });
    const [blue, red, red2] = ['blue', 'red', 'red'].map((tenant) =>
      sessions.createSession('a', KEY, { tenant }),
    );
    expect(sessions.invalidateSessions(({ metadata }) => metadata.tenant === 'red')).toEqual([red, red2]);
    expect(sessions.invalidateSession(blue?.id ?? '', 'evicted')).toBe(true);
    expect(sessions.invalidateSession(blue?.id ?? '')).toBe(false);
    expect(ends).toEqual(['red revoked revoked', 'red revoked revoked', 'blue evicted evicted']);
    expect(sessions.getStats()).toEqual({
      activeSessions: 0,
      maxSessions: 10_000,
      utilization: 0,
      peers: 0,
      created: 3,
      refused: 0,
      closed: { revoked: 2, evicted: 1 },
    });
  });

  it('of those whose time has come: by the timer every 5 minutes, or when asked', () => {
    const { clock, sessions } = library({ idleMs: HOUR });
    sessions.invalidateSession(sessions.createSession('first', KEY).id); // the timer begins
    clock.advance(MINUTE);
    const session = sessions.createSession('a', KEY);
    clock.advance(HOUR + 3 * MINUTE);
    expect(session.isDisposed).toBe(false); // nobody has looked since its time came
    clock.advance(MINUTE);
    expect(session.isDisposed).toBe(true);
    clock.advance(MINUTE); // so that the timer does not come first
    for (const service of ['b', 'c']) sessions.createSession(service, KEY);
    clock.advance(HOUR - SECOND);
    sessions.createSession('d', KEY);
    clock.advance(SECOND);
    expect([sessions.size, sessions.cleanupExpiredSessions(), sessions.size]).toEqual([3, 2, 1]);
    expect(sessions.cleanupExpiredSessions()).toBe(0);
    expect(sessions.getStats().closed).toEqual({ revoked: 1, idle: 3 });
  });

  it('of a session’s scope and of the manager’s, by await using', async () => {
    const events: string[] = [];
    {
      const clock = new FakeClock();
      await using sessions = new SessionManager({ clock, onEvent: ({ type }) => events.push(type) });
      {
        await using session = sessions.createSession('a', KEY);
        expect(session.state).toBe('connected');
      }
      expect(sessions.size).toBe(0);
      sessions.createSession('b', KEY);
      events.length = 0;
    }
    expect(events.filter((type) => type !== 'stateChanged')).toEqual([
      'managerStateChanged',
      'draining',
      'disconnected',
      'disposed',
      'managerStateChanged',
    ]);
  });

  it('wipes the keys after all that was said is written down, even if that fails', async () => {
    const { clock, sessions } = library();
    const session = sessions.createSession('a', KEY);
    let wiped: boolean | undefined;
    const shutdown = sessions.shutdown(MINUTE, async () => {
      wiped = session.sessionKey.wiped;
      throw new Error('disk full');
    });
    await expect(shutdown).rejects.toThrowError('disk full');
    expect([session.isDisposed, wiped, session.sessionKey.wiped]).toEqual([true, false, true]);
    expect([sessions.state, clock.pending]).toEqual(['disposed', 0]);
  });
});

it('use after the end throws errors of types of their own', async () => {
  const { sessions } = library();
  const session = sessions.createSession('a', KEY);
  const busy = sessions.createSession('b', KEY);
  session.end('local-closed');
  expect(() => session.callStarted()).toThrowError(SessionDisposedError);
  expect(() => session.attach()).toThrowError(SessionDisposedError);
  expect(() => session.sessionKey.bytes).toThrowError(CryptoError);
  await sessions.executeInSession(busy.id, async () => {
    const shutdown = sessions.shutdown(MINUTE);
    expect(() => sessions.createSession('c', KEY)).toThrowError(ManagerShutDownError);
    await expect(sessions.executeInSession(busy.id, () => 1)).rejects.toThrowError(ManagerShutDownError);
    // Calls under way still find theirs.
    expect(sessions.getSession(busy.id)).toBe(busy);
    void sessions.shutdown(0);
    await shutdown;
  });
  expect(() => sessions.getSession(busy.id)).toThrowError(ManagerShutDownError);
  expect(() => sessions.getSessionByServiceId('b')).toThrowError(ManagerShutDownError);
  await expect(sessions.executeInSession(busy.id, () => 1)).rejects.toThrowError(ManagerShutDownError);
  expect(() => sessions.createSession('c', KEY)).toThrowError(SessionError);
});

describe('events', () => {
  it('come to whoever asked for their type, until he stops', () => {
    const { clock, sessions } = library();
    const told: string[] = [];
    const stop = sessions.on('stateChanged', ({ from, to, reason }) => {
      told.push([from, to, reason].filter((text) => text !== undefined).join(' '));
    });
    sessions.on('connected', ({ session }) => told.push(`connected ${session.serviceId}`));
    sessions.on('disconnected', ({ reason }) => told.push(`disconnected ${reason}`));
    sessions.on('managerStateChanged', ({ from, to }) => told.push(`manager ${from} ${to}`));
    const session = sessions.createSession('a', KEY);
    session.callStarted();
    session.callEnded();
    clock.advance(15 * MINUTE);
    expect(told).toEqual([
      'manager inactive active',
      'created connecting',
      'connecting connected',
      'connected a',
      'connected active',
      'active idle',
    ]);
    told.length = 0;
    stop();
    session.end('revoked');
    expect(told).toEqual(['disconnected revoked']);
  });

  it('reach the others when a listener throws', () => {
    const errors: unknown[] = [];
    const { sessions } = library({ onListenerError: (error) => errors.push(error) });
    const told: string[] = [];
    sessions.on('created', () => {
      throw new Error('mine');
    });
    sessions.on('created', ({ session }) => told.push(session.id));
    const { id } = sessions.createSession('a', KEY);
    expect([told, errors]).toEqual([[id], [expect.objectContaining({ message: 'mine' })]]);
  });
});

it('a number is the idle time, beyond 8 hours too, and the clock is the real one', async () => {
  await using sessions = new SessionManager(24 * HOUR);
  const before = Date.now();
  const session = sessions.createSession('a', KEY);
  expect(session.createdAt).toBeGreaterThanOrEqual(before);
  expect(session.createdAt).toBeLessThanOrEqual(Date.now());
  expect(Math.round((session.expiresAt - session.createdAt) / 1000)).toBe(24 * 3600);
  expect(() => new SessionManager(0)).toThrowError(expect.objectContaining({ code: 'bad-option' }));
});

it('every public member of the manager is in docs/sessions.md', () => {
  const page = readFileSync(new URL('../../docs/sessions.md', import.meta.url), 'utf8');
  const members = Object.getOwnPropertyNames(SessionManager.prototype).filter(
    (name) => name !== 'constructor',
  );
  expect(members.length).toBeGreaterThan(15);
  expect(members.filter((name) => !page.includes(`\`${name}(`) && !page.includes(`\`${name}\``))).toEqual([]);
});
