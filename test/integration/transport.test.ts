import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { MODES, modesOf } from '../../src/transport/mode.ts';
import { DATA, MAX_PAYLOAD, NEW_TICKET, PING, PONG } from '../../src/transport/record.ts';
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

describe('a channel', () => {
  it('joins two proven peers, who name the session alike', async () => {
    const { client, server } = await bench.connect();
    expect(client.channel.peer.spiffeId).toBe(bench.greeter.spiffeId);
    expect(server.channel.peer.spiffeId).toBe(bench.web.spiffeId);
    expect([client.channel.role, server.channel.role]).toEqual(['initiator', 'responder']);
    expect(client.channel.session.id).toBe(server.channel.session.id);
    expect(client.channel.session.key.bytes.equals(server.channel.session.key.bytes)).toBe(true);
    expect(client.channel.session.mode).toBe(1);
    expect(client.channel.capacity).toBe(MAX_PAYLOAD);
    expect(server.channel.remoteAddress).toBe('127.0.0.1');
    expect(bench.acceptor.halfOpen).toBe(0);
  });

  it('carries bytes both ways, in order, whatever their size', async () => {
    const { client, server } = await bench.connect();
    const sizes = [0, 1, 2, 100, 4095, 4096, 16_383, 16_384, 40_000, MAX_PAYLOAD];
    const payloads = sizes.map((size, i) => Buffer.alloc(size, 0x41 + i));
    for (const payload of payloads) {
      client.send(payload);
      server.send(payload);
    }
    const all = Buffer.concat(payloads).toString('latin1');
    expect(await server.received(all.length)).toBe(all);
    expect(await client.received(all.length)).toBe(all);
    expect(server.data.map(({ length }) => length)).toEqual(sizes);
  });

  it('works over IPv6', async () => {
    const port = await bench.listen((socket) => bench.acceptor.accept(socket), '::1');
    const { client, server } = await bench.connect({ host: '::1', port });
    client.send('over IPv6');
    expect(await server.received(9)).toBe('over IPv6');
    expect(server.channel.remoteAddress).toBe('::1');
  });

  it('works through RETRY, when the initiator begins with a mode that the responder does not do', async () => {
    const plain = await Bench.open({ modes: modesOf('off') }, trust);
    onTestFinished(() => plain.close());
    const { client, server } = await plain.connect({ modes: MODES });
    expect(client.channel.session.id).toBe(server.channel.session.id);
    expect(client.channel.session.mode).toBe(0);
  });

  it('keeps what came before its owner was ready, and loses none of it', async () => {
    const channel = await bench.dial();
    const server = new Party(await bench.channels.next());
    for (let i = 0; i < 50; i++) server.send(`record ${i} `);
    server.channel.close();
    await new Promise((resolve) => setImmediate(resolve));
    const client = new Party(channel);
    expect((await client.ended).reason).toBe('peer-closed');
    expect(Buffer.concat(client.data).toString()).toBe(
      Array.from({ length: 50 }, (_, i) => `record ${i} `).join(''),
    );
  });

  it('accepts DATA as a peer’s first record', async () => {
    const rogue = await bench.rogue();
    rogue.send(DATA, Buffer.from('early'));
    const server = new Party(await bench.channels.next());
    expect(await server.received(5)).toBe('early');
  });

  it('asks its owner to wait when the socket is full, and tells it when to go on', async () => {
    const { client, server } = await bench.connect();
    const total = 32 * 1024 * 1024;
    let sent = 0;
    let waits = 0;
    const pump = (): void => {
      while (sent < total) {
        sent += 64_000;
        if (client.send(Buffer.alloc(64_000, 0x2e))) continue;
        expect(client.channel.backlog).toBeLessThan(512 * 1024);
        waits++;
        return;
      }
      client.channel.close();
    };
    client.channel.onDrain = pump;
    pump();
    expect((await server.ended).reason).toBe('peer-closed');
    expect(server.data.reduce((sum, { length }) => sum + length, 0)).toBe(sent);
    expect(waits).toBeGreaterThan(0);
  });

  it('takes no larger records than both ends announced', async () => {
    const small = await Bench.open({ limits: { records: { maxLength: 4096 } } }, trust);
    const { client, server } = await small.connect();
    expect(client.channel.capacity).toBe(4096 - 19);
    expect(server.channel.capacity).toBe(4096 - 19);
    client.send(Buffer.alloc(4096 - 19, 0x61));
    expect((await server.received(4096 - 19)).length).toBe(4096 - 19);
    expect(() => client.send(Buffer.alloc(4096 - 18))).toThrow(/capacity 4077/);
    await small.close();
  });

  it('refuses a write that leaves no headroom, and stays usable', async () => {
    const { client, server } = await bench.connect();
    const buf = client.channel.acquire();
    expect(() => client.channel.write(buf, client.channel.headroom - 1, 100)).toThrow(/headroom/);
    expect(() => client.channel.write(buf, 100, 99)).toThrow(/headroom/);
    client.send('still here');
    expect(await server.received(10)).toBe('still here');
  });

  it('tells the instance of the peer, if it told', async () => {
    const { client, server } = await bench.connect({ instance: Buffer.from('0123456789abcdef', 'hex') });
    expect(server.channel.peerInstance).toBe('0123456789abcdef');
    expect(client.channel.peerInstance).toBeUndefined();
  });

  it('shows no plaintext on the wire', async () => {
    const seen: Buffer[] = [];
    const port = await bench.middle((chunk) => {
      seen.push(chunk);
      return chunk;
    });
    const { client, server } = await bench.connect({ port });
    client.send('MARKER-UP');
    server.send('MARKER-DOWN');
    await Promise.all([server.received(9), client.received(11)]);
    const wire = Buffer.concat(seen).toString('latin1');
    expect(wire).toContain('HBK1');
    expect(wire).not.toContain('MARKER');
    expect(wire).not.toContain('spiffe://');
  });
});

