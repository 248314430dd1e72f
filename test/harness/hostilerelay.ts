/**
 * Somebody on the wire who means harm: a TCP relay that delays, drops, cuts, swallows, corrupts, repeats and splices what
 * goes through it. It knows nothing of the protocol; what it does follows from a seed, when it does it from the traffic.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { Mulberry } from './seeded.ts';
import { atEnd } from './sidecars.ts';

export const FAULTS = [
  'delay', // both ways, for a while; nothing is lost
  'drop', // a chunk is missing
  'cut', // reset, or FIN in the middle of a chunk
  'half-open', // one way or both swallow everything, and nobody is told
  'corrupt', // a bit is flipped
  'replay', // an earlier chunk comes again
  'replay-connection', // what the client of a connection sent first, living or not, comes again on a new one
  'splice', // two connections exchange their servers
] as const;
export type Fault = (typeof FAULTS)[number];

/** Of what a client sent first, so much is kept for replays. */
const KEPT_BYTES = 64 * 1024;
const KEPT_CHUNKS = 16;
const MAX_DELAY_MS = 150;
const LINK_PATIENCE_MS = 20_000;
/** From so many chunks of the server on a handshake is done: message 2, then records. */
const UP = 3;

/** What one end of a connection sends, on its way to the other. */
class Lane {
  to: Socket;
  /** What becomes of the next chunk; then this is forgotten. */
  next: ((chunk: Buffer) => Buffer[]) | undefined;
  swallows = false;
  chunks = 0;
  /** The last chunks, whole. */
  readonly history: Buffer[] = [];
  /** The first bytes. */
  readonly opening: Buffer[] = [];
  #openingBytes = 0;
  #held: Buffer[] | undefined;

  constructor(from: Socket, to: Socket) {
    this.to = to;
    from.on('data', (chunk: Buffer) => this.#take(Buffer.from(chunk)));
  }

  #take(chunk: Buffer): void {
    this.chunks++;
    if (this.#openingBytes < KEPT_BYTES) {
      this.opening.push(chunk);
      this.#openingBytes += chunk.length;
    }
    const change = this.next;
    this.next = undefined;
    for (const out of change === undefined ? [chunk] : change(chunk)) this.send(out);
    this.history.push(chunk);
    if (this.history.length > KEPT_CHUNKS) this.history.shift();
  }

  send(chunk: Buffer): void {
    if (this.swallows) return;
    if (this.#held !== undefined) this.#held.push(chunk);
    else if (this.to.writable) this.to.write(chunk);
  }

  hold(ms: number): void {
    if (this.#held !== undefined) return;
    this.#held = [];
    setTimeout(() => {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const chunk of held) this.send(chunk);
    }, ms);
  }
}

class Link {
  readonly client: Socket;
  server: Socket;
  readonly up: Lane;
  readonly down: Lane;
  /** Broken already: no further fault is wasted on it. */
  doomed = false;

  constructor(client: Socket, server: Socket) {
    this.client = client;
    this.server = server;
    this.up = new Lane(client, server);
    this.down = new Lane(server, client);
  }

  get live(): boolean {
    return !this.doomed && this.down.chunks >= UP && !this.client.destroyed && !this.server.destroyed;
  }

  destroy(): void {
    this.client.destroy();
    this.server.destroy();
  }
}

export class HostileRelay {
  readonly address: string;
  /** Faults so far. */
  readonly done: Record<Fault, number>;
  readonly #target: string;
  readonly #random: Mulberry;
  readonly #links = new Set<Link>();
  readonly #sockets = new Set<Socket>();
  /** Openings of connections that are over. */
  readonly #recorded: Buffer[][] = [];

  private constructor(server: Server, target: string, random: Mulberry) {
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.#target = target;
    this.#random = random;
    this.done = Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<Fault, number>;
  }

