import { beforeAll, describe, expect, it } from 'vitest';
import { cryptoProvider } from '../../src/crypto/provider.ts';
import { Secret } from '../../src/crypto/secret.ts';
import type { LocalIdentity } from '../../src/identity/local.ts';
import type { PeerIdentity } from '../../src/identity/peer.ts';
import { Resumption } from '../../src/relay/resumption.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { XX } from '../../src/transport/mode.ts';
import type { NewTicket } from '../../src/transport/ticket.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust } from '../harness/trust.ts';
import { HOUR, MINUTE, SECOND, setUp, WEB } from '../session/sessions.ts';

let identity: LocalIdentity;
let rotated: LocalIdentity;
beforeAll(async () => {
  const trust = await makeTrust({ clock: new FakeClock() });
  [identity, rotated] = await Promise.all([trust.identity('greeter'), trust.identity('greeter')]);
});

const SPOT = 'greeter.shop 10.1.2.3 15008';

/** A side with one session whose handshake is done: what decides on its resumption. */
function side(role: 'initiator' | 'responder', options: Partial<SessionManagerOptions> = {}) {
  const set = setUp(options);
  const now = { identity, bundleGeneration: 1, policyGeneration: 1, mayResume: true };
  const metrics = new Metrics({ version: 'test' });
  const resumption = new Resumption({
    crypto: cryptoProvider('native'),
    clock: set.clock,
    manager: set.manager,
    metrics,
    session: { idleMs: HOUR, absoluteMs: 8 * HOUR },
    circumstances: () => now,
    mayResume: () => now.mayResume,
  });
  set.manager.on('disposed', ({ session }) => resumption.ended(session.id));
  const key = Secret.copyOf(Buffer.alloc(32, 7));
  const session = set.open({ sessionKey: key, direction: role === 'responder' ? 'inbound' : 'outbound' });
  const sent: NewTicket[] = [];
  /** A channel as far as resumption looks at it. */
  const connect = () => {
    const fake = {
      role,
      session: { id: session.id },
      peer: { spiffeId: WEB } as PeerIdentity,
      resumable: {
        session: { id: session.id, key },
        peer: { spiffeId: WEB },
        identity,
        bundleGeneration: 1,
        foundedIn: XX,
      },
      ticketsDue: role === 'responder' ? 2 : 0,
      onTicket: undefined as ((ticket: NewTicket) => void) | undefined,
      sendTicket(ticket: NewTicket) {
        fake.ticketsDue--;
        sent.push(ticket);
      },
    };
    return { fake, channel: fake as unknown as SecureChannel };
  };
  const first = connect();
  resumption.founded(first.channel, session, role === 'initiator' ? SPOT : undefined);
  resumption.exchange(first.channel, session);
  const give = (n: number): void =>
    first.fake.onTicket?.({ id: Buffer.alloc(16, n), idleSeconds: 3_600, absoluteSeconds: 28_800 });
  const refused = (reason: string): number =>
    metrics.ticketsRefused.of(role === 'responder' ? 'inbound' : 'outbound', reason).value;
  return { ...set, now, resumption, session, sent, connect, give, refused };
}