describe('closing', () => {
  it('delivers what was written before, and is authenticated in both directions', async () => {
    const { client, server } = await bench.connect();
    client.send('last words');
    client.channel.close();
    expect(await server.ended).toEqual({ reason: 'peer-closed', detail: 'The peer closed the connection' });
    expect(await server.received(10)).toBe('last words');
    expect((await client.ended).reason).toBe('local-closed');
  });

  it('at once from both ends ends well for both', async () => {
    const { client, server } = await bench.connect();
    client.channel.close();
    server.channel.close();
    expect(['local-closed', 'peer-closed']).toContain((await client.ended).reason);
    expect(['local-closed', 'peer-closed']).toContain((await server.ended).reason);
  });

  it('still delivers what the peer sent before it knew', async () => {
    const { client, server } = await bench.connect();
    client.channel.close();
    server.send('crossing');
    expect((await client.ended).reason).toBe('local-closed');
    expect(Buffer.concat(client.data).toString()).toBe('crossing');
  });

  it('does not wait for ever for the peer’s CLOSE', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    rogue.socket.pause();
    server.channel.close();
    bench.clock.advance(4_999);
    expect(server.channel.closed).toBe(false);
    bench.clock.advance(1);
    expect((await server.ended).reason).toBe('close-timeout');
  });

  it('by destroy is a truncation for the peer', async () => {
    const { client, server } = await bench.connect();
    client.channel.destroy('revoked', 'by an operator');
    expect(await client.ended).toEqual({ reason: 'revoked', detail: 'by an operator' });
    expect((await server.ended).reason).toMatch(/truncated|socket-error/);
  });

  it('ends the sending: nothing is sealed on a closed channel', async () => {
    const { client } = await bench.connect();
    client.channel.close();
    expect(client.send('too late')).toBe(false);
    await client.ended;
    expect(client.send('far too late')).toBe(false);
    client.channel.close();
    client.channel.destroy('idle');
  });

  it('is told also to an owner that listens late', async () => {
    const channel = await bench.dial();
    channel.destroy('idle', 'before anyone listened');
    expect(await new Party(channel).ended).toEqual({ reason: 'idle', detail: 'before anyone listened' });
  });

  it('in the middle of a chunk stops what comes after it', async () => {
    const rogue = await bench.rogue();
    const channel = await bench.channels.next();
    const got: string[] = [];
    const ended = new Promise<string>((resolve) => {
      channel.onClose = resolve;
    });
    channel.onData = (plaintext) => {
      got.push(plaintext.toString());
      channel.destroy('revoked');
    };
    rogue.socket.write(Buffer.concat(['a', 'b', 'c'].map((text) => rogue.sealed(DATA, Buffer.from(text)))));
    expect(await ended).toBe('revoked');
    expect(got).toEqual(['a']);
  });

  it('follows when the owner throws, and the process lives on', async () => {
    const rogue = await bench.rogue();
    const channel = await bench.channels.next();
    const ended = new Promise<string[]>((resolve) => {
      channel.onClose = (reason, detail) => resolve([reason, detail]);
    });
    channel.onData = () => {
      throw new TypeError('a bug above');
    };
    rogue.send(DATA, Buffer.from('boom'));
    const [reason, detail] = await ended;
    expect(reason).toBe('internal-error');
    expect(detail).toContain('a bug above');
  });
});

