import { once } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { NEW_TICKET, PING, PONG } from '../../src/transport/record.ts';
import { decodeTicket, type NewTicket, type Ticket } from '../../src/transport/ticket.ts';
import { makeTrust } from '../harness/trust.ts';
import { WatchedProvider } from '../noise/watchedprovider.ts';
import { gone, Rogue, shakeHands } from '../transport/wire.ts';
import { crypto } from '../transport/world.ts';
import { type Sides, sides } from './peersides.ts';

// What decides whether a session begins, goes on and may be resumed, between two sidecars as they are wired.

const MINUTE = 60_000;
const MESSAGE_FRAME = 1;
const RETRY_FRAME = 2;

/** A peer that has done its handshake by hand, and not sent a record yet. */
async function mute(
  rig: Sides,
  options: { tickets?: boolean; takeTicket?: () => Ticket } = {},
): Promise<{ rogue: Rogue; established: Established }> {
  const socket = await rig.raw();
  const established = await shakeHands(socket, rig.initiator(options));
  return { rogue: new Rogue(socket, established), established };
}

/** One that is up, with its two tickets. */
async function ticketed(rig: Sides): Promise<{ rogue: Rogue; tickets: Ticket[]; times: NewTicket[] }> {
  const { rogue, established } = await mute(rig, { tickets: true });
  rogue.send(PING, Buffer.alloc(8));
  const times: NewTicket[] = [];
  for (let n = 0; n < 2; n++) {
    const { type, payload } = await rogue.records.next();
    expect(type).toBe(NEW_TICKET);
    times.push(decodeTicket(payload) as NewTicket);
  }
  return { rogue, times, tickets: times.map(({ id }) => ({ id, resumable: established })) };
}

/** The type of the frame that answers a ticket. */
async function answerTo(rig: Sides, ticket: Ticket): Promise<number> {
  const socket = await rig.raw();
  socket.write(rig.initiator({ takeTicket: () => ticket }).start());
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return answer[0] as number;
}

/** A later bundle of the same trust domain, with another CA, and with the old one too if it is `kept`. */
async function nextBundle({ trust, clock }: Sides, kept: boolean): Promise<TrustBundle> {
  const { ca } = await makeTrust({ clock });
  const certificates = kept ? [trust.ca, ca] : [ca];
  return new TrustBundle({ trustDomain: trust.trustDomain, certificates, generation: 2 });
}

it('both sides count a session at the address of the other', async () => {
  const rig = await sides();
  const { session } = await rig.dial();
  const taken = await rig.came.next();
  expect([session.address, taken.session.address]).toEqual(['127.0.0.1', '127.0.0.1']);
});

describe.each(['web', 'greeter'] as const)('with a certificate of %s that ends in 30 minutes', (name) => {
  const short = { [name]: { ttlMs: 30 * MINUTE } };

  it('both sides end their session then, whatever it is doing', async () => {
    const rig = await sides(short);
    const dialled = await rig.dial();
    const { session: inbound } = await rig.came.next();
    const { notAfter } = rig[name].now.identity;
    for (const session of [dialled.session, inbound]) {
      session.callStarted();
      expect(session.notAfter).toBe(notAfter);
    }
    rig.clock.advance(notAfter - rig.clock.now() - 1_000);
    expect([dialled.session.endReason, inbound.endReason]).toEqual([undefined, undefined]);
    rig.clock.advance(2_000);
    expect([dialled.session.endReason, inbound.endReason]).toEqual(['identity-expired', 'identity-expired']);
  });

  it('no ticket says that it is good for longer', async () => {
    const rig = await sides(short);
    const left = Math.floor((rig[name].now.identity.notAfter - rig.clock.now()) / 1_000);
    const { times } = await ticketed(rig);
    expect(times.map(({ absoluteSeconds }) => absoluteSeconds)).toEqual([left, left]);
    expect(left).toBeLessThanOrEqual(1_800);
  });
});