describe('a responder', () => {
  it('sends two tickets with what is left of the session, and its session may rest', () => {
    const { sent, session, resumption, connect, clock } = side('responder');
    expect(sent.map(({ idleSeconds, absoluteSeconds }) => [idleSeconds, absoluteSeconds])).toEqual([
      [3_600, 28_800],
      [3_600, 28_800],
    ]);
    session.detach('truncated');
    expect([session.state, session.sessionKey.wiped]).toEqual(['error', false]);
    clock.advance(10 * MINUTE);
    session.attach();
    resumption.exchange(connect().channel, session);
    expect(sent.slice(2).map((ticket) => [ticket.idleSeconds, ticket.absoluteSeconds])).toEqual([
      [3_000, 28_200],
      [3_000, 28_200],
    ]);
  });

  it('finds the session of a ticket until that is used, and keeps four of a session', () => {
    const { resumption, sent, session, connect, refused } = side('responder');
    const found = (n: number): boolean => resumption.find((sent[n] as NewTicket).id) !== undefined;
    expect([found(0), found(0)]).toEqual([true, true]);
    resumption.redeem((sent[0] as NewTicket).id);
    expect([found(0), found(1)]).toEqual([false, true]);
    expect(refused('unknown')).toBe(1);
    for (let n = 0; n < 2; n++) resumption.exchange(connect().channel, session);
    expect(sent.map((_, n) => found(n))).toEqual([false, false, true, true, true, true]);
  });

  type Side = ReturnType<typeof side>;
  const changes: [string, (side: Side) => void][] = [
    ['revoked', ({ session }) => session.bar(true)],
    ['expired: idle', ({ clock }) => clock.advance(HOUR)],
    [
      'expired: too old',
      ({ clock, session }) => {
        session.callStarted();
        clock.advance(8 * HOUR);
      },
    ],
    ['draining', ({ session }) => session.drain('expired')],
    ['evicted', ({ session }) => session.end('evicted')],
    [
      'full',
      ({ session }) => {
        while (session.connections < 8) session.attach();
      },
    ],
    ['of an earlier certificate of ours', ({ now }) => Object.assign(now, { identity: rotated })],
    ['of an earlier trust bundle', ({ now }) => Object.assign(now, { bundleGeneration: 2 })],
    ['of an earlier policy', ({ now }) => Object.assign(now, { policyGeneration: 2 })],
    ['one of a peer that is blocked', ({ now }) => Object.assign(now, { mayResume: false })],
  ];

  it.each(changes)('refuses a session that is %s, before and after the handshake', (_what, change) => {
    const responder = side('responder');
    const { resumption, sent, connect } = responder;
    const id = (sent[0] as NewTicket).id;
    expect(resumption.find(id)).toBeDefined();
    expect(resumption.join(connect().channel)).toBe(responder.session);
    change(responder);
    expect(resumption.find(id)).toBeUndefined();
    expect(responder.refused('unknown') + responder.refused('policy')).toBe(1);
    expect(() => resumption.join(connect().channel)).toThrowError(
      expect.objectContaining({ code: 'disposed' }),
    );
  });

  it('does not wait for the clean-up to see that the time of a session is over', () => {
    const { resumption, sent, session, clock } = side('responder', { cleanupIntervalMs: 40 * HOUR });
    clock.advance(HOUR - 1);
    expect(resumption.find((sent[0] as NewTicket).id)).toBeDefined();
    clock.advance(1);
    expect(session.isDisposed).toBe(false);
    expect(resumption.find((sent[0] as NewTicket).id)).toBeUndefined();
    expect(session.isDisposed).toBe(true);
  });

  it('forgets everything of a session that has ended', () => {
    const { resumption, sent, session, refused } = side('responder');
    session.end('revoked');
    for (const { id } of sent) expect(resumption.find(id)).toBeUndefined();
    expect(refused('unknown')).toBe(2);
  });
});

describe('an initiator', () => {
  it('begins a session without the tickets of an earlier one, whatever it is called', () => {
    const { resumption, give, session, open, connect } = side('initiator');
    give(1);
    session.end('truncated');
    const again = open({
      id: session.id,
      direction: 'outbound',
      sessionKey: Secret.copyOf(Buffer.alloc(32)),
    });
    resumption.founded(connect().channel, again, SPOT);
    expect(resumption.take(SPOT)).toBeUndefined();
  });

  it('takes tickets out, the newest first, for the spot where they are good', () => {
    const { resumption, give, session } = side('initiator');
    expect(resumption.take(SPOT)).toBeUndefined();
    for (const n of [1, 2]) give(n);
    expect(resumption.take('elsewhere')).toBeUndefined();
    const ids = [1, 2].map(() => resumption.take(SPOT)?.ticket.id[0]);
    expect(ids).toEqual([2, 1]);
    expect([resumption.take(SPOT), session.isDisposed]).toEqual([undefined, false]);
  });

  it('ends a session that rests when no ticket is left', () => {
    const { resumption, give, session, ends } = side('initiator');
    give(1);
    session.detach('truncated');
    expect(resumption.take(SPOT)?.session).toBe(session);
    expect(session.isDisposed).toBe(false);
    expect(resumption.take(SPOT)).toBeUndefined();
    expect(ends()).toMatchObject([{ reason: 'truncated' }]);
  });

  it('ends a session that rests when the peer does not know it any more, and none that has connections', () => {
    for (const [rests, disposed] of [
      [true, true],
      [false, false],
    ]) {
      const { resumption, give, session, refused } = side('initiator');
      for (const n of [1, 2]) give(n);
      if (rests) session.detach('truncated');
      resumption.declined(resumption.take(SPOT) as NonNullable<ReturnType<Resumption['take']>>);
      expect([session.isDisposed, session.resumable, refused('declined')]).toEqual([disposed, !disposed, 1]);
    }
  });

  it('tries no ticket after the time that the responder gave it', () => {
    const { resumption, session, clock } = side('initiator');
    const fake = { role: 'initiator', onTicket: (_ticket: NewTicket): void => {} };
    resumption.exchange(fake as unknown as SecureChannel, session);
    fake.onTicket({ id: Buffer.alloc(16), idleSeconds: 10, absoluteSeconds: 100 });
    clock.advance(10 * SECOND);
    expect(resumption.take(SPOT)).toBeUndefined();
  });

  it('keeps no ticket of a session that has ended', () => {
    const { resumption, give, session } = side('initiator');
    session.end('revoked');
    give(1);
    expect(resumption.take(SPOT)).toBeUndefined();
  });

  it('resumes no session whose successor is due', () => {
    const { resumption, give, session, clock } = side('initiator', { idleMs: 8 * HOUR });
    session.callStarted();
    give(1);
    clock.advance(7 * HOUR);
    expect([session.isDisposed, resumption.take(SPOT)]).toEqual([false, undefined]);
  });
});
