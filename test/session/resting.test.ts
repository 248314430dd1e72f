import { describe, expect, it } from 'vitest';
import { REST } from '../../src/session/event.ts';
import { CLOSE_REASONS } from '../../src/transport/errors.ts';
import { HOUR, MINUTE, SECOND, setUp } from './sessions.ts';

/** A session that can be resumed and whose only connection has gone. */
function resting(reason: Parameters<typeof REST.hasOwnProperty>[0] = 'truncated', options = {}) {
  const set = setUp(options);
  const session = set.open();
  session.resumable = true;
  session.detach(reason as 'truncated');
  return { ...set, session };
}

describe('a session that can be resumed', () => {
  it.each(CLOSE_REASONS)(
    'after its last connection ended by %s rests as the table says, or ends',
    (reason) => {
      const { session, ends } = resting(reason);
      const state = REST[reason];
      expect(session.state).toBe(state ?? 'disposed');
      expect(session.sessionKey.wiped).toBe(state === undefined);
      expect(ends().map((end) => end.reason)).toEqual(state === undefined ? [reason] : []);
    },
  );

  it('comes back: connecting, connected, with its id, its key and its age', () => {
    const { clock, manager, session, said, events } = resting('peer-closed');
    clock.advance(10 * MINUTE);
    expect(manager.peek(session.id)).toBe(session);
    events.length = 0;
    session.connecting();
    session.attach();
    session.callStarted();
    expect(said('stateChanged')).toMatchObject([
      { from: 'disconnected', to: 'connecting' },
      { from: 'connecting', to: 'connected' },
      { from: 'connected', to: 'active' },
    ]);
    expect(events.every((event) => !('reason' in event))).toBe(true);
    expect(session.createdAt).toBe(clock.now() - 10 * MINUTE);
    expect(session.sessionKey.wiped).toBe(false);
    session.callEnded();
    clock.advance(8 * HOUR);
    expect(session.isDisposed).toBe(true);
  });

  it('says how often it has been resumed, and when last', () => {
    const { clock, session } = resting('peer-closed');
    expect([session.resumptions, session.resumedAt]).toEqual([0, undefined]);
    clock.advance(MINUTE);
    session.attach();
    session.resumed();
    clock.advance(MINUTE);
    session.attach();
    session.resumed();
    expect([session.resumptions, session.resumedAt]).toEqual([2, clock.now()]);
    expect(session.toJSON()).toMatchObject({ resumptions: 2, resumedAt: clock.now() });
  });

  it('that broke is in error, from which a reconnect may fail and succeed', () => {
    const { session, said } = resting('truncated');
    session.connecting();
    session.connectFailed('socket-error');
    expect(session.state).toBe('error');
    session.connecting();
    session.attach();
    expect(session.state).toBe('connected');
    expect(said('error')).toMatchObject([{ reason: 'truncated' }, { reason: 'socket-error' }]);
    expect(said('connected')).toHaveLength(2);
  });

  it('rests until it has been idle for too long, and takes no calls meanwhile', () => {
    const { clock, session, ends } = resting();
    expect(() => session.callStarted()).toThrowError(expect.objectContaining({ code: 'illegal-transition' }));
    clock.advance(HOUR - SECOND);
    expect([session.state, session.isDisposed]).toEqual(['error', false]);
    clock.advance(2 * SECOND);
    expect(ends()).toMatchObject([{ reason: 'idle', outcome: 'expired' }]);
    expect(session.sessionKey.wiped).toBe(true);
  });

  it('ends when nothing is left to resume it with, for the reason for which its connection went', () => {
    const { session, ends } = resting('peer-closed');
    session.resumable = false;
    expect(ends()).toMatchObject([{ reason: 'peer-closed', outcome: 'closed' }]);
    session.resumable = false;
    expect(ends()).toHaveLength(1);
  });

  it('ends too when that happens while it is being resumed', () => {
    const { session, ends, said } = resting('truncated');
    session.connecting();
    session.resumable = false;
    expect(ends()).toMatchObject([{ reason: 'truncated' }]);
    expect(() => session.attach()).toThrowError(expect.objectContaining({ code: 'disposed' }));
    expect(said('disconnected')).toHaveLength(1);
  });

  it('does not end with its tickets while it has a connection', () => {
    const { open } = setUp();
    const session = open();
    session.resumable = true;
    session.resumable = false;
    expect(session.state).toBe('connected');
    session.detach('truncated');
    expect(session.isDisposed).toBe(true);
  });

  it('does not rest when it drains', () => {
    const { open, ends } = setUp();
    const session = open();
    session.resumable = true;
    session.drain('expired');
    expect(session.joinable).toBe(false);
    session.detach('local-closed');
    expect(ends()).toMatchObject([{ reason: 'expired' }]);
  });

  it('gives its place up when another needs it', () => {
    const { session, open, ends } = resting('truncated', { max: 1 });
    open();
    expect(ends()).toMatchObject([{ session, reason: 'evicted' }]);
  });

  it('goes at once at a shutdown', async () => {
    const { manager, session } = resting();
    await manager.shutdown(MINUTE);
    expect([session.isDisposed, session.sessionKey.wiped]).toEqual([true, true]);
  });

  it('may be ended by a listener at any moment of coming to rest and of coming back', () => {
    for (const moment of ['disconnecting', 'disconnected', 'error', 'connecting', 'connected']) {
      for (const reason of ['peer-closed', 'truncated'] as const) {
        let armed = false;
        let reached = false;
        const { open, manager } = setUp({
          onEvent: (event) => {
            if (event.type === 'disposed') disposed++;
            if (!armed || event.type !== 'stateChanged' || event.to !== moment) return;
            reached = true;
            event.session.end('revoked');
          },
        });
        let disposed = 0;
        const session = open();
        session.resumable = true;
        armed = true;
        session.detach(reason);
        if (!session.isDisposed) {
          session.attach();
          session.detach('peer-closed');
        }
        // All but one are come by; a connection that was closed in order leaves no error.
        expect(reached).toBe(!(moment === 'error' && reason === 'peer-closed'));
        const after = reached ? ['disposed', 1, 0] : ['disconnected', 0, 1];
        expect([moment, reason, session.state, disposed, manager.size]).toEqual([moment, reason, ...after]);
      }
    }
  });
});

it('a session that cannot be resumed ends when it cannot be connected', () => {
  const { manager, init, ends } = setUp();
  const session = manager.create(init());
  session.connecting();
  session.connectFailed('socket-error');
  expect(ends()).toMatchObject([{ reason: 'socket-error', outcome: 'closed' }]);
});

it('listeners of a connection that has gone are told nothing', () => {
  const { session } = resting();
  const told: string[] = [];
  const stop = session.listen({
    draining: (reason) => told.push(reason),
    disposed: (reason) => told.push(reason),
  });
  stop();
  session.attach();
  session.listen({
    draining: (reason) => told.push(`${reason}, drain`),
    disposed: (reason) => told.push(`${reason}, end`),
  });
  session.drain('expired');
  session.end('expired');
  expect(told).toEqual(['expired, drain', 'expired, end']);
});
