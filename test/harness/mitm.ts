/**
 * Somebody on the wire: a TCP proxy that records both directions and may change, hold back, drop, repeat or add
 * anything. Between two sidecars it sees the protocol's own units (CLIENT_HELLO, handshake frames, records), so
 * that a test can name what it attacks; on any other connection it sees chunks.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { atEnd } from './sidecars.ts';

/** `up` is from whoever dialled. */
export type Direction = 'up' | 'down';

export interface Unit {
  readonly direction: Direction;
  readonly kind: 'hello' | 'frame' | 'record' | 'chunk';
  /** Counts the units of a kind and direction from 0. */
  readonly index: number;
  readonly bytes: Buffer;
}

/** What goes on instead of the unit; undefined for nothing. */
export type Meddler = (unit: Unit, link: Link) => Buffer | undefined;

const HELLO = 12; // bytes
const TICKET = 16; // in mode 2
export const MODE_AT = 5; // in CLIENT_HELLO
const RESUMPTION = 2; // mode
export const RETRY = 2; // frame type
const HELLO_BEGINS = 0x48; // 'H'
const FRAME_HEADER = 3; // type u8, length u16
const RECORD_HEADER = 2; // length u16

/** What is due of a handshake: messages 1 and 3 go up, message 2 comes down; a ticket or a RETRY changes that. */
class Due {
  readonly frames: Record<Direction, number> = { up: 2, down: 1 };
  retried = false;

  seen({ kind, index, bytes }: Unit): void {
    if (kind === 'hello' && bytes[MODE_AT] === RESUMPTION) this.frames.up = 1;
    if (kind === 'hello' && index > 0) this.frames.up = 3;
    if (kind !== 'frame' || bytes[0] !== RETRY) return;
    this.frames.down = 2;
    this.retried = true;
  }
}

/** Cuts one direction of a connection between sidecars into its units. */
export class Splitter {
  readonly #direction: Direction;
  readonly #due: Due;
  readonly #counts = { hello: 0, frame: 0, record: 0 };
  #bytes: Buffer = Buffer.alloc(0);

  private constructor(direction: Direction, due: Due) {
    this.#direction = direction;
    this.#due = due;
  }

  /** For both directions of one connection. */
  static pair(): Readonly<Record<Direction, Splitter>> {
    const due = new Due();
    return { up: new Splitter('up', due), down: new Splitter('down', due) };
  }

  /** What has come of a unit that is not whole. */
  get rest(): Buffer {
    return this.#bytes;
  }