  /** Listens on a free port; connections go on to `target`, `host:port`. */
  static async start(target: string, random: Mulberry): Promise<HostileRelay> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const relay = new HostileRelay(server, target, random);
    server.on('connection', (client) => relay.#accept(client));
    atEnd(() => {
      server.close();
      for (const socket of relay.#sockets) socket.destroy();
    });
    return relay;
  }

  #connect(): Socket {
    const [host, port] = this.#target.split(':') as [string, string];
    return this.#keep(connect({ host, port: Number(port), allowHalfOpen: true, noDelay: true }));
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => {}); // its close follows
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  #accept(client: Socket): void {
    const link = new Link(this.#keep(client), this.#connect());
    this.#links.add(link);
    // Who goes is heard of by whoever is at the other end now.
    const over = (): void => {
      if (!this.#links.delete(link)) return;
      this.#recorded.push(link.up.opening);
      if (this.#recorded.length > KEPT_CHUNKS) this.#recorded.shift();
    };
    link.client.on('end', () => link.up.to.end());
    link.server.on('end', () => link.down.to.end());
    link.client.on('close', () => {
      over();
      link.up.to.destroy();
    });
    link.server.on('close', () => {
      over();
      link.down.to.destroy();
    });
  }

  /** Does something to a connection that is up, waiting for one if need be. */
  async inflict(fault: Fault = this.#random.pick(FAULTS)): Promise<void> {
    const deadline = performance.now() + LINK_PATIENCE_MS;
    for (;;) {
      const live = [...this.#links].filter((link) => link.live);
      const enough = fault === 'splice' ? 2 : 1;
      if (live.length >= enough) {
        const first = this.#random.below(live.length);
        const other = live[(first + 1) % live.length] as Link;
        this.#apply(fault, live[first] as Link, other);
        this.done[fault]++;
        return;
      }
      if (performance.now() > deadline) throw new Error(`no connection came up to ${fault}`);
      await pause(5);
    }
  }

  #apply(fault: Fault, link: Link, other: Link): void {
    const random = this.#random;
    const lane = random.pick([link.up, link.down]);
    switch (fault) {
      case 'delay': {
        const ms = 1 + random.below(MAX_DELAY_MS);
        link.up.hold(ms);
        link.down.hold(ms);
        return;
      }
      case 'drop':
        link.doomed = true;
        lane.next = () => [];
        return;
      case 'cut':
        this.#cut(link, lane);
        return;
      case 'half-open': {
        link.doomed = true;
        const which = random.below(3);
        if (which !== 0) link.up.swallows = true;
        if (which !== 1) link.down.swallows = true;
        return;
      }
      case 'corrupt': {
        link.doomed = true;
        const [at, bit] = [random.random(), random.below(8)];
        lane.next = (chunk) => {
          const byte = Math.floor(at * chunk.length);
          chunk[byte] = (chunk[byte] as number) ^ (1 << bit);
          return [chunk];
        };
        return;
      }
      case 'replay': {
        link.doomed = true;
        const old = random.pick(lane.history);
        lane.next = (chunk) => [chunk, old];
        return;
      }
      case 'replay-connection': {
        // Step by step, as the client did.
        const socket = this.#connect();
        const left = [...random.pick([...this.#recorded, link.up.opening])];
        const step = (): void => {
          const chunk = left.shift();
          if (chunk !== undefined && socket.writable) socket.write(chunk);
        };
        socket.on('data', step);
        socket.on('end', () => socket.destroy());
        step();
        return;
      }
      case 'splice':
        link.doomed = true;
        other.doomed = true;
        [link.up.to, other.up.to] = [other.up.to, link.up.to];
        [link.down.to, other.down.to] = [other.down.to, link.down.to];
    }
  }

  #cut(link: Link, lane: Lane): void {
    link.doomed = true;
    if (this.#random.below(2) === 0) {
      link.client.resetAndDestroy();
      link.server.resetAndDestroy();
      return;
    }
    const share = this.#random.random();
    lane.next = (chunk) => {
      const rest = chunk.subarray(0, Math.floor(share * chunk.length));
      setImmediate(() => link.destroy());
      return [rest];
    };
  }
}