describe('rekeying', () => {
  it('happens after so many records, in each direction on its own', async () => {
    const records = { rekeyRecords: 20, keyUpdateRecords: 1 };
    const busy = await Bench.open({ limits: { records } }, trust);
    const { client, server } = await busy.connect({ limits: { records } });
    for (let i = 0; i < 100; i++) client.send('0123456789');
    expect(await server.received(1000)).toBe('0123456789'.repeat(100));
    expect(client.rekeys).toEqual(Array(5).fill('send records'));
    expect(server.rekeys).toEqual(Array(5).fill('receive peer'));
    server.send('and back');
    expect(await client.received(8)).toBe('and back');
    await busy.close();
  });

  it('happens after so many bytes', async () => {
    const records = { rekeyBytes: 100_000, keyUpdateRecords: 1 };
    const busy = await Bench.open({ limits: { records } }, trust);
    const { client, server } = await busy.connect({ limits: { records } });
    for (let i = 0; i < 10; i++) client.send(Buffer.alloc(50_000, 0x62));
    await server.received(500_000);
    expect(client.rekeys).toEqual(Array(5).fill('send bytes'));
    await busy.close();
  });

  it('happens after an hour, by both ends, again and again', async () => {
    const { client, server } = await bench.connect();
    bench.clock.advance(3_600_000 - 1);
    expect(client.rekeys).toEqual([]);
    bench.clock.advance(1);
    expect(client.rekeys).toEqual(['send age']);
    client.send('new key');
    expect(await server.received(7)).toBe('new key');
    expect(server.rekeys.sort()).toEqual(['receive peer', 'send age']);
    bench.clock.advance(3_600_000);
    server.send('newer key');
    expect(await client.received(9)).toBe('newer key');
    expect(client.rekeys.filter((what) => what === 'send age')).toHaveLength(2);
  });
});

