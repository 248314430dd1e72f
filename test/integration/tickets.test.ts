import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { retryFrame } from '../../src/transport/frame.ts';
import { DEFAULT_HANDSHAKE_LIMITS } from '../../src/transport/limits.ts';
import { MODES } from '../../src/transport/mode.ts';
import { DATA, MAX_LENGTH, NEW_TICKET, PONG } from '../../src/transport/record.ts';
import { Responder } from '../../src/transport/responder.ts';
import type { NewTicket, Ticket } from '../../src/transport/ticket.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust, type Trust } from '../harness/trust.ts';
import { Office } from '../transport/office.ts';
import { Bench, gone, Party, Queue, Rogue } from '../transport/wire.ts';
import { crypto } from '../transport/world.ts';

let trust: Trust;
let bench: Bench;
let office: Office;
beforeAll(async () => {
  trust = await makeTrust({ clock: new FakeClock() });
});
beforeEach(async () => {
  office = new Office();
  bench = await Bench.open(
    {
      tickets: office,
      onChannel: (channel) => {
        while (channel.ticketsDue > 0) {
          const { id } = office.issue(channel.resumable, channel.resumable);
          channel.sendTicket({ id, idleSeconds: 3_600, absoluteSeconds: 28_800 });
        }
        bench.channels.push(channel);
      },
    },
    trust,
  );
});
afterEach(() => bench.close());

/** Both ends of a connection, and the tickets that the client gets, as they come. */
async function connect({ ticket, ...options }: { ticket?: Ticket; port?: number } = {}) {
  const channel = await bench.dial({ takeTicket: () => ticket, ...options });
  const tickets = new Queue<NewTicket>();
  channel.onTicket = (ticket) => tickets.push(ticket);
  return { client: new Party(channel), server: new Party(await bench.channels.next()), tickets };
}

/** The next ticket of a client, to be used. */
async function ticketOf(tickets: Queue<NewTicket>, { resumable }: SecureChannel): Promise<Ticket> {
  return { id: (await tickets.next()).id, resumable };
}

describe('a new connection with a ticket', () => {
  it('belongs to the session of the one before, and brings tickets of its own', async () => {
    const first = await connect();
    expect(first.client.channel.session.mode).not.toBe(2);
    const ticket = await ticketOf(first.tickets, first.client.channel);
    const second = await connect({ ticket });
    for (const [now, before] of [
      [second.client, first.client],
      [second.server, first.server],
    ] as const) {
      expect(now.channel.session).toMatchObject({ id: before.channel.session.id, mode: 2 });
      expect(now.channel.session.key).toBe(before.channel.session.key);
      expect(now.channel.peer).toBe(before.channel.peer);
      expect(now.channel.capacity).toBe(before.channel.capacity);
    }
    second.client.send('up');
    second.server.send('down');
    expect([await second.server.received(2), await second.client.received(4)]).toEqual(['up', 'down']);
    const third = await connect({ ticket: await ticketOf(second.tickets, second.client.channel) });
    expect(third.server.channel.session.id).toBe(first.server.channel.session.id);
    for (const { client, server } of [first, second, third]) {
      client.channel.close();
      expect((await server.ended).reason).toBe('peer-closed');
    }
    expect(first.server.channel.session.key.wiped).toBe(false);
  });

  it('whose ticket is refused goes on in full, on the same TCP connection', async () => {
    const first = await connect();
    const ticket = await ticketOf(first.tickets, first.client.channel);
    office.tickets.forget(first.server.channel.session.id);
    let connections = 0;
    const port = await bench.middle((chunk, direction, at) => {
      if (direction === 'up' && at === 0) connections++;
      return chunk;
    });
    const second = await connect({ ticket, port });
    expect(connections).toBe(1);
    expect(second.client.channel.session.mode).not.toBe(2);
    expect(second.server.channel.session.id).toBe(second.client.channel.session.id);
    expect(second.server.channel.session.id).not.toBe(first.server.channel.session.id);
  });

  it('cannot be had again with what was recorded of it', async () => {
    const first = await connect();
    let opening = Buffer.alloc(0);
    const port = await bench.middle((chunk, direction, at) => {
      if (direction === 'up' && at === 0) opening = Buffer.from(chunk);
      return chunk;
    });
    const ticket = await ticketOf(first.tickets, first.client.channel);
    const second = await connect({ ticket, port });
    const thief = await bench.raw();
    thief.write(opening);
    const [answer] = (await once(thief, 'data')) as [Buffer];
    expect(answer.equals(retryFrame(second.client.channel.resumable.foundedIn.id))).toBe(true);
    expect(bench.channels.length).toBe(0);
    expect(bench.acceptor.halfOpen).toBe(1);
    thief.destroy();
    expect((await bench.refusals.next()).reason).toBe('connection-lost');
  });

  it('is nothing to the responder before the initiator’s first record: a ticket is used up, no more', async () => {
    const first = await connect();
    const ticket = await ticketOf(first.tickets, first.client.channel);
    const caught = new Promise<Buffer>((resolve) => {
      void bench
        .middle((chunk, direction, at) => {
          if (direction === 'up' && at === 0) resolve(Buffer.from(chunk));
          return undefined;
        })
        .then((port) => bench.dial({ takeTicket: () => ticket, port }).catch(() => {}));
    });
    const thief = await bench.raw();
    const before = office.tickets.size;
    thief.write(await caught);
    const [message2] = (await once(thief, 'data')) as [Buffer];
    expect(message2.length).toBe(3 + 48);
    expect(office.tickets.size).toBe(before - 1);
    // Whatever he says now, he has no key to say it with.
    thief.write(
      crypto
        .randomBytes(2 + 30)
        .fill(0, 0, 1)
        .fill(30, 1, 2),
    );
    await gone(thief);
    expect((await bench.refusals.next()).reason).toBe('not-confirmed');
    expect(bench.channels.length).toBe(0);
    expect(first.server.channel.session.key.wiped).toBe(false);
    first.client.send('alive');
    expect(await first.server.received(5)).toBe('alive');
  });
});

