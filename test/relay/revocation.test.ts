import { describe, expect, it } from 'vitest';
import type { AuditEventInput } from '../../src/audit/event.ts';
import type { RelayContext } from '../../src/relay/context.ts';
import { Revocation } from '../../src/relay/revocation.ts';
import type { PeerSessions } from '../../src/relay/sessions.ts';
import { Blocks } from '../../src/session/blocks.ts';
import { SessionDisposedError } from '../../src/session/errors.ts';
import type { Session } from '../../src/session/session.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import type { FakeClock } from '../harness/fake-clock.ts';
import { HOUR, MINUTE, setUp, WEB } from '../session/sessions.ts';

const CART = 'spiffe://shop.example/ns/shop/sa/cart';
const CUT_MS = 0.25;

/** Revocation over a real session manager; cutting a session takes a quarter of a millisecond. */
async function rig() {
  const { manager, open, clock } = setUp({ idleMs: 10 * HOUR, maxPerPeer: 5000 });
  const events: AuditEventInput[] = [];
  const context = {
    clock,
    monotonic: () => clock.monotonic(),
    recorder: { record: (event: AuditEventInput) => void events.push(event) },
    log: silentLogger,
  } as unknown as RelayContext;
  const cuts: Array<[id: string, mayReturn: boolean, blockedThen: boolean]> = [];
  const blocks = await Blocks.open(clock, undefined);
  const sessions = {
    manager,
    bar: (session: Session, mayReturn: boolean) => {
      cuts.push([session.id, mayReturn, blocks.has(session.peer)]);
      session.bar(mayReturn);
      return [];
    },
    cut: (session: Session) => {
      session.finishEnd();
      clock.advance(CUT_MS);
      return [{ remote: '127.0.0.1:1', records: 8, lastRecord: 7 }];
    },
  } as unknown as PeerSessions;
  const allowed: string[] = [];
  const revocation = new Revocation(context, sessions, blocks, (peer) => {
    allowed.push(blocks.has(peer) ? `${peer}, too early` : peer);
  });
  return { allowed, revocation, blocks, cuts, events, manager, open, clock };
}

/** Waits for a command, whose slices are turns of the clock. */
async function whole<T>(clock: FakeClock, command: Promise<T>): Promise<T> {
  let over = false;
  void command.finally(() => {
    over = true;
  });
  for (let turn = 0; !over && turn < 10_000; turn++) {
    clock.advance(0);
    await Promise.resolve();
  }
  return command;
}

