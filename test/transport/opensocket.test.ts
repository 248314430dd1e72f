import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { adoptSocket, openSocket } from '../../src/transport/opensocket.ts';

const opened: { close?: () => unknown; destroy?: () => unknown }[] = [];

afterEach(() => {
  for (const each of opened.splice(0)) (each.destroy ?? each.close)?.call(each);
});

interface Pair {
  readonly server: Server;
  readonly accepted: Socket;
  readonly client: Socket;
}

/** A connection on loopback, or over a Unix socket; `spoil` is what befalls the accepted socket before its adoption. */
async function connection(path?: string, spoil: (accepted: Socket) => void = () => {}): Promise<Pair> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  if (path === undefined) server.listen(0, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  const address = server.address();
  const client = openSocket(
    typeof address === 'string' ? { path: address } : { host: '127.0.0.1', port: address?.port ?? 0 },
  );
  const accepted = await new Promise<Socket>((resolve) => {
    server.once('connection', (socket) => {
      spoil(socket);
      resolve(adoptSocket(socket));
    });
  });
  if (client.connecting) await once(client, 'connect');
  opened.push(server, accepted, client);
  return { server, accepted, client };
}

/** Collects copies of what a socket reads, and the memory each read was in. */
function reads(socket: Socket): { text: () => string; memory: Set<ArrayBufferLike> } {
  const parts: Buffer[] = [];
  const memory = new Set<ArrayBufferLike>();
  socket.on('data', (octets: Buffer) => {
    parts.push(Buffer.from(octets));
    memory.add(octets.buffer);
  });
  return { text: () => Buffer.concat(parts).toString(), memory };
}

const WITHOUT_USER_BUFFERS = (accepted: Socket): void => {
  const { _handle } = accepted as unknown as { _handle: object };
  Object.defineProperty(_handle, 'useUserBuffer', { value: undefined });
};

describe.each([
  ['a TCP socket', undefined, undefined],
  ['a Unix socket', join(tmpdir(), `hauberk-opensocket-${process.pid}`), undefined],
  ['a runtime without user buffers (the plain twin)', undefined, WITHOUT_USER_BUFFERS],
])('an accepted socket: %s', (_name, path, spoil) => {
  it('reads and writes, and half-closes as it was accepted', async () => {
    const { accepted, client } = await connection(path, spoil);
    const there = reads(accepted);
    const back = reads(client);
    accepted.on('end', () => accepted.end('after the FIN'));
    client.write('one ');
    client.end('two');
    await once(client, 'close');
    expect(there.text()).toBe('one two');
    expect(back.text()).toBe('after the FIN');
  });

  it('reads nothing while paused', async () => {
    const { accepted, client } = await connection(path, spoil);
    const there = reads(accepted);
    client.write('one');
    await once(accepted, 'data');
    accepted.pause();
    client.write(' two');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(there.text()).toBe('one');
    accepted.resume();
    await once(accepted, 'data');
    expect(there.text()).toBe('one two');
  });

  it('is counted by its server until it has closed', async () => {
    const { server, accepted, client } = await connection(path, spoil);
    accepted.resume();
    client.destroy();
    accepted.destroy();
    await once(accepted, 'close');
    await new Promise<void>((resolve) => server.close(() => resolve()));
    expect(accepted.destroyed).toBe(true);
  });
});

it('all sockets, opened and accepted, read into the same memory', async () => {
  const first = await connection();
  const second = await connection();
  const of = [first.accepted, first.client, second.accepted, second.client].map(reads);
  for (const { client, accepted } of [first, second]) {
    client.write('to the server');
    accepted.write('to the client');
  }
  await Promise.all(
    [first, second].flatMap(({ client, accepted }) => [once(client, 'data'), once(accepted, 'data')]),
  );
  expect(new Set(of.flatMap(({ memory }) => [...memory])).size).toBe(1);
});

it('an accepted socket knows both its ends', async () => {
  const { accepted, client } = await connection();
  expect(accepted.remotePort).toBe(client.localPort);
  expect(accepted.localPort).toBe(client.remotePort);
});

it('an accepted socket without a handle any more is left as it is', async () => {
  const { accepted } = await connection(undefined, (socket) => socket.destroy());
  expect(accepted.destroyed).toBe(true);
});