describe('tickets', () => {
  it('are the responder’s first two records, and only for those who offered mode 2', async () => {
    const seen: Record<string, number[]> = {};
    for (const tickets of [true, false]) {
      const rogue = await bench.rogue({ tickets });
      new Party(await bench.channels.next()).send('data');
      const types: number[] = [];
      while (!types.includes(DATA)) types.push((await rogue.records.next()).type);
      seen[`${tickets}`] = types;
    }
    expect(seen).toEqual({ true: [NEW_TICKET, NEW_TICKET, PONG, DATA], false: [PONG, DATA] });
  });

  it('that are not due are not sent', async () => {
    const { client, server, tickets } = await connect();
    expect(server.channel.ticketsDue).toBe(0);
    server.channel.sendTicket({ id: Buffer.alloc(16), idleSeconds: 1, absoluteSeconds: 1 });
    server.send('data');
    await client.received(4);
    expect(tickets.length).toBe(2);
  });
});

/** A responder without manners: its records are what `records` says. */
async function dialled(
  records: (rogue: Rogue) => void,
  { tickets = true } = {},
): Promise<{ reason: string; tickets: number }> {
  const port = await bench.listen((socket: Socket) => {
    const machine = new Responder({
      ...{ crypto, modes: MODES, identity: bench.greeter, bundle: trust.bundle, instance: undefined },
      ...{ staticKey: bench.staticKey().current, now: () => bench.clock.now() },
      ...{ limits: DEFAULT_HANDSHAKE_LIMITS, maxRecord: MAX_LENGTH, tickets: office },
    });
    const shake = (chunk: Buffer): void => {
      const step = machine.receive(chunk);
      if (step?.send !== undefined) socket.write(step.send);
      if (step?.established === undefined) return;
      socket.off('data', shake);
      records(new Rogue(socket, step.established));
    };
    socket.on('data', shake);
  });
  const channel = await bench.dial({ port, tickets });
  let count = 0;
  channel.onTicket = () => count++;
  const { reason } = await new Party(channel).ended;
  return { reason, tickets: count };
}

describe('an initiator that gets a ticket', () => {
  const ticket = Buffer.alloc(24, 1);

  it('after two others, or after any other record, ends the connection', async () => {
    const third = await dialled((rogue) => {
      for (let n = 0; n < 3; n++) rogue.send(NEW_TICKET, ticket);
    });
    expect(third).toEqual({ reason: 'protocol-error', tickets: 2 });
    const late = await dialled((rogue) => {
      rogue.send(NEW_TICKET, ticket);
      rogue.send(PONG, Buffer.alloc(8));
      rogue.send(NEW_TICKET, ticket);
    });
    expect(late).toEqual({ reason: 'protocol-error', tickets: 1 });
  });

  it('of another length ends the connection', async () => {
    for (const length of [0, 23, 25]) {
      const end = await dialled((rogue) => {
        rogue.send(NEW_TICKET, ticket);
        rogue.send(NEW_TICKET, Buffer.alloc(length));
      });
      expect(end).toEqual({ reason: 'protocol-error', tickets: 1 });
    }
  });

  it('that it has not asked for ends the connection', async () => {
    const end = await dialled((rogue) => rogue.send(NEW_TICKET, ticket), { tickets: false });
    expect(end).toEqual({ reason: 'protocol-error', tickets: 0 });
  });

  it('from an initiator ends the connection, too', async () => {
    const rogue = await bench.rogue({ tickets: true });
    const server = new Party(await bench.channels.next());
    rogue.send(NEW_TICKET, ticket);
    expect((await server.ended).reason).toBe('protocol-error');
  });
});
