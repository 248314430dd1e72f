import { describe, expect, it } from 'vitest';
import { Lifecycle, type Machine } from '../../src/lifecycle/lifecycle.ts';
import { MANAGER_MACHINE, SESSION_MACHINE } from '../../src/session/lifecycle.ts';
import { HOUR, SECOND, setUp } from './sessions.ts';

const ILLEGAL = expect.objectContaining({ code: 'illegal-transition' });

describe.each<[string, Machine<string>]>([
  ['session', SESSION_MACHINE],
  ['manager', MANAGER_MACHINE],
])('the states of a %s', (_name, machine) => {
  const table = machine.transitions;
  const states = Object.keys(table);

  it('change only as the table says', () => {
    for (const from of states) {
      for (const to of states) {
        const lifecycle = new Lifecycle('It', machine, from);
        if (table[from]!.includes(to)) {
          expect(lifecycle.to(to)).toBe(from);
          expect(lifecycle.state).toBe(to);
        } else {
          expect(() => lifecycle.to(to)).toThrowError(ILLEGAL);
          expect(lifecycle.state).toBe(from);
        }
      }
    }
  });

  it('all lead to the end, and out of it nothing', () => {
    expect(table.disposed).toEqual([]);
    for (const state of states) {
      const reached = new Set([state]);
      for (const from of reached) for (const to of table[from]!) reached.add(to);
      expect(reached).toContain('disposed');
    }
  });
});

it('a whole life is told in order, with reasons on the way down only', () => {
  const { clock, events, open } = setUp();
  const session = open();
  session.callStarted();
  session.callEnded();
  clock.advance(3 * SECOND);
  session.callStarted();
  session.callEnded();
  session.detach('truncated');
  expect(
    events.map((event) =>
      event.type === 'stateChanged' ? [event.from, event.to, event.reason] : event.type,
    ),
  ).toEqual([
    'managerStateChanged',
    'created',
    ['created', 'connecting', undefined],
    ['connecting', 'connected', undefined],
    'connected',
    ['connected', 'active', undefined],
    ['active', 'idle', undefined],
    ['idle', 'active', undefined],
    ['active', 'disconnecting', 'truncated'],
    ['disconnecting', 'disconnected', 'truncated'],
    'disconnected',
    ['disconnected', 'disposed', 'truncated'],
    'disposed',
  ]);
});

it('a busy session changes state once, not with every call', () => {
  const { clock, open, said } = setUp();
  const session = open();
  for (let n = 0; n < 1_000; n++) {
    session.callStarted();
    session.callEnded();
    clock.advance(100);
  }
  expect(said('stateChanged').map((event) => 'to' in event && event.to)).toEqual([
    'connecting',
    'connected',
    'active',
  ]);
});

describe('connections', () => {
  it('share a session, which ends with the last one, for its reason', () => {
    const { open, ends } = setUp();
    const session = open();
    session.attach();
    session.detach('truncated');
    expect([session.isDisposed, session.connections]).toEqual([false, 1]);
    session.detach('peer-closed');
    expect(ends()).toMatchObject([{ reason: 'peer-closed', outcome: 'closed' }]);
  });

  it('are at most eight', () => {
    const { open } = setUp();
    const session = open();
    for (let n = 1; n < 8; n++) session.attach();
    expect(() => session.attach()).toThrowError(expect.objectContaining({ code: 'too-many-connections' }));
    expect(session.connections).toBe(8);
  });

  it('must be attached before a call, and before they are detached', () => {
    const { manager, init } = setUp();
    const session = manager.create(init());
    expect(() => session.callStarted()).toThrowError(ILLEGAL);
    expect(session.openCalls).toBe(0);
    expect(() => session.detach('peer-closed')).toThrowError(
      expect.objectContaining({ code: 'unbalanced-detach' }),
    );
  });
});

describe('after its end a session', () => {
  it('refuses calls and connections, and lets those that it had wind up', () => {
    const { manager, open } = setUp();
    const session = open();
    session.callStarted();
    const told: string[] = [];
    session.listen({ disposed: (reason) => told.push(reason) });
    expect(manager.invalidateSession(session.id, 'revoked')).toBe(true);
    expect(manager.invalidateSession(session.id)).toBe(false);
    session.end('idle');
    expect(told).toEqual(['revoked']);
    expect(() => session.callStarted()).toThrowError(expect.objectContaining({ code: 'disposed' }));
    expect(() => session.attach()).toThrowError(expect.objectContaining({ code: 'disposed' }));
    session.callEnded();
    session.detach('local-closed');
    session.touch();
    session.drain('shutdown');
    expect(() => session.callEnded()).toThrowError(expect.objectContaining({ code: 'unbalanced-call' }));
    expect([session.state, session.openCalls, session.isDraining]).toEqual(['disposed', 0, false]);
  });

  it('is ended with its scope by await using', async () => {
    const { manager, open, ends } = setUp();
    {
      await using session = open();
      expect(manager.peek(session.id)).toBe(session);
    }
    expect(ends()).toMatchObject([{ reason: 'local-closed' }]);
  });
});