  push(chunk: Buffer): Unit[] {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    const units: Unit[] = [];
    for (;;) {
      const kind = this.#next();
      const length = this.#length(kind);
      if (length === undefined || this.#bytes.length < length) return units;
      const bytes = Buffer.from(this.#bytes.subarray(0, length));
      const unit = { direction: this.#direction, kind, index: this.#counts[kind]++, bytes };
      this.#due.seen(unit);
      units.push(unit);
      this.#bytes = this.#bytes.subarray(length);
    }
  }

  #next(): 'hello' | 'frame' | 'record' {
    const { hello, frame } = this.#counts;
    // Who injects a RETRY does not have it seen. No frame begins like a hello; a record may.
    const asked = this.#due.retried || (this.#due.frames.up > 1 && this.#bytes[0] === HELLO_BEGINS);
    const again = hello === 1 && frame === 1 && asked;
    if (this.#direction === 'up' && (hello === 0 || again)) return 'hello';
    return frame < this.#due.frames[this.#direction] ? 'frame' : 'record';
  }

  #length(kind: 'hello' | 'frame' | 'record'): number | undefined {
    if (kind === 'hello') {
      if (this.#bytes.length < HELLO) return undefined;
      return this.#bytes[MODE_AT] === RESUMPTION ? HELLO + TICKET : HELLO;
    }
    const header = kind === 'frame' ? FRAME_HEADER : RECORD_HEADER;
    return this.#bytes.length < header ? undefined : header + this.#bytes.readUInt16BE(header - 2);
  }
}

/** One connection through the proxy. */
export class Link {
  readonly client: Socket;
  readonly server: Socket;
  /** The address that the client dialled. */
  readonly dialled: string;
  /** Neither end hears that the other has gone. */
  halfOpen = false;
  /** Everything that each end has sent, unit by unit, as it was before any meddling. */
  readonly sent: Readonly<Record<Direction, Unit[]>> = { up: [], down: [] };

  constructor(client: Socket, server: Socket) {
    this.client = client;
    this.server = server;
    this.dialled = client.localAddress ?? '';
  }

  /** What one end has sent. */
  bytes(direction: Direction): Buffer {
    return Buffer.concat(this.sent[direction].map(({ bytes }) => bytes));
  }

  /** Sends bytes of one's own in a direction. */
  inject(direction: Direction, bytes: Buffer): void {
    (direction === 'up' ? this.server : this.client).write(bytes);
  }

  /** Ends a direction with a FIN, as if its sender had. */
  finish(direction: Direction): void {
    (direction === 'up' ? this.server : this.client).end();
  }
}

export class Mitm {
  /** Where it listens: `host:port`. */
  readonly address: string;
  readonly port: number;
  readonly links: Link[] = [];
  /** Where connections go on to: `host:port` or `unix:/path`. */
  target = '';
  /** Asked about every unit; none lets everything pass. */
  meddler: Meddler | undefined;
  readonly #raw: boolean;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, host: string, raw: boolean) {
    this.#raw = raw;
    this.port = (server.address() as AddressInfo).port;
    this.address = `${host}:${this.port}`;
  }

  /** Listens on a free port of `host`. `raw` is for connections that are not between sidecars. */
  static async start({ host = '127.0.0.1', raw = false, target = '' } = {}): Promise<Mitm> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(0, host);
    await once(server, 'listening');
    const mitm = new Mitm(server, host, raw);
    mitm.target = target;
    server.on('connection', (socket) => mitm.#accept(socket));
    atEnd(() => {
      server.close();
      for (const socket of mitm.#sockets) socket.destroy();
    });
    return mitm;
  }

  /** The newest connection. */
  get link(): Link {
    return this.links.at(-1) as Link;
  }

  /** Everything that went through, in a direction or in both. */
  seen(direction?: Direction): Buffer {
    const directions: Direction[] = direction === undefined ? ['up', 'down'] : [direction];
    return Buffer.concat(this.links.flatMap((link) => directions.map((way) => link.bytes(way))));
  }

  #accept(client: Socket): void {
    const server = this.#keep(connectTo(this.target));
    const link = new Link(this.#keep(client), server);
    this.links.push(link);
    const splitters = this.#raw ? undefined : Splitter.pair();
    this.#pump(link, 'up', client, server, splitters?.up);
    this.#pump(link, 'down', server, client, splitters?.down);
  }

  #pump(link: Link, direction: Direction, from: Socket, to: Socket, splitter: Splitter | undefined): void {
    let chunks = 0;
    from.on('data', (chunk: Buffer) => {
      const units = splitter?.push(chunk) ?? [
        { direction, kind: 'chunk' as const, index: chunks++, bytes: Buffer.from(chunk) },
      ];
      const out: Buffer[] = [];
      for (const unit of units) {
        link.sent[direction].push(unit);
        const bytes = this.meddler === undefined ? unit.bytes : this.meddler(unit, link);
        if (bytes !== undefined) out.push(bytes);
      }
      if (out.length > 0 && to.writable) to.write(Buffer.concat(out));
    });
    from.on('end', () => {
      if (!link.halfOpen) to.end();
    });
    from.on('close', () => {
      if (!link.halfOpen) to.destroy();
    });
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => {}); // its close follows
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }
}

function connectTo(target: string): Socket {
  if (target.startsWith('unix:')) return connect({ path: target.slice(5), allowHalfOpen: true });
  const colon = target.lastIndexOf(':');
  return connect({
    host: target.slice(0, colon),
    port: Number(target.slice(colon + 1)),
    allowHalfOpen: true,
    noDelay: true,
  });
}

/** A copy with one bit changed. */
export function flipped(bytes: Buffer, at: number, bit = 0): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ (1 << bit);
  return copy;
}