it('resumptions are refused from four times the lag on that refuses full handshakes, and not before', async () => {
  const rig = await sides();
  const { tickets } = await ticketed(rig);
  rig.greeter.now.lagMs = 200;
  await expect(mute(rig)).rejects.toThrow('closed');
  const { established } = await mute(rig, { takeTicket: () => tickets[0] as Ticket });
  expect(established.mode.id).toBe(2);
  rig.greeter.now.lagMs = 200.5;
  await expect(mute(rig, { takeTicket: () => tickets[1] as Ticket })).rejects.toThrow('closed');
  const failed = await rig.greeter.said('handshake.failed');
  expect(failed.map((event) => 'reason' in event && event.reason)).toEqual(['overloaded', 'overloaded']);
  rig.greeter.now.lagMs = 0;
  expect(await answerTo(rig, tickets[1] as Ticket)).toBe(MESSAGE_FRAME);
});

describe('a peer that is blocked', () => {
  it('gets no further with a ticket than without; its tickets are worth what they were once it is allowed', async () => {
    const rig = await sides();
    const { tickets } = await ticketed(rig);
    const { session } = await rig.came.next();
    // As it is when the command that cuts its sessions has not come that far.
    rig.greeter.blocks.block([rig.web.now.identity.spiffeId], 'drill');
    expect(await answerTo(rig, tickets[0] as Ticket)).toBe(RETRY_FRAME);
    expect(rig.greeter.metrics.ticketsRefused.of('inbound', 'policy').value).toBe(1);
    expect(session.connections).toBe(1);
    await rig.greeter.blocks.allow(rig.web.now.identity.spiffeId);
    expect(await answerTo(rig, tickets[0] as Ticket)).toBe(MESSAGE_FRAME);
  });

  it('between its last message and its first record is refused, and nothing of its handshake is left', async () => {
    const watch = new WatchedProvider(crypto);
    const rig = await sides({ crypto: watch.crypto });
    const asked = vi.spyOn(rig.greeter.blocks, 'has');
    const { rogue } = await mute(rig);
    await expect.poll(() => asked.mock.calls.length, { timeout: 20_000 }).toBe(1); // message 3 has come
    rig.greeter.blocks.block([rig.web.now.identity.spiffeId], 'drill');
    rogue.send(PING, Buffer.alloc(8));
    await gone(rogue.socket);
    expect(await rig.greeter.said('handshake.failed')).toMatchObject([
      { reason: 'peer-blocked', state: 'open' },
    ]);
    expect(rig.greeter.sessions.manager.size).toBe(0);
    // The static key, which is the process's.
    expect(watch.left()).toEqual(['an ephemeral key']);
    await rig.greeter.sessions.close(0, async () => {});
    expect(watch.left()).toEqual([]);
  });
});

it('a connection that may not join its session any more leaves that and its key alone', async () => {
  const rig = await sides();
  const { rogue, tickets } = await ticketed(rig);
  const { session } = await rig.came.next();
  const second = await mute(rig, { takeTicket: () => tickets[0] as Ticket });
  rig.greeter.now.policyGeneration = 2;
  second.rogue.send(PING, Buffer.alloc(8));
  await gone(second.rogue.socket);
  expect(await rig.greeter.said('handshake.failed')).toMatchObject([{ reason: 'disposed', state: 'open' }]);
  expect([session.isDisposed, session.sessionKey.wiped, session.connections]).toEqual([false, false, 1]);
  expect(rogue.socket.closed).toBe(false);
  rig.greeter.now.policyGeneration = 1;
  expect(await answerTo(rig, tickets[1] as Ticket)).toBe(MESSAGE_FRAME);
});

it('a session that a listener ends as it connects hands out no tickets', async () => {
  const rig = await sides();
  const { manager } = rig.greeter.sessions;
  manager.on('connected', ({ session }) => void manager.invalidateSession(session.id));
  const { rogue } = await mute(rig, { tickets: true });
  rogue.send(PING, Buffer.alloc(8));
  const { session } = await rig.came.next();
  expect(session.endReason).toBe('revoked');
  const { type } = await rogue.records.next();
  expect(type).toBe(PONG);
});

