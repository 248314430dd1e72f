import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/crypto/secret.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { MINUTE, SECOND, setUp, WEB } from './sessions.ts';

it('the session key prints nowhere, and is wiped at the end', () => {
  const { open } = setUp();
  const bytes = Buffer.from('0123456789abcdef0123456789abcdef');
  const session = open({ sessionKey: new Secret(bytes), metadata: { tenant: 'blue' } });
  expect(session.sessionKey.bytes).toBe(bytes);
  const printed = [
    inspect(session, { depth: 9, showHidden: true }),
    JSON.stringify(session),
    String(session),
  ].join();
  expect(printed).toContain('blue');
  expect(printed).not.toMatch(/0123456789abcdef|30 31 32|\[secret\]|48,49,50/);
  session.end('local-closed');
  expect(bytes.equals(Buffer.alloc(32))).toBe(true);
  expect(() => session.sessionKey.bytes).toThrowError(expect.objectContaining({ code: 'key-wiped' }));
});

describe('create refuses', () => {
  it('an id that is taken, and leaves its owner alone', () => {
    const { manager, init, open } = setUp();
    const session = open();
    const second = init({ id: session.id });
    expect(() => manager.create(second)).toThrowError(expect.objectContaining({ code: 'duplicate-id' }));
    expect([second.sessionKey.wiped, session.sessionKey.wiped]).toEqual([true, false]);
    session.end('local-closed');
    manager.create(init({ id: session.id }));
  });

  it('a key of another length', () => {
    const { manager, init } = setUp();
    expect(() => manager.create(init({ sessionKey: new Secret(Buffer.alloc(31)) }))).toThrowError(
      expect.objectContaining({ code: 'bad-option' }),
    );
  });

  it.each([
    ['idleMs', 0],
    ['absoluteMs', -1],
    ['graceMs', -1],
    ['max', 0],
    ['max', 1.5],
    ['maxPerPeer', 0],
    ['maxConnections', 0],
    ['cleanupIntervalMs', Number.NaN],
  ])('to begin with %s of %d', (name, value) => {
    expect(() => new SessionManager({ clock: new FakeClock(), [name]: value })).toThrowError(
      expect.objectContaining({ code: 'bad-option', message: expect.stringContaining(name) }),
    );
  });
});

it('stats count what was and what is', () => {
  const { manager, open } = setUp({ max: 8 });
  const [a, b] = [open(), open(), open({ peer: `${WEB}2` })];
  a!.end('revoked');
  b!.detach('truncated');
  expect(manager.getStats()).toEqual({
    activeSessions: 1,
    maxSessions: 8,
    utilization: 1 / 8,
    peers: 1,
    created: 3,
    refused: 0,
    closed: { revoked: 1, truncated: 1 },
  });
});

describe('shutdown', () => {
  it('refuses new sessions, drains all and waits for those that are winding down', async () => {
    const { clock, manager, init, open, said, ends } = setUp();
    const [busy, rest] = [open(), open()];
    busy!.callStarted();
    const drained: string[] = [];
    busy!.listen({ draining: (reason) => drained.push(reason) });
    let done = false;
    const shutdown = manager.shutdown(10 * SECOND).then(() => {
      done = true;
    });
    expect(manager.state).toBe('shutdown');
    expect(drained).toEqual(['shutdown']);
    expect(said('draining')).toHaveLength(2);
    expect(rest!.isDisposed).toBe(true);
    expect(() => manager.create(init())).toThrowError(expect.objectContaining({ code: 'manager-shut-down' }));
    clock.advance(5 * SECOND);
    await Promise.resolve();
    expect([done, busy!.isDisposed]).toEqual([false, false]);
    busy!.callEnded();
    busy!.detach('peer-closed');
    await shutdown;
    expect(manager.state).toBe('disposed');
    expect(ends().map((event) => event.reason)).toEqual(['shutdown', 'shutdown']);
    expect(clock.pending).toBe(0);
  });

  it.each(['local-closed', 'peer-closed'] as const)(
    'is why a session ended whose connection was %s then, though its turn to be drained had not come',
    async (how) => {
      const { clock, manager, open, ends } = setUp();
      const [first, second] = [open(), open()] as const;
      // What the first says of its end takes a slice.
      first.listen({ draining: () => clock.advance(5) });
      second.listen({ draining: () => undefined });
      const shutdown = manager.shutdown(MINUTE);
      expect([first.isDraining, second.isDraining]).toEqual([true, false]);
      second.detach(how);
      first.detach('truncated');
      await shutdown;
      expect(ends().map(({ reason }) => reason)).toEqual(['shutdown', 'truncated']);
    },
  );

  it('ends a session that nobody winds down once its last call has ended', async () => {
    const { clock, manager, open } = setUp();
    const session = open();
    session.callStarted();
    const shutdown = manager.shutdown(MINUTE);
    clock.advance(5 * SECOND);
    expect(session.isDisposed).toBe(false);
    session.callEnded();
    clock.advance(SECOND);
    expect(session.isDisposed).toBe(true);
    await shutdown;
  });

  it('cuts what is left at the deadline, or at once when asked again', async () => {
    for (const again of [false, true]) {
      const { clock, manager, open, ends } = setUp();
      const session = open();
      session.callStarted();
      session.listen({ draining: () => undefined });
      const shutdown = manager.shutdown(10 * SECOND);
      if (again) void manager.shutdown(0);
      else clock.advance(10 * SECOND);
      await shutdown;
      expect(ends()).toMatchObject([{ reason: 'shutdown', outcome: 'closed' }]);
      expect(session.sessionKey.wiped).toBe(true);
      expect(clock.pending).toBe(0);
    }
  });

  it('of a manager without sessions is done at once, also by await using', async () => {
    const clock = new FakeClock();
    {
      await using manager = new SessionManager({ clock });
      expect(manager.state).toBe('inactive');
    }
    const used = setUp();
    used.open();
    await used.manager[Symbol.asyncDispose]();
    await used.manager.shutdown();
    expect([used.manager.state, used.manager.size, used.clock.pending]).toEqual(['disposed', 0, 0]);
  });
});
