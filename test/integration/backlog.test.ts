import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { SocketWire } from '../../src/relay/wire.ts';
import { DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { Bench, Party } from '../transport/wire.ts';

const MIB = 2 ** 20;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * Answers that a sidecar makes itself end their streams at once, so HTTP/2's bound on streams does not bound them: a
 * peer that asks and never reads would have them pile up in our memory.
 */
describe('somebody who takes nothing of what we write', () => {
  const ends: Array<() => void> = [];
  afterEach(() => {
    for (const end of ends.splice(0)) end();
  });

  it('is cut off, if a peer, at 16 MiB', async () => {
    const bench = await Bench.open();
    ends.push(() => void bench.close());
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    rogue.socket.pause();
    let end: { reason: string } | undefined;
    void server.ended.then((how) => {
      end = how;
    });
    let most = 0;
    for (let i = 0; i < 4_000 && end === undefined; i++) {
      server.send(Buffer.alloc(16_000));
      most = Math.max(most, server.channel.backlog);
      if (i % 16 === 0) await turn();
    }
    await turn();
    expect(end).toMatchObject({ reason: 'flood' });
    expect(most).toBeLessThan(DEFAULT_RECORD_LIMITS.maxBacklog + MIB);
    expect(server.channel.backlog).toBe(0);
  });

  it('is cut off, if an app, at 16 MiB', async () => {
    const server = createServer((socket) => void socket.pause());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket: Socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    ends.push(() => socket.destroy());
    ends.push(() => void server.close());
    await once(socket, 'connect');
    const wire = new SocketWire(socket);
    let why: string | undefined;
    wire.onClose = (reason) => {
      why = reason;
    };
    let most = 0;
    for (let i = 0; i < 2_000 && why === undefined; i++) {
      const buf = wire.acquire();
      wire.write(buf, 0, 60_000);
      most = Math.max(most, wire.backlog);
      if (i % 16 === 0) await turn();
    }
    await turn();
    expect(why).toBe('flood');
    expect(most).toBeLessThan(18 * MIB);
  });

  it('is let go on, if it takes it before that', async () => {
    const bench = await Bench.open();
    ends.push(() => void bench.close());
    const { client, server } = await bench.connect();
    const total = 400 * 16_000;
    for (let i = 0; i < 400; i++) server.send(Buffer.alloc(16_000));
    await client.received(total);
    expect(server.channel.closed).toBe(false);
  });
});
