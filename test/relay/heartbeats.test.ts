import { describe, expect, it } from 'vitest';
import { sessionPage } from '../../src/admin/sessionpage.ts';
import { settled } from './memorywire.ts';
import { sides } from './peersides.ts';

// Design section 6: calls slide a session's idle end; heartbeats and looks do not.

const IDLE_MS = 60_000;
const STEP_MS = 500;

/** A session between two sides over a real socket, on a clock that both share and that stands still. */
async function session() {
  const rig = await sides({
    idleMs: IDLE_MS,
    records: { heartbeatMs: 1_000, heartbeatTimeoutMs: 2_000 },
  });
  const { clock, web, greeter } = rig;
  const dialled = await rig.dial();
  const both = [
    { sessions: web.sessions, ...dialled },
    { sessions: greeter.sessions, ...(await rig.came.next()) },
  ] as const;
  /** Two seconds later each side has heard something of the other. */
  const beat = async (): Promise<void> => {
    const before = both.map(({ channel }) => channel.received);
    for (let i = 0; i < 4; i++) {
      clock.advance(STEP_MS);
      await settled();
    }
    await expect
      .poll(() => both.every(({ channel }, i) => channel.received > (before[i] as number)), {
        timeout: 20_000,
      })
      .toBe(true);
  };
  return { clock, both, beat };
}

describe('a session without calls', () => {
  it('ends idle on time, however often its connection’s heart beats and whoever looks at it', async () => {
    const { clock, both, beat } = await session();
    const born = clock.monotonic();
    const before = both.map(({ session: { lastActivity, expiresAt } }) => [+lastActivity, +expiresAt]);
    while (clock.monotonic() - born < IDLE_MS - 4_000) {
      await beat();
      for (const { sessions, session } of both) {
        const { manager } = sessions;
        expect(manager.peek(session.id)).toBe(session);
        expect(manager.getSessionsByLastUsed()).toEqual([session]);
        expect(manager.getIdleSessions(0)).toBeDefined();
        const request = {
          filter: null,
          order: 'LAST_USED',
          descending: false,
          pageSize: 0,
          pageToken: '',
        };
        expect(sessionPage(manager.getSessionsByLastUsed(), request as never, clock.now()).sessions).toEqual([
          session,
        ]);
      }
    }
    expect(both.map(({ session: { lastActivity, expiresAt } }) => [+lastActivity, +expiresAt])).toEqual(
      before,
    );
    expect(both.map(({ session }) => session.isDisposed)).toEqual([false, false]);
    expect(both.every(({ channel }) => channel.received > 25)).toBe(true);
    clock.advance(born + IDLE_MS + 1_000 - clock.monotonic());
    expect(both.map(({ session }) => session.endReason)).toEqual(['idle', 'idle']);
  });

  it('lives on if there is one, at the end where it was', async () => {
    const { clock, both } = await session();
    clock.advance(IDLE_MS - 2_000);
    both[0].session.callStarted();
    both[0].session.callEnded();
    clock.advance(3_000);
    expect(both.map(({ session }) => session.endReason)).toEqual([undefined, 'idle']);
    clock.advance(IDLE_MS - 2_000);
    expect(both[0].session.endReason).toBe('idle');
  });
});
