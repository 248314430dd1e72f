import { lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { formatAddress } from '../config/address.ts';
import type { ListenAddress } from '../config/config.ts';
import { Roster } from '../lifecycle/roster.ts';
import { adoptSocket } from '../transport/opensocket.ts';

/** A listener could not be bound. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly code = 'listen-failed';

  /** The machine has no such address or address family: no IPv6, as a rule. */
  get familyMissing(): boolean {
    const code = (this.cause as NodeJS.ErrnoException | undefined)?.code;
    return code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL';
  }

  /** Another process listens there. */
  get taken(): boolean {
    return (this.cause as NodeJS.ErrnoException | undefined)?.code === 'EADDRINUSE';
  }
}

/** How often a port is drawn that shall be free on several hosts. */
const PORT_ATTEMPTS = 8;

/** Takes a connection over. */
export type OnSocket = (socket: Socket, listener: Listener) => void;

/**
 * What sockets read into: each something of its own, as node's servers need it, or what openSocket() has, with octets
 * that are valid only until the 'data' listener returns.
 */
export type Reads = 'own' | 'shared';

/** Who may connect to a Unix socket: its owner, or its owner and group. */
export type SocketMode = 0o600 | 0o660;

/** One bound address that hands on the connections it accepts. */
export class Listener {
  /** What was bound: the real port where the configuration says 0. */
  readonly address: ListenAddress;
  readonly #server: Server;
  readonly #sockets = new Roster<Socket>();

  private constructor(server: Server, address: ListenAddress, onSocket: OnSocket, reads: Reads) {
    this.#server = server;
    this.address = address;
    server.on('connection', (accepted) => {
      const socket = reads === 'shared' ? adoptSocket(accepted) : accepted;
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      onSocket(socket, this);
    });
  }

  get name(): string {
    return formatAddress(this.address);
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Binds; rejects with ListenError, which names the address and the cure. */
  static async open(
    what: string,
    address: ListenAddress,
    reads: Reads,
    onSocket: OnSocket,
    mode: SocketMode = 0o660,
  ): Promise<Listener> {
    if (address.kind === 'unix') removeStaleSocket(what, address.path);
    // A peer's FIN must not end our side before the rest has gone out; HTTP/2 and the channel end it.
    const server = createServer({
      allowHalfOpen: true,
      pauseOnConnect: reads === 'shared', // until adoptSocket() has it
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 30_000,
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) => reject(listenError(what, address, cause)));
      if (address.kind === 'unix') listenOnSocket(server, address.path, mode, resolve);
      else
        server.listen(
          { host: address.host, port: address.port, ipv6Only: address.host.includes(':') },
          resolve,
        );
    });
    if (address.kind === 'unix') return new Listener(server, address, onSocket, reads);
    const bound = server.address();
    const port = bound !== null && typeof bound === 'object' ? bound.port : address.port;
    return new Listener(server, { kind: 'tcp', host: address.host, port }, onSocket, reads);
  }

  /**
   * Binds several addresses for one purpose. One whose address family the machine lacks is left out, and told to
   * `onSkipped`, as long as another is bound. Port 0 on several hosts is one free port for all of them.
   */
  static async openAll(
    what: string,
    addresses: readonly ListenAddress[],
    reads: Reads,
    onSocket: OnSocket,
    onSkipped: (error: ListenError) => void,
    mode?: SocketMode,
  ): Promise<Listener[]> {
    for (let left = PORT_ATTEMPTS; ; left--) {
      try {
        return await Listener.#openOnce(what, addresses, reads, onSocket, onSkipped, mode);
      } catch (error) {
        const mayDiffer = addresses.some((address) => address.kind === 'tcp' && address.port === 0);
        if (!(error instanceof ListenError) || !error.taken || !mayDiffer || left <= 1) throw error;
      }
    }
  }

  static async #openOnce(
    what: string,
    addresses: readonly ListenAddress[],
    reads: Reads,
    onSocket: OnSocket,
    onSkipped: (error: ListenError) => void,
    mode?: SocketMode,
  ): Promise<Listener[]> {
    const opened: Listener[] = [];
    let skipped: ListenError | undefined;
    for (const given of addresses) {
      const address = onSamePort(given, opened);
      try {
        opened.push(await Listener.open(what, address, reads, onSocket, mode));
      } catch (error) {
        if (!(error instanceof ListenError) || !error.familyMissing) {
          for (const listener of opened) listener.destroy();
          throw error;
        }
        skipped = error;
        onSkipped(error);
      }
    }
    if (opened.length === 0 && skipped !== undefined) throw skipped;
    return opened;
  }

  /** Accepts no more; connections that are open stay. */
  close(): void {
    this.#server.close();
  }

  /** Ends the connections that are still open. */
  destroy(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** For port 0: the port that was bound for another host, if this host has not got it yet. */
function onSamePort(address: ListenAddress, opened: readonly Listener[]): ListenAddress {
  if (address.kind !== 'tcp' || address.port !== 0) return address;
  const bound = opened.map((listener) => listener.address).filter((other) => other.kind === 'tcp');
  const { port } = bound[0] ?? address;
  const hasIt = bound.some((other) => other.host === address.host && other.port === port);
  return hasIt ? address : { ...address, port };
}

/** Nobody else may connect at any moment: a mode that is set afterwards would come too late. */
function listenOnSocket(server: Server, path: string, mode: SocketMode, listening: () => void): void {
  const before = process.umask(0o777 & ~mode);
  try {
    server.listen(path, listening); // binds before it returns
  } finally {
    process.umask(before);
  }
}

function removeStaleSocket(what: string, path: string): void {
  try {
    if (!lstatSync(path).isSocket()) {
      throw new ListenError(`${what}: ${path} exists and is not a socket; choose another path or remove it`);
    }
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function listenError(what: string, address: ListenAddress, cause: NodeJS.ErrnoException): ListenError {
  const where = formatAddress(address);
  const cure: Record<string, string> = {
    EADDRINUSE: 'another process listens there; stop it or choose another port',
    EACCES: 'ports below 1024 need a privilege; choose a higher one',
    EADDRNOTAVAIL: 'no interface of this machine has that address',
    EAFNOSUPPORT: 'this machine has no such address family',
  };
  const reason = cure[cause.code ?? ''] ?? cause.message;
  return new ListenError(`${what}: cannot listen on ${where} (${cause.code}): ${reason}`, { cause });
}
