import type { Socket } from 'node:net';

/**
 * At most so many connections at a time: when one more comes, the oldest goes. Whoever holds connections without
 * using them can so neither exhaust the process nor keep a kubelet's probe out.
 */
export class ConnectionCap {
  readonly #max: number;
  /** In the order in which they came. */
  readonly #sockets = new Set<Socket>();
  readonly #kept = new WeakSet<Socket>();

  constructor(max: number) {
    this.#max = max;
  }

  get open(): number {
    return this.#sockets.size;
  }

  add(socket: Socket): void {
    if (this.#sockets.size >= this.#max) {
      const oldest = this.#oldest();
      this.#sockets.delete(oldest as Socket);
      oldest?.destroy();
    }
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  /** The connection from `peer`, as `address:port`, has proven that it may be here: others go before it. */
  keep(peer: string): void {
    for (const socket of this.#sockets) {
      if (`${socket.remoteAddress}:${socket.remotePort}` === peer) this.#kept.add(socket);
    }
  }

  #oldest(): Socket | undefined {
    for (const socket of this.#sockets) if (!this.#kept.has(socket)) return socket;
    const [first] = this.#sockets;
    return first;
  }

  /** Ends all of them. */
  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }
}