describe('revoke', () => {
  it('cuts by id, once each, and names the ids that nobody has', async () => {
    const { revocation, open, cuts, manager } = await rig();
    const [a, b, c] = ['a', 'b', 'c'].map((id) => open({ id }));
    const receipt = await revocation.revoke({ ids: ['c', 'x', 'a', 'c'] }, { reason: 'drill' });
    expect(receipt.sessions.map(({ sessionId }) => sessionId)).toEqual(['c', 'a']);
    expect(receipt.unknown).toEqual(['x']);
    expect(cuts).toHaveLength(2);
    expect([a, b, c].map((session) => session?.endReason)).toEqual(['revoked', undefined, 'revoked']);
    expect(manager.getStats().closed).toEqual({ revoked: 2 });
  });

  it('has cut when it returns, before its promise is looked at', async () => {
    const { revocation, open } = await rig();
    const [one, two] = [open({ id: 'one' }), open({ id: 'two', peer: CART })];
    const receipt = revocation.revoke({ ids: ['one'] }, { reason: 'drill' });
    expect(one.endReason).toBe('revoked');
    const blocked = revocation.block(CART, 'drill');
    expect(two.endReason).toBe('revoked');
    await Promise.all([receipt, blocked]);
  });

  it('measures from the command on, for each session and for all', async () => {
    const { revocation, open, events } = await rig();
    for (let i = 0; i < 4; i++) open();
    const { sessions, cutMicros } = await revocation.revoke({ all: true }, { reason: 'drill' });
    expect(sessions.map((session) => session.cutMicros)).toEqual([250, 500, 750, 1000]);
    expect(cutMicros).toBe(1000);
    expect(events.map((event) => event.type === 'session.revoked' && event.cutMicros)).toEqual([
      250, 500, 750, 1000,
    ]);
  });

  it('takes 1,000 of 3,000 sessions by a filter, and leaves the others alone', async () => {
    const { revocation, open, manager, clock, events } = await rig();
    for (let i = 0; i < 1000; i++) open({ metadata: { tenant: 'acme' } });
    for (let i = 0; i < 1000; i++) open({ metadata: { tenant: 'other' } });
    clock.advance(MINUTE);
    for (let i = 0; i < 1000; i++) open({ metadata: { tenant: 'acme' } });
    const where = { metadata: { tenant: 'acme' }, olderThanMs: MINUTE, peer: WEB };
    const command = revocation.revoke({ where }, { reason: 'drill' });
    const { sessions, cutMicros } = await whole(clock, command);
    expect(sessions).toHaveLength(1000);
    expect(new Set(sessions.map(({ sessionId }) => sessionId)).size).toBe(1000);
    expect(events.filter(({ type }) => type === 'session.revoked')).toHaveLength(1000);
    expect(cutMicros).toBe(250_000);
    const left = manager.getSessionsByLastUsed();
    expect(left.filter(({ metadata }) => metadata.tenant === 'acme')).toHaveLength(1000);
    expect(left).toHaveLength(2000);
  });

  it('shuts all off before it cuts any, then cuts in slices: others have their turns, nobody comes back', async () => {
    const { revocation, open, manager, clock, events } = await rig();
    const sessions = Array.from({ length: 100 }, () => open({ metadata: { tenant: 'acme' } }));
    const other = open();
    const command = revocation.revoke({ where: { metadata: { tenant: 'acme' } } }, { reason: 'drill' });
    const cut = () => sessions.filter(({ state }) => state === 'disposed').length;
    expect(cut()).toBe(8); // a slice
    expect(sessions.filter(({ takesCalls }) => takesCalls)).toEqual([]);
    expect(sessions.filter(({ joinable }) => joinable)).toEqual([]);
    expect(sessions.filter(({ sessionKey }) => !sessionKey.wiped)).toEqual([]);
    expect(sessions.filter(({ id }) => manager.peek(id) !== undefined)).toEqual([]);
    const last = sessions.at(-1) as Session;
    expect(() => last.callStarted()).toThrow(SessionDisposedError);
    expect(() => last.attach()).toThrow(SessionDisposedError);
    // What happens to it until its turn changes nothing of its end.
    last.detach('truncated');
    last.end('evicted');
    expect(last.state).toBe('connected');
    const seen: number[] = [];
    for (let i = 0; i < 5; i++) {
      clock.after(0, () => seen.push(cut()));
      clock.advance(0);
    }
    expect(new Set(seen).size).toBe(5);
    const receipt = await whole(clock, command);
    expect(receipt.sessions.map(({ cutMicros }) => cutMicros)).toEqual(sessions.map((_, i) => (i + 1) * 250));
    expect(events.filter(({ type }) => type === 'session.revoked')).toHaveLength(100);
    expect(manager.getStats()).toMatchObject({ activeSessions: 1, closed: { revoked: 100 } });
    expect(other.takesCalls).toBe(true);
  });

  it('a shutdown waits for what is shut off and not yet cut', async () => {
    const { revocation, open, manager, clock, events } = await rig();
    for (let i = 0; i < 20; i++) open();
    const command = revocation.revoke({ all: true }, { reason: 'drill' });
    let written = -1;
    const end = manager.shutdown(MINUTE, async () => {
      written = events.length;
    });
    expect(manager.size).toBe(0);
    await whole(clock, command);
    await end;
    expect(written).toBe(20);
  });

  it('says in receipt and event what the session has been', async () => {
    const { revocation, open, events } = await rig();
    const session = open({ id: 'one', direction: 'outbound', serviceId: 'cart.shop', peer: CART });
    session.callStarted();
    session.callStarted();
    session.callEnded();
    Object.assign(session.counters, { recordsIn: 21, bytesIn: 300, bytesOut: 40 });
    const { sessions } = await revocation.revoke({ ids: ['one'] }, { reason: 'drill' });
    expect(sessions).toEqual([
      {
        sessionId: 'one',
        peer: CART,
        direction: 'outbound',
        serviceId: 'cart.shop',
        mayReturn: true,
        recordsAccepted: 21,
        connections: [{ remote: '127.0.0.1:1', records: 8, lastRecord: 7 }],
        callsCut: 1,
        cutMicros: 250,
      },
    ]);
    expect(events).toEqual([
      {
        type: 'session.revoked',
        sessionId: 'one',
        peer: CART,
        direction: 'outbound',
        reason: 'drill',
        mayReturn: true,
        calls: 2,
        callsCut: 1,
        bytesIn: 300,
        bytesOut: 40,
        recordsAccepted: 21,
        lastRecords: ['127.0.0.1:1 7'],
        cutMicros: 250,
      },
    ]);
  });

  it('with mayReturn false blocks the peers first, and cuts all that they have', async () => {
    const { revocation, open, cuts, blocks, manager, events } = await rig();
    for (const id of ['a', 'b']) open({ id });
    open({ id: 'c', peer: CART });
    const receipt = await revocation.revoke({ ids: ['a'] }, { mayReturn: false, reason: 'drill' });
    expect(receipt.sessions.map(({ sessionId, mayReturn }) => [sessionId, mayReturn])).toEqual([
      ['a', false],
      ['b', false],
    ]);
    // Of each: it may not return, and its peer was blocked already when it was cut.
    expect(cuts).toEqual([
      ['a', false, true],
      ['b', false, true],
    ]);
    expect([blocks.has(WEB), blocks.has(CART)]).toEqual([true, false]);
    expect(manager.size).toBe(1);
    expect(events.at(-1)).toMatchObject({
      type: 'peer.blocked',
      peer: WEB,
      sessions: 2,
      holdsUntil: 'restart',
    });
    // A session of a blocked peer may not return, whatever the command says.
    const late = open({ id: 'late' });
    expect((await revocation.revoke({ ids: ['late'] }, { reason: 'drill' })).sessions).toMatchObject([
      { mayReturn: false },
    ]);
    expect(late.farewell).toBe('revoked and blocked');
  });

  it('with mayReturn false and nobody to cut blocks nobody', async () => {
    const { revocation, blocks, events } = await rig();
    const receipt = await revocation.revoke({ ids: ['x'] }, { mayReturn: false, reason: 'drill' });
    expect(receipt).toEqual({
      reason: 'drill',
      sessions: [],
      unknown: ['x'],
      cutMicros: 0,
      blocked: [],
      hold: undefined,
    });
    expect([blocks.size, events.length]).toEqual([0, 0]);
  });

  it('is refused whole if the command makes no sense', async () => {
    const { revocation, open, blocks } = await rig();
    const session = open({ id: 'one' });
    const refusals = [
      () => revocation.revoke({ where: {} }, { reason: 'drill' }),
      () => revocation.revoke({ where: { olderThanMs: -1 } }, { reason: 'drill' }),
      () => revocation.revoke({ all: true }, { reason: 'x'.repeat(257) }),
      () => revocation.revoke({ all: true }, { reason: '', mayReturn: false }),
    ];
    for (const attempt of refusals) {
      expect(attempt).toThrow(expect.objectContaining({ code: expect.stringMatching(/^bad-/) }));
    }
    await expect(revocation.block('web', 'drill')).rejects.toMatchObject({ code: 'bad-peer' });
    expect([session.isDisposed, blocks.size]).toEqual([false, 0]);
  });
});

describe('a session that its peer revokes', () => {
  it.each(['revoked', 'revoked and blocked'])('ends for that reason, being told "%s"', async (why) => {
    const { open, ends } = setUp();
    const session = open();
    session.resumable = true;
    session.announced(why);
    session.detach('peer-closed');
    // It does not wait to be resumed.
    expect(ends()).toMatchObject([{ reason: 'revoked' }]);
    expect(session.revocation).toBeUndefined();
  });
});

describe('allow', () => {
  it('tells of a peer that was blocked, once it may come, so that it is dialled again', async () => {
    const { revocation, allowed } = await rig();
    await revocation.allow(WEB);
    expect(allowed).toEqual([]);
    await revocation.block(WEB, 'drill');
    await revocation.allow(WEB);
    expect(allowed).toEqual([WEB]);
  });
});