it('a listener may end the session at any moment, and a listener that throws harms nobody', () => {
  for (const moment of ['created', 'connecting', 'connected', 'active', 'disconnecting', 'disposed']) {
    const errors: unknown[] = [];
    const { manager, init, ends } = setUp({
      onEvent: (event) => {
        all.push(event.type);
        const state = event.type === 'stateChanged' ? event.to : event.type;
        if (state === moment && event.type !== 'managerStateChanged') {
          event.session.end('revoked');
          throw new Error(moment);
        }
      },
      onListenerError: (error) => errors.push(error),
    });
    const all: string[] = [];
    const session = manager.create(init());
    session.listen({
      disposed: () => {
        throw new Error('listener');
      },
    });
    try {
      session.attach();
      session.callStarted();
    } catch (error) {
      expect(error).toMatchObject({ code: 'disposed' });
    }
    session.end('revoked');
    expect([session.state, session.sessionKey.wiped, manager.size]).toEqual(['disposed', true, 0]);
    expect(all.filter((type) => type === 'disposed')).toHaveLength(1);
    expect(errors.length).toBeGreaterThan(0);
    expect(ends()).toEqual([]);
  }
});

describe('one timer', () => {
  it('serves all sessions, and none runs before the first or after the last shutdown', async () => {
    const { clock, manager, open } = setUp();
    expect(clock.pending).toBe(0);
    for (let n = 0; n < 50; n++) open();
    expect(clock.pending).toBe(1);
    await manager.shutdown(0);
    expect(clock.pending).toBe(0);
  });

  it('catches up after the process stood still for days', () => {
    const { clock, manager, open } = setUp({ cleanupIntervalMs: 40 * HOUR });
    for (let n = 0; n < 50; n++) open();
    clock.advance(40 * HOUR);
    expect(manager.size).toBe(0);
    open();
    clock.advance(40 * HOUR);
    expect(manager.size).toBe(0);
  });
});

describe('a session whose time is over', () => {
  it.each(['idle', 'expired', 'identity-expired'] as const)(
    'and whose peer says so first (%s) ends for that reason',
    (reason) => {
      const { open, ends } = setUp();
      const session = open();
      session.announced(reason);
      expect(session.isDraining).toBe(true);
      session.detach('local-closed');
      expect(ends()).toMatchObject([{ reason, outcome: 'expired' }]);
    },
  );

  it('and is cut all the same ends for the reason of the cut', () => {
    const { open, ends } = setUp();
    const session = open();
    session.announced('idle');
    session.detach('truncated');
    expect(ends()).toMatchObject([{ reason: 'truncated', outcome: 'closed' }]);
  });

  it('is not because a peer gives another reason', () => {
    const { open, ends } = setUp();
    const session = open();
    for (const why of ['', 'shutdown', 'evicted', 'stream identifiers used up']) session.announced(why);
    expect(session.isDraining).toBe(false);
    session.detach('peer-closed');
    expect(ends()).toMatchObject([{ reason: 'peer-closed', outcome: 'closed' }]);
  });
});

describe('whoever listens for the way down', () => {
  it('is told once: who comes meanwhile at once, who goes meanwhile not at all', () => {
    const { open } = setUp();
    const session = open();
    const told: string[] = [];
    const hear = (name: string) => ({
      draining: (reason: string) => void told.push(`${name} ${reason}`),
      disposed: (reason: string) => void told.push(`${name} over ${reason}`),
    });
    session.listen({
      draining: () => {
        remove();
        session.listen(hear('late'));
      },
    });
    const remove = session.listen(hear('gone'));
    session.listen(hear('there'));
    session.drain('expired');
    expect(told).toEqual(['late expired', 'there expired']);
    told.length = 0;
    session.end('expired');
    session.listen(hear('too late'));
    expect(told.sort()).toEqual(['late over expired', 'there over expired', 'too late over expired']);
  });

  it('hears no more of a drain in which another has ended the session', () => {
    const { open } = setUp();
    const session = open();
    const told: string[] = [];
    session.listen({
      draining: () => session.end('evicted'),
      disposed: (why) => void told.push(`first ${why}`),
    });
    session.listen({
      draining: () => void told.push('drain'),
      disposed: (why) => void told.push(`second ${why}`),
    });
    session.drain('idle');
    expect(told).toEqual(['first evicted', 'second evicted']);
  });
});