describe('records that a peer should not send', () => {
  const cases: Array<[what: string, type: number, payload: Buffer, reason: string]> = [
    ['type 0', 0x00, Buffer.alloc(0), 'protocol-error'],
    ['an unknown type below 0x80', 0x7f, Buffer.alloc(0), 'protocol-error'],
    ['a ticket that was not asked for', NEW_TICKET, Buffer.alloc(24), 'protocol-error'],
    ['a PING of 7 bytes', PING, Buffer.alloc(7), 'protocol-error'],
    ['a PONG of 9 bytes', PONG, Buffer.alloc(9), 'protocol-error'],
    ['an ALERT', 0x07, Buffer.of(3), 'peer-alert'],
  ];
  for (const [what, type, payload, reason] of cases) {
    it(`${what} ends the connection: ${reason}`, async () => {
      const rogue = await bench.rogue();
      const server = new Party(await bench.channels.next());
      rogue.send(type, payload);
      expect((await server.ended).reason).toBe(reason);
      await gone(rogue.socket);
    });
  }

  it('unknown types from 0x80 on are ignored', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    for (const type of [0x80, 0xc0, 0xff]) rogue.send(type, Buffer.from('news'));
    rogue.send(DATA, Buffer.from('as before'));
    expect(await server.received(9)).toBe('as before');
  });

  it('every PING is answered with its own bytes', async () => {
    const rogue = await bench.rogue();
    new Party(await bench.channels.next());
    expect(await rogue.records.next()).toEqual({ type: PONG, payload: Buffer.alloc(8) });
    rogue.send(PING, Buffer.from('12345678'));
    expect(await rogue.records.next()).toEqual({ type: PONG, payload: Buffer.from('12345678') });
  });

  it('more than 200 PINGs in 10 s are a flood; the same spread out are not', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    await rogue.records.next();
    for (let i = 0; i < 5; i++) {
      for (let ping = 0; ping < (i === 0 ? 199 : 200); ping++) rogue.send(PING, Buffer.alloc(8));
      for (let ping = 0; ping < (i === 0 ? 199 : 200); ping++) await rogue.records.next();
      bench.clock.advance(10_000);
    }
    for (let ping = 0; ping < 201; ping++) rogue.send(PING, Buffer.alloc(8));
    expect(await server.ended).toMatchObject({ reason: 'flood', flood: 'record-ping' });
  });

  it('more than 200 records that carry nothing in 10 s are a flood; the same spread out are not', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    for (let i = 0; i < 5; i++) {
      for (let n = 0; n < 66; n++) {
        rogue.send(DATA, Buffer.alloc(0));
        rogue.send(PONG, Buffer.alloc(8));
        rogue.send(0x80, Buffer.from('news'));
      }
      rogue.send(DATA, Buffer.from('x'));
      await server.received(i + 1);
      bench.clock.advance(10_000);
    }
    for (let n = 0; n < 402; n++) rogue.send(DATA, Buffer.alloc(0));
    expect(await server.ended).toMatchObject({ reason: 'flood', flood: 'record-idle' });
    expect(Buffer.concat(server.data).toString()).toBe('xxxxx');
  });

  it.each([
    ['empty DATA', DATA, Buffer.alloc(0)],
    ['PONGs that nobody asked for', PONG, Buffer.alloc(8)],
    ['records of an unknown type', 0x80, Buffer.from('news')],
  ])('%s alone are a flood from the 201st on', async (_, type, payload) => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    await rogue.records.next();
    for (let n = 0; n < 200; n++) rogue.send(type, payload);
    rogue.send(PING, Buffer.alloc(8));
    await rogue.records.next(); // still there
    rogue.send(type, payload);
    expect(await server.ended).toMatchObject({ reason: 'flood', flood: 'record-idle' });
  });

  it('two KEY_UPDATEs in a row are a flood', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    rogue.socket.write(Buffer.concat([rogue.writer.keyUpdate(), rogue.writer.keyUpdate()]));
    expect(await server.ended).toMatchObject({ reason: 'flood', flood: 'key-update' });
  });

  it('a key that is used too long is not accepted', async () => {
    const strict = await Bench.open({ limits: { records: { maxKeyRecords: 10 } } }, trust);
    const rogue = await strict.rogue();
    const server = new Party(await strict.channels.next());
    for (let i = 0; i < 10; i++) rogue.send(DATA, Buffer.from('x'));
    expect((await server.ended).reason).toBe('key-exhausted');
    expect(server.data).toHaveLength(8); // the PING was the first record, the tenth is one too many
    await strict.close();
  });

  it('a key that is not changed in time sends nothing more, and says so here', async () => {
    const { client, server } = await bench.connect({
      limits: { records: { maxKeyRecords: 10, rekeyRecords: 1000 } },
    });
    for (let i = 0; i < 12; i++) client.send('x');
    expect((await client.ended).reason).toBe('key-exhausted');
    expect((await server.ended).reason).toBe('truncated');
    expect(Buffer.concat(server.data).toString()).toBe('x'.repeat(8)); // the PING was the first record of nine
  });
});
