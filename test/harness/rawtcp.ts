import { once } from 'node:events';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { atEnd } from './sidecars.ts';

/** `host:port` or `unix:/path`, as net.connect takes it. */
function optionsOf(address: string): NetConnectOpts {
  if (address.startsWith('unix:')) return { path: address.slice(5) };
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

/** A plain connection, from `localAddress` if it is given. Its errors are nobody's: its close says enough. */
export async function rawConnection(address: string, localAddress?: string): Promise<Socket> {
  const socket = connect({
    ...optionsOf(address),
    allowHalfOpen: true,
    ...(localAddress === undefined ? {} : { localAddress }),
  } as NetConnectOpts);
  socket.on('error', () => {});
  atEnd(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  return socket;
}

export interface Talk {
  readonly received: Buffer;
  /** Monotonic milliseconds from the last flight to the close. */
  readonly closedAfterMs: number;
}

/**
 * Sends the flights, each but the first when something has come since the one before, and waits until the other
 * side has closed the connection.
 */
export async function talk(address: string, flights: ReadonlyArray<Buffer | string>): Promise<Talk> {
  const socket = await rawConnection(address);
  const left = [...flights];
  const received: Buffer[] = [];
  let last = performance.now();
  const next = (): void => {
    const flight = left.shift();
    if (flight === undefined) return;
    last = performance.now();
    socket.write(flight);
  };
  socket.on('data', (chunk: Buffer) => {
    received.push(chunk);
    next();
  });
  next();
  await new Promise<void>((resolve) => {
    socket.once('end', resolve);
    socket.once('close', () => resolve());
  });
  const closedAfterMs = performance.now() - last;
  socket.destroy();
  return { received: Buffer.concat(received), closedAfterMs };
}
