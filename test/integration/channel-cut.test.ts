import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CLOSE, DATA } from '../../src/transport/record.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust, type Trust } from '../harness/trust.ts';
import { Bench, gone, Party } from '../transport/wire.ts';

let trust: Trust;
let bench: Bench;
beforeAll(async () => {
  trust = await makeTrust({ clock: new FakeClock() });
});
beforeEach(async () => {
  bench = await Bench.open({}, trust);
});
afterEach(() => bench.close());

describe('a channel that is cut', () => {
  it('is closed at once; the peer gets what was written, and an authenticated CLOSE', async () => {
    const { client, server } = await bench.connect();
    server.send('goodbye');
    server.channel.cut('revoked', 'drill');
    expect(server.channel.closed).toBe(true);
    expect(server.send('too late')).toBe(false);
    expect(await server.ended).toEqual({ reason: 'revoked', detail: 'drill', flood: undefined });
    expect((await client.ended).reason).toBe('peer-closed');
    expect(await client.received(7)).toBe('goodbye');
  });

  it('opens no record more, and its number is the last that was opened', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    for (const text of ['one', 'two']) rogue.send(DATA, Buffer.from(text));
    expect(await server.received(6)).toBe('onetwo');
    expect(server.channel.received).toBe(3); // with the first PING
    server.channel.cut('revoked', 'drill');
    rogue.send(DATA, Buffer.from('three'));
    for (let i = 0; i < 50; i++) await turn();
    expect(Buffer.concat(server.data).toString()).toBe('onetwo');
    expect(server.channel.received).toBe(3);
  });

  it('in the middle of a read opens nothing of the rest of it', async () => {
    const rogue = await bench.rogue();
    const channel = await bench.channels.next();
    const seen: string[] = [];
    channel.onClose = () => {};
    channel.onData = (bytes) => {
      seen.push(bytes.toString());
      if (seen.length === 2) channel.cut('revoked', 'drill');
    };
    rogue.socket.write(
      Buffer.concat(['one', 'two', 'three', 'four'].map((text) => rogue.sealed(DATA, Buffer.from(text)))),
    );
    while (!channel.closed) await turn();
    for (let i = 0; i < 20; i++) await turn();
    expect(seen).toEqual(['one', 'two']);
    expect(channel.received).toBe(3);
  });

  it('tells a peer that goes on sending and reads late: no reset overtakes what was written, or CLOSE', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    rogue.socket.pause();
    // More than its kernel takes for it: the rest waits in ours, and a reset would drop it.
    const RECORDS = 20;
    for (let i = 0; i < RECORDS; i++) server.send(Buffer.alloc(60_000, i));
    while (server.channel.backlog > 0) await turn();
    server.channel.cut('revoked', 'drill');
    for (let i = 0; i < 100; i++) {
      rogue.send(DATA, Buffer.alloc(1000));
      await turn();
    }
    rogue.socket.resume();
    let octets = 0;
    for (;;) {
      const { type, payload } = await rogue.records.next();
      if (type === CLOSE) break;
      if (type === DATA) octets += payload.length;
    }
    expect(octets).toBe(RECORDS * 60_000);
  });

  it('while it closes ends for the new reason, and CLOSE is not sent twice', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    server.channel.close();
    server.channel.cut('revoked', 'drill');
    expect((await server.ended).reason).toBe('revoked');
    const types: number[] = [];
    while (types.at(-1) !== CLOSE) types.push((await rogue.records.next()).type);
    for (let i = 0; i < 20; i++) await turn();
    expect(rogue.records.length).toBe(0);
    // Once it is closed, nothing changes.
    server.channel.cut('evicted', 'again');
    expect((await server.ended).detail).toBe('drill');
  });

  it('gives a peer that goes on no longer than the time that CLOSE has', async () => {
    const rogue = await bench.rogue();
    rogue.socket.allowHalfOpen = true;
    const server = new Party(await bench.channels.next());
    server.channel.cut('revoked', 'drill');
    const sending = setInterval(() => rogue.send(DATA, Buffer.alloc(100)), 1);
    try {
      for (let i = 0; i < 20; i++) await turn();
      expect(rogue.socket.closed).toBe(false);
      bench.clock.advance(60_000);
      await gone(rogue.socket);
    } finally {
      clearInterval(sending);
    }
  });
});

describe('records', () => {
  it('are counted alike at both ends, whatever their type, and from the first one on', async () => {
    const { client, server } = await bench.connect();
    client.send('early');
    await server.received(5);
    const tallies = [client, server].map(({ channel }) => {
      const tally = { recordsIn: 0, recordsOut: 0 };
      channel.tally = tally;
      return tally;
    });
    for (let i = 0; i < 10; i++) server.send('x');
    await client.received(10);
    client.channel.close();
    await Promise.all([client.ended, server.ended]);
    const [ours, theirs] = tallies as [(typeof tallies)[0], (typeof tallies)[0]];
    // From the client: the first PING, DATA, CLOSE. From the server: PONG, ten DATA, CLOSE.
    expect(ours).toEqual({ recordsIn: 12, recordsOut: 3 });
    expect(theirs).toEqual({ recordsIn: 3, recordsOut: 12 });
    expect([client.channel.received, server.channel.received]).toEqual([12, 3]);
  });
});
