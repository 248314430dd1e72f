import type { Socket } from 'node:net';
import { addressKey } from '../../transport/admission.ts';

export interface ConnectionLimits {
  readonly max: number;
  readonly maxPerAddress: number;
}

interface Connection {
  readonly socket: Socket;
  readonly address: string;
  /** Requests that are under way on it. */
  requests: number;
}

/**
 * The connections of a server from the moment they are accepted, bounded for each address and in all. Where there are too
 * many in all, the address that has most of them loses the one that has been idle for longest, or else its oldest: nobody
 * keeps an API server out by connecting.
 */
export class Connections {
  readonly #limits: ConnectionLimits;
  /** By the peer's address and port, which a TLS socket shares with the one beneath it. Those that wait are in order. */
  readonly #open = new Map<string, Connection>();
  readonly #byAddress = new Map<string, number>();

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /** False, and the connection is not counted, if its address has too many. */
  add(socket: Socket): boolean {
    const key = keyOf(socket);
    const address = addressKey(socket.remoteAddress ?? '');
    const own = this.#byAddress.get(address) ?? 0;
    if (own >= this.#limits.maxPerAddress) return false;
    if (this.#open.size >= this.#limits.max) this.#makeRoom();
    const connection: Connection = { socket, address, requests: 0 };
    this.#open.set(key, connection);
    this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1);
    socket.once('close', () => this.#remove(key, connection));
    socket.on('error', () => socket.destroy());
    return true;
  }

  begin(socket: Socket): void {
    this.#change(socket, 1);
  }

  end(socket: Socket): void {
    this.#change(socket, -1);
  }

  closeIdle(): void {
    for (const { socket, requests } of [...this.#open.values()]) if (requests === 0) socket.destroy();
  }

  destroy(): void {
    for (const { socket } of [...this.#open.values()]) socket.destroy();
  }

  #makeRoom(): void {
    let most: [string, number] | undefined;
    for (const entry of this.#byAddress) if (entry[1] > (most?.[1] ?? 0)) most = entry;
    const own = [...this.#open].filter(([, { address }]) => address === most?.[0]);
    const found = own.find(([, { requests }]) => requests === 0) ?? own[0];
    if (found === undefined) return;
    this.#remove(...found);
    found[1].socket.destroy();
  }

  #remove(key: string, connection: Connection): void {
    if (this.#open.get(key) !== connection) return;
    this.#open.delete(key);
    const left = (this.#byAddress.get(connection.address) ?? 0) - 1;
    if (left > 0) this.#byAddress.set(connection.address, left);
    else this.#byAddress.delete(connection.address);
  }

  #change(socket: Socket, by: number): void {
    const key = keyOf(socket);
    const connection = this.#open.get(key);
    if (connection === undefined) return;
    connection.requests += by;
    this.#open.delete(key);
    this.#open.set(key, connection);
  }
}

const keyOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): string =>
  `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
