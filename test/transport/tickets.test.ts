import { describe, expect, it } from 'vitest';
import { HeldTickets } from '../../src/transport/heldtickets.ts';
import { IssuedTickets } from '../../src/transport/issuedtickets.ts';
import { decodeTicket, encodeTicket } from '../../src/transport/ticket.ts';
import { crypto } from './world.ts';

const id = (n: number): Buffer => Buffer.alloc(16, n);
const ticket = (n: number, idleSeconds = 3_600, absoluteSeconds = 28_800) => ({
  id: id(n),
  idleSeconds,
  absoluteSeconds,
});

describe('NEW_TICKET', () => {
  it('is ticket_id[16] | idle seconds left u32 | absolute seconds left u32', () => {
    const bytes = encodeTicket(ticket(0xab, 0x01020304, 0x05060708));
    expect(bytes.toString('hex')).toBe(`${'ab'.repeat(16)}0102030405060708`);
    expect(decodeTicket(bytes)).toEqual(ticket(0xab, 0x01020304, 0x05060708));
  });

  it('has 24 bytes, nothing else', () => {
    for (const length of [0, 23, 25]) expect(decodeTicket(Buffer.alloc(length))).toBeUndefined();
  });

  it('counts whole seconds that are left, and none that are not', () => {
    const decoded = decodeTicket(encodeTicket(ticket(1, 1.9, -5)));
    expect([decoded?.idleSeconds, decoded?.absoluteSeconds]).toEqual([1, 0]);
    const large = decodeTicket(encodeTicket(ticket(1, 2 ** 40, Number.POSITIVE_INFINITY)));
    expect([large?.idleSeconds, large?.absoluteSeconds]).toEqual([2 ** 32 - 1, 2 ** 32 - 1]);
  });
});

describe('a responder’s tickets', () => {
  it('are found until they are used', () => {
    const tickets = new IssuedTickets<{ id: string }>(crypto);
    const session = { id: 'one' };
    const issued = tickets.issue(session);
    expect(issued).toHaveLength(16);
    expect(tickets.find(issued)).toBe(session);
    expect(tickets.find(issued)).toBe(session);
    tickets.delete(issued);
    expect(tickets.find(issued)).toBeUndefined();
    tickets.delete(issued);
    expect(tickets.size).toBe(0);
  });

  it('are four a session: of more the oldest goes', () => {
    const tickets = new IssuedTickets<{ id: string }>(crypto);
    const other = tickets.issue({ id: 'other' });
    const session = { id: 'one' };
    const issued = Array.from({ length: 6 }, () => tickets.issue(session));
    expect(issued.map((each) => tickets.find(each) !== undefined)).toEqual([
      ...[false, false],
      ...[true, true, true, true],
    ]);
    // One that was used makes room.
    tickets.delete(issued[4] as Buffer);
    const more = tickets.issue(session);
    expect([issued[2], issued[3], issued[5], more].every((each) => tickets.find(each as Buffer))).toBe(true);
    expect(tickets.find(other)).toBeDefined();
  });

  it('end with their session', () => {
    const tickets = new IssuedTickets<{ id: string }>(crypto);
    const kept = tickets.issue({ id: 'kept' });
    for (let n = 0; n < 3; n++) tickets.issue({ id: 'gone' });
    tickets.forget('gone');
    tickets.forget('gone');
    expect(tickets.size).toBe(1);
    expect(tickets.find(kept)).toBeDefined();
  });
});

describe('an initiator’s tickets', () => {
  const MONOTONIC = 5_000;
  const session = (sessionId: string, lastActivity = MONOTONIC, openCalls = 0) => ({
    id: sessionId,
    openCalls,
    usedBefore: (moment: number) => lastActivity <= moment,
  });

  it('are taken once, the newest first', () => {
    const tickets = new HeldTickets();
    for (const n of [1, 2]) tickets.keep('one', ticket(n), MONOTONIC);
    tickets.keep('two', ticket(3), MONOTONIC);
    const take = () => tickets.take(session('one'), MONOTONIC);
    expect([take(), take(), take()]).toEqual([id(2), id(1), undefined]);
    expect([tickets.count('one'), tickets.count('two')]).toEqual([0, 1]);
  });

  it('are four a session: of more the oldest goes', () => {
    const tickets = new HeldTickets();
    for (let n = 1; n <= 6; n++) tickets.keep('one', ticket(n), MONOTONIC);
    const taken = Array.from({ length: 5 }, () => tickets.take(session('one'), MONOTONIC));
    expect(taken).toEqual([id(6), id(5), id(4), id(3), undefined]);
  });

  it('are not used after the time that the responder gave them, idle or in all', () => {
    const tickets = new HeldTickets();
    const keep = () => tickets.keep('one', ticket(1, 10, 100), MONOTONIC);
    keep();
    expect(tickets.take(session('one'), MONOTONIC + 10_000)).toBeUndefined();
    // Use slides the idle time, not the absolute one; a call stops it.
    keep();
    expect(tickets.take(session('one', MONOTONIC + 95_000), MONOTONIC + 99_999)).toEqual(id(1));
    keep();
    expect(tickets.take(session('one', MONOTONIC, 1), MONOTONIC + 99_999)).toEqual(id(1));
    keep();
    expect(tickets.take(session('one', MONOTONIC + 95_000, 1), MONOTONIC + 100_000)).toBeUndefined();
    // One that is over leaves older ones that are not.
    tickets.keep('one', ticket(2, 10, 100), MONOTONIC);
    tickets.keep('one', ticket(3, 0, 0), MONOTONIC);
    expect(tickets.take(session('one'), MONOTONIC + 1)).toEqual(id(2));
  });

  it('end with their session', () => {
    const tickets = new HeldTickets();
    tickets.keep('one', ticket(1), MONOTONIC);
    tickets.forget('one');
    expect([tickets.count('one'), tickets.take(session('one'), MONOTONIC)]).toEqual([0, undefined]);
  });
});
