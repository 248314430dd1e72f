import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { sessionPage } from '../../src/admin/sessionpage.ts';
import type { PeerConnection } from '../../src/relay/peerconnections.ts';
import { PeerSessions } from '../../src/relay/sessions.ts';
import { Blocks } from '../../src/session/blocks.ts';
import type { Session } from '../../src/session/session.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { DEFAULT_HANDSHAKE_LIMITS, DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust } from '../harness/trust.ts';
import { crypto } from '../transport/world.ts';
import { contextOn, settled } from './memorywire.ts';

// Design section 6: calls slide a session's idle end; heartbeats and looks do not.

const IDLE_MS = 60_000;
const STEP_MS = 500;

const ends: Array<() => unknown> = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A session between two sides over a real socket, on a clock that both share and that stands still. */
async function session() {
  const clock = new FakeClock();
  const trust = await makeTrust({ clock });
  const side = async (name: string): Promise<PeerSessions> => {
    const identity = await trust.identity(name);
    return new PeerSessions(contextOn(clock), {
      crypto,
      identity: () => identity,
      bundle: () => trust.bundle,
      handshake: DEFAULT_HANDSHAKE_LIMITS,
      records: { ...DEFAULT_RECORD_LIMITS, heartbeatMs: 1_000, heartbeatTimeoutMs: 2_000 },
      postQuantum: 'off',
      session: { idleMs: IDLE_MS, absoluteMs: 8 * 3_600_000, graceMs: 0, max: 10, maxPerPeer: 10 },
      instance: Buffer.alloc(8),
      lagMs: () => 0,
      blocks: await Blocks.open(clock, undefined),
      onSessionEnded: () => {},
    });
  };
  const [web, greeter] = await Promise.all([side('web'), side('greeter')]);
  const server = createServer();
  ends.push(() => void server.close());
  const came = new Promise<PeerConnection>((resolve) => {
    const acceptor = greeter.acceptor(resolve);
    ends.push(() => acceptor.close());
    server.on('connection', (socket) => acceptor.accept(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { spiffeId } = await trust.identity('greeter');
  const dialled = await web.dial('greeter.shop', '127.0.0.1', port, spiffeId);
  const inbound = await came;
  const both = [
    { sessions: web, session: dialled.session as Session, channel: dialled.wire as SecureChannel },
    { sessions: greeter, session: inbound.session, channel: inbound.channel },
  ] as const;
  for (const { channel } of both) {
    channel.onClose = () => {};
    channel.onData = () => {};
    ends.push(() => channel.destroy('refused'));
  }
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
