/**
 * A port of loopback behind which lies a sidecar's ingress: each connection to it becomes one to the sidecar, made as
 * an honest peer, and octets go both ways through its records. Whatever speaks plain HTTP/2 can so be a peer.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { LocalIdentity } from '../../src/identity/local.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import type { ChainVerifier } from '../../src/transport/identityproof.ts';
import { dialAs } from './rogue.ts';
import { atEnd } from './sidecars.ts';

/** Returns the port's address. What cannot be bridged is closed; `refused` counts it. */
export async function bridgeTo(
  ingress: string,
  identity: LocalIdentity,
  options: { expectedPeer: string; bundle: ChainVerifier },
): Promise<{ address: string; refused: () => number }> {
  const sockets = new Set<Socket>();
  let refused = 0;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.pause();
    dialAs(identity, ingress, options).then(
      (channel) => join(socket, channel),
      () => {
        refused++;
        socket.destroy();
      },
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, refused: () => refused };
}

function join(socket: Socket, channel: SecureChannel): void {
  channel.onClose = () => socket.end();
  channel.onDrain = () => void socket.resume();
  socket.on('data', (octets: Buffer) => {
    for (let at = 0; at < octets.length; at += channel.capacity) {
      const buf = channel.acquire();
      const n = octets.copy(buf, channel.headroom, at, at + channel.capacity);
      if (!channel.write(buf, channel.headroom, channel.headroom + n)) socket.pause();
    }
  });
  socket.once('end', () => channel.close());
  socket.once('close', () => channel.close());
  channel.onData = (octets) => void socket.write(Buffer.from(octets));
  if (!channel.closed) socket.resume();
}
