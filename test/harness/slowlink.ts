import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { rawConnection } from './rawtcp.ts';
import { atEnd } from './sidecars.ts';

/** `up` is from the end that connected. */
export type Direction = 'up' | 'down';

/**
 * Returns where to connect instead of to `address` for a wire that takes no more than `rate` octets a second in one
 * direction: what it does not take waits in the sender's socket.
 */
export async function slowLink(address: string, direction: Direction, rate: number): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, async (near) => {
    sockets.add(near);
    near.on('error', () => {});
    const far = await rawConnection(address);
    const [from, to] = direction === 'up' ? [near, far] : [far, near];
    to.pipe(from);
    void carry(from, to, rate);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const bound = server.address();
  return typeof bound === 'object' ? `127.0.0.1:${bound?.port}` : '';
}

async function carry(from: Socket, to: Socket, rate: number): Promise<void> {
  const began = performance.now();
  let octets = 0;
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      if (!to.write(chunk)) await once(to, 'drain');
      octets += chunk.length;
      const early = (octets / rate) * 1000 - (performance.now() - began);
      if (early > 1) await pause(early);
    }
    to.end();
  } catch {
    to.destroy(); // either end is gone, and takes the other with it
  }
}
