import { describe, expect, it } from 'vitest';
import { ALERT, CLOSE, DATA, KEY_UPDATE, NEW_TICKET, PING, PONG } from '../../src/transport/record.ts';
import { decodeTicket, encodeTicket, type Ticket } from '../../src/transport/ticket.ts';
import { Mulberry } from '../harness/seeded.ts';
import { Office } from '../transport/office.ts';
import { gone, Rogue, shakeHands } from '../transport/wire.ts';
import { type End, type Side, type Sides, sides } from './peersides.ts';

// A peer whose certificate is good and whose manners are not: whatever it does, a side keeps its books.

const SCRIPTS = 250;
/** More than its address may begin in the first second. */
const EVERY = 40;

type Step = (rogue: Rogue, dice: Mulberry) => void;

const STEPS: readonly Step[] = [
  (rogue) => rogue.send(PING, Buffer.alloc(8)),
  (rogue) => rogue.send(DATA, Buffer.from('octets')),
  (rogue) => rogue.send(DATA),
  (rogue) => rogue.send(PONG, Buffer.alloc(8)),
  (rogue) => rogue.send(CLOSE),
  (rogue) => rogue.send(CLOSE, Buffer.from('with a payload')),
  (rogue) => rogue.send(ALERT, Buffer.of(1)),
  (rogue) => rogue.send(ALERT),
  (rogue) => rogue.send(NEW_TICKET, Buffer.alloc(24)),
  (rogue) => rogue.send(KEY_UPDATE, Buffer.of(1)),
  (rogue) => rogue.send(0x80, Buffer.alloc(100)),
  (rogue) => rogue.send(0x00),
  (rogue) => void rogue.socket.write(rogue.writer.keyUpdate()),
  (rogue, dice) =>
    void rogue.socket.write(rogue.sealed(DATA, Buffer.alloc(2_000)).subarray(0, dice.below(2_000))),
  (rogue) => void rogue.socket.end(),
  (rogue) => void rogue.socket.resetAndDestroy(),
];

/** What the metrics say of connections, all together. */
const counted = ({ metrics }: Side, direction: 'inbound' | 'outbound' = 'inbound'): number =>
  ['connecting', 'handshaking', 'open', 'draining'].reduce(
    (sum, state) => sum + metrics.peerConnections.of(direction, state).value,
    metrics.connectionsOpen.of('peer').value,
  );

/** One connection, by a ticket if there is one, that does some steps and is gone. */
async function misbehave(rig: Sides, dice: Mulberry, tickets: Ticket[]): Promise<void> {
  const socket = await rig.raw();
  const ticket = dice.below(2) === 0 ? tickets.pop() : undefined;
  const machine = rig.initiator(ticket === undefined ? { tickets: true } : { takeTicket: () => ticket });
  const rogue = new Rogue(socket, await shakeHands(socket, machine));
  const { established } = rogue;
  rogue.onRecord = (type, payload) => {
    const found = type === NEW_TICKET ? decodeTicket(payload) : undefined;
    if (found !== undefined) tickets.push({ id: found.id, resumable: established });
  };
  if (dice.below(3) > 0) rogue.send(PING, Buffer.alloc(8)); // it is up, then
  for (let n = dice.below(4); n >= 0 && !socket.destroyed; n--) {
    dice.pick(STEPS)(rogue, dice);
    if (dice.below(2) === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  if (dice.below(2) === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  socket.destroy();
  await gone(socket);
}

describe('a peer without manners', () => {
  it.each([1, 2])(
    'leaves no connection, no session that nobody can end, and no bug behind: seed %i',
    async (seed) => {
      const rig = await sides();
      const dice = new Mulberry(seed);
      const tickets: Ticket[] = [];
      for (let n = 0; n < SCRIPTS; n++) {
        if (n % EVERY === 0) rig.clock.advance(1_000);
        await misbehave(rig, dice, tickets);
      }
      await expect.poll(() => counted(rig.greeter), { timeout: 20_000 }).toBe(0);
      const { manager } = rig.greeter.sessions;
      expect(manager.getSessionsByLastUsed(({ connections }) => connections > 0)).toEqual([]);
      const closed = await rig.greeter.said('connection.closed');
      const failed = await rig.greeter.said('handshake.failed');
      const reasons = [...closed, ...failed].map((event) => ('reason' in event ? event.reason : ''));
      expect(new Set(reasons)).not.toContain('internal-error');
      expect(closed.length + failed.length).toBe(SCRIPTS);
      expect(closed).toHaveLength((await rig.greeter.said('connection.opened')).length);
      expect(await rig.greeter.said('session.resumed')).not.toEqual([]);
      // What rests ends, with its tickets.
      rig.clock.advance(3_600_000);
      expect(manager.size).toBe(0);
      expect(await rig.greeter.said('session.created')).toHaveLength(manager.getStats().created);
    },
  );

  it.each([3, 4])('whom we have called does not either: seed %i', async (seed) => {
    const rig = await sides();
    const dice = new Mulberry(seed);
    const office = new Office();
    const port = await rig.listen((socket) => {
      socket.on('error', () => {});
      const machine = rig.responder(office);
      socket.on('data', function shake(chunk: Buffer) {
        const step = machine.receive(chunk);
        if (step?.send !== undefined) socket.write(step.send);
        if (step?.established === undefined) return;
        socket.off('data', shake);
        const rogue = new Rogue(socket, step.established, step.rest);
        const waits = dice.below(3) > 0 ? rogue.records.next() : Promise.resolve(); // for its turn
        void waits.then(() => {
          for (let n = dice.below(4); n > 0; n--) {
            const { id } = office.issue(rogue.established, rogue.established);
            rogue.send(NEW_TICKET, encodeTicket({ id, idleSeconds: 60, absoluteSeconds: dice.below(600) }));
          }
          for (let n = dice.below(4); n >= 0 && !socket.destroyed; n--) dice.pick(STEPS)(rogue, dice);
          setTimeout(() => socket.destroy(), dice.below(3));
        });
      });
    });
    for (let n = 0; n < SCRIPTS / 2; n++) {
      const end = await rig.dial(port).catch((error: unknown) => error);
      if (end instanceof Error) expect(end).toMatchObject({ code: 'handshake-refused' });
      else await expect.poll(() => (end as End).channel.closed, { timeout: 20_000, interval: 2 }).toBe(true);
    }
    expect(counted(rig.web, 'outbound')).toBe(0);
    const { manager } = rig.web.sessions;
    expect(manager.getSessionsByLastUsed(({ connections }) => connections > 0)).toEqual([]);
    const closed = await rig.web.said('connection.closed');
    const failed = await rig.web.said('handshake.failed');
    const reasons = [...closed, ...failed].map((event) => ('reason' in event ? event.reason : ''));
    expect(new Set(reasons)).not.toContain('internal-error');
    expect(closed).toHaveLength((await rig.web.said('connection.opened')).length);
    expect(await rig.web.said('session.resumed')).not.toEqual([]);
    rig.clock.advance(3_600_000);
    expect(manager.size).toBe(0);
  });
});