describe('a trust bundle that changes while a handshake is under way', () => {
  it('and does not know the caller’s CA any more: the caller is refused', async () => {
    const rig = await sides();
    const { rogue } = await mute(rig, { tickets: true });
    rig.greeter.now.bundle = await nextBundle(rig, false);
    rogue.send(PING, Buffer.alloc(8));
    await gone(rogue.socket);
    expect(await rig.greeter.said('handshake.failed')).toMatchObject([
      { reason: 'untrusted-peer', state: 'open', direction: 'inbound' },
    ]);
    expect([rig.greeter.sessions.manager.getStats().created, rogue.records.length]).toEqual([0, 0]);
  });

  it('and does not know the called side’s CA any more: no call goes there', async () => {
    const rig = await sides();
    const bundle = await nextBundle(rig, false);
    const dialling = rig.dial();
    rig.web.now.bundle = bundle;
    await expect(dialling).rejects.toMatchObject({ code: 'handshake-refused' });
    expect(await rig.web.said('handshake.failed')).toMatchObject([
      { reason: 'untrusted-peer', state: 'open', direction: 'outbound' },
    ]);
    expect(rig.web.sessions.manager.getStats().created).toBe(0);
  });

  it('and still knows both: the session is good, its tickets are not', async () => {
    const rig = await sides();
    const { rogue, established } = await mute(rig, { tickets: true });
    rig.greeter.now.bundle = await nextBundle(rig, true);
    rogue.send(PING, Buffer.alloc(8));
    const { payload } = await rogue.records.next();
    const { session } = await rig.came.next();
    expect([session.id, session.isDisposed]).toEqual([established.session.id, false]);
    const { id } = decodeTicket(payload) as NewTicket;
    expect(await answerTo(rig, { id, resumable: established })).toBe(RETRY_FRAME);
    expect(rig.greeter.metrics.ticketsRefused.of('inbound', 'policy').value).toBe(1);
    // What is founded under it from now on is resumed.
    const { tickets } = await ticketed(rig);
    expect(await answerTo(rig, tickets[0] as Ticket)).toBe(MESSAGE_FRAME);
  });
});

describe('a certificate of ours that is replaced while a handshake is under way', () => {
  it('ends the session when it ends, and lets nobody resume it', async () => {
    const rig = await sides({ greeter: { ttlMs: 10 * MINUTE } });
    const shown = rig.greeter.now.identity;
    const { rogue, established } = await mute(rig, { tickets: true });
    rig.greeter.now.identity = await rig.trust.identity('greeter');
    rogue.send(PING, Buffer.alloc(8));
    const { payload } = await rogue.records.next();
    const { session } = await rig.came.next();
    expect(session.notAfter).toBe(shown.notAfter);
    const { id } = decodeTicket(payload) as NewTicket;
    expect(await answerTo(rig, { id, resumable: established })).toBe(RETRY_FRAME);
  });

  it('on the dialling side, too: the next connection is another session', async () => {
    const rig = await sides({ web: { ttlMs: 10 * MINUTE } });
    const shown = rig.web.now.identity;
    const rotated = await rig.trust.identity('web');
    const dialling = rig.dial();
    rig.web.now.identity = rotated;
    const first = await dialling;
    expect(first.session.notAfter).toBe(shown.notAfter);
    await expect.poll(() => first.session.resumable, { timeout: 20_000 }).toBe(true);
    const second = await rig.dial();
    expect(second.session.id).not.toBe(first.session.id);
    expect(second.channel.session.mode).toBe(0);
    await expect.poll(() => second.session.resumable, { timeout: 20_000 }).toBe(true);
    const third = await rig.dial();
    expect([third.session.id, third.channel.session.mode]).toEqual([second.session.id, 2]);
  });
});
