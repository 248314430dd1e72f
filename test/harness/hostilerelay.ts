/**
 * Somebody on the wire who means harm: a TCP relay that delays, drops, cuts, swallows, corrupts, repeats and splices what
 * goes through it. What it does follows from a seed, when it does it from the traffic. It has no keys; it sees where a
 * record begins, so that it can put a whole one of another time or another connection there.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { type Direction, flipped, MODE_AT, RETRY, Splitter, type Unit } from './mitm.ts';
import type { Mulberry } from './seeded.ts';
import { atEnd } from './sidecars.ts';

export const FAULTS = [
  'delay', // both ways, for a while; nothing is lost
  'dribble', // both ways, a few octets at a time, for a while; nothing is lost
  'drop', // a record is missing, or octets of it
  'cut', // reset, or FIN in the middle of a record
  'half-open', // one way or both swallow everything, and nobody is told, also not that an end has gone
  'corrupt', // a bit is flipped
  'replay', // an earlier record comes again, beside another or in its place
  'replay-connection', // what the client of a connection sent first, living or not, comes again on a new one
  'splice-sessions', // connections of two sessions: a record of one comes in the other, or they exchange their ends
  'splice-connections', // the same with two connections of one session
] as const;
export type Fault = (typeof FAULTS)[number];

/** A `bad-record` whose tag does not verify. */
export const BAD_TAG = 'bad-record: does not authenticate';

/** How a connection may end, by the audit's reasons. */
type Reasons = readonly string[];
const NO_CLOSE: Reasons = ['truncated', 'socket-error'];
const FORGED: Reasons = [BAD_TAG];
/** An end that waits for the rest of a record. */
const MAIMED: Reasons = [BAD_TAG, 'bad-record', 'record-timeout'];
const SILENT: Reasons = ['heartbeat-timeout'];

const KEPT_OPENINGS = 16;
const KEPT_OPENING_BYTES = 64 * 1024;
const KEPT_RECORDS = 16;
const MAX_DELAY_MS = 150;
const MAX_DRIBBLE = 7; // octets
const LINK_PATIENCE_MS = 10_000;
/** The initiator sends its third record once it has had the tickets and the SETTINGS of the responder. */
const UP = 3;

type Change = (record: Buffer) => Buffer[];

/** What one end of a connection sends, on its way to the other. */
class Lane {
  to: Socket;
  /** What becomes of the next record; then this is forgotten. */
  next: Change | undefined;
  swallows = false;
  /** A record may be under way. */
  dribbles = false;
  records = 0;
  /** The last records. */
  readonly history: Buffer[] = [];
  readonly #splitter: Splitter;
  readonly #onUnit: (unit: Unit) => void;
  #held: Buffer[] | undefined;

  constructor(from: Socket, to: Socket, splitter: Splitter, onUnit: (unit: Unit) => void) {
    this.to = to;
    this.#splitter = splitter;
    this.#onUnit = onUnit;
    from.on('data', (chunk: Buffer) => {
      for (const unit of splitter.push(chunk)) this.#take(unit);
    });
  }

  #take(unit: Unit): void {
    const { kind, bytes } = unit;
    this.#onUnit(unit);
    if (kind !== 'record') {
      this.send(bytes);
      return;
    }
    this.records++;
    const change = this.next;
    this.next = undefined;
    for (const out of change === undefined ? [bytes] : change(bytes)) this.send(out);
    this.history.push(bytes);
    if (this.history.length > KEPT_RECORDS) this.history.shift();
  }

  /** The record of a number, counted from 0, if it is kept. */
  record(number: number): Buffer | undefined {
    const at = this.history.length - (this.records - number);
    return at < 0 ? undefined : this.history[at];
  }

  send(bytes: Buffer): void {
    if (this.swallows) return;
    if (this.#held !== undefined) this.#held.push(bytes);
    else if (this.to.writable) this.to.write(bytes);
  }

  /** The sender has said FIN. */
  end(): void {
    this.send(this.#splitter.rest);
    this.to.end();
  }

  hold(ms: number): void {
    if (this.#held !== undefined) return;
    this.#held = [];
    setTimeout(() => this.#release(), ms);
  }

  /** Sends a few octets a turn, as many as `size` says. */
  dribble(ms: number, size: () => number): void {
    if (this.#held !== undefined) return;
    this.#held = [];
    this.dribbles = true;
    const until = performance.now() + ms;
    const step = (): void => {
      if (performance.now() > until) {
        this.#release();
        return;
      }
      const all = Buffer.concat(this.#held ?? []);
      const n = Math.min(size(), all.length);
      this.#held = [all.subarray(n)];
      if (n > 0 && this.to.writable) this.to.write(all.subarray(0, n));
      setImmediate(step);
    };
    step();
  }

  #release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.dribbles = false;
    for (const bytes of held) this.send(bytes);
  }
}

/** One connection through the relay. */
export class Link {
  readonly door: number;
  readonly client: Socket;
  readonly server: Socket;
  readonly lanes: Readonly<Record<Direction, Lane>>;
  /** The modes of its CLIENT_HELLOs. */
  readonly modes: number[] = [];
  retries = 0;
  /** The fault that has broken it, and how its ends may tell of that: no further one is wasted on it. */
  broken: { readonly fault: Fault; readonly server: Reasons; readonly client: Reasons } | undefined;
  /** From where the relay has connected to the server, `host:port`. */
  serverSees = '';
  /** What its client sent first, as it came. */
  readonly opening: Buffer[] = [];
  #openingBytes = 0;

  constructor(door: number, client: Socket, server: Socket) {
    this.door = door;
    this.client = client;
    this.server = server;
    server.once('connect', () => {
      this.serverSees = `${server.localAddress}:${server.localPort}`;
    });
    client.on('data', (chunk: Buffer) => {
      if (this.#openingBytes > KEPT_OPENING_BYTES) return;
      this.opening.push(Buffer.from(chunk));
      this.#openingBytes += chunk.length;
    });
    const splitters = Splitter.pair();
    this.lanes = {
      up: new Lane(client, server, splitters.up, ({ kind, bytes }) => {
        if (kind === 'hello') this.modes.push(bytes[MODE_AT] as number);
      }),
      down: new Lane(server, client, splitters.down, ({ kind, bytes }) => {
        if (kind === 'frame' && bytes[0] === RETRY) this.retries++;
      }),
    };
  }

  /** It has come up, at some time. */
  get cameUp(): boolean {
    return this.lanes.up.records >= UP;
  }

  get live(): boolean {
    return this.broken === undefined && this.cameUp && !this.client.destroyed && !this.server.destroyed;
  }

  /** Of a record in one direction: the other end only sees the connection go. */
  breakBy(fault: Fault, direction: Direction, reasons: Reasons): Lane {
    const [server, client] = direction === 'up' ? [reasons, NO_CLOSE] : [NO_CLOSE, reasons];
    this.broken = { fault, server, client };
    return this.lanes[direction];
  }

  destroy(): void {
    this.client.destroy();
    this.server.destroy();
  }
}

export class HostileRelay {
  /** Where it listens: its doors. */
  readonly addresses: readonly string[];
  /** All connections that there have been, in their order. */
  readonly links: Link[] = [];
  /** Faults so far. */
  readonly done: Record<Fault, number>;
  readonly #target: string;
  readonly #random: Mulberry;
  readonly #sockets = new Set<Socket>();

  private constructor(servers: readonly Server[], target: string, random: Mulberry) {
    this.addresses = servers.map((server) => `127.0.0.1:${(server.address() as AddressInfo).port}`);
    this.#target = target;
    this.#random = random;
    this.done = Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<Fault, number>;
  }

  /** Listens on free ports, one for each session that is to be; connections go on to `target`, `host:port`. */
  static async start(target: string, doors: number, random: Mulberry): Promise<HostileRelay> {
    const servers = await Promise.all(
      Array.from({ length: doors }, async () => {
        const server = createServer({ allowHalfOpen: true, noDelay: true });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        return server;
      }),
    );
    const relay = new HostileRelay(servers, target, random);
    for (const [door, server] of servers.entries()) {
      server.on('connection', (client) => relay.#accept(door, client));
    }
    atEnd(() => {
      for (const server of servers) server.close();
      for (const socket of relay.#sockets) socket.destroy();
    });
    return relay;
  }

  get live(): Link[] {
    return this.links.filter((link) => link.live);
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

  #accept(door: number, client: Socket): void {
    const link = new Link(door, this.#keep(client), this.#connect());
    this.links.push(link);
    // Who goes is heard of by whoever is at the other end now, unless nobody is to be told.
    const { up, down } = link.lanes;
    const tell = (what: () => void): void => {
      if (link.broken?.fault !== 'half-open') what();
    };
    link.client.on('end', () => tell(() => up.end()));
    link.server.on('end', () => tell(() => down.end()));
    link.client.on('close', () => tell(() => up.to.destroy()));
    link.server.on('close', () => tell(() => down.to.destroy()));
  }

  /** Does something to a connection that is up, waiting for one if need be; false if none comes up. */
  async inflict(fault: Fault): Promise<boolean> {
    const deadline = performance.now() + LINK_PATIENCE_MS;
    for (;;) {
      const { live } = this;
      const link = live.length === 0 ? undefined : this.#random.pick(live);
      const others = link === undefined ? [] : live.filter((other) => fits(fault, link, other));
      if (link !== undefined && others.length > 0) {
        this.#apply(fault, link, this.#random.pick(others));
        this.done[fault]++;
        return true;
      }
      if (performance.now() > deadline) return false;
      await pause(2);
    }
  }

  #apply(fault: Fault, link: Link, other: Link): void {
    const random = this.#random;
    const direction = random.pick(['up', 'down'] as const);
    const { up, down } = link.lanes;
    switch (fault) {
      case 'delay': {
        const ms = 1 + random.below(MAX_DELAY_MS);
        up.hold(ms);
        down.hold(ms);
        return;
      }
      case 'dribble': {
        const ms = 1 + random.below(MAX_DELAY_MS);
        const size = (): number => 1 + random.below(MAX_DRIBBLE);
        up.dribble(ms, size);
        down.dribble(ms, size);
        return;
      }
      case 'drop': {
        const [whole, at] = [random.below(2) === 0, random.random()];
        link.breakBy(fault, direction, MAIMED).next = (record) => {
          const n = Math.floor(at * record.length);
          return whole ? [] : [record.subarray(0, n), record.subarray(n + 1 + (n >> 1))];
        };
        return;
      }
      case 'cut':
        this.#cut(link, direction);
        return;
      case 'half-open': {
        const reasons = up.dribbles || down.dribbles ? [...SILENT, 'record-timeout'] : SILENT;
        link.broken = { fault, server: reasons, client: reasons };
        const which = random.below(3);
        if (which !== 0) up.swallows = true;
        if (which !== 1) down.swallows = true;
        return;
      }
      case 'corrupt': {
        const [at, bit] = [random.random(), random.below(8)];
        link.breakBy(fault, direction, MAIMED).next = (record) => [
          flipped(record, Math.floor(at * record.length), bit),
        ];
        return;
      }
      case 'replay': {
        const old = random.pick(link.lanes[direction].history);
        this.#insert(link.breakBy(fault, direction, FORGED), old);
        return;
      }
      case 'replay-connection':
        this.#replayConnection(random.pick(this.links.slice(-KEPT_OPENINGS)).opening);
        return;
      default:
        this.#splice(fault, link, other, direction);
    }
  }

  /** A record that does not belong there: before the next, behind it or in its place. */
  #insert(lane: Lane, record: Buffer): void {
    const where = this.#random.below(3);
    lane.next = (next) => (where === 0 ? [record, next] : where === 1 ? [next, record] : [record]);
  }

  #cut(link: Link, direction: Direction): void {
    const lane = link.breakBy('cut', direction, NO_CLOSE);
    if (this.#random.below(2) === 0) {
      link.client.resetAndDestroy();
      link.server.resetAndDestroy();
      return;
    }
    const share = this.#random.random();
    lane.next = (record) => {
      setImmediate(() => link.destroy());
      lane.send(record.subarray(0, Math.floor(share * record.length)));
      lane.swallows = true; // what came with it would be taken for its rest
      return [];
    };
  }

  /** Step by step, as the client did. */
  #replayConnection(opening: readonly Buffer[]): void {
    const socket = this.#connect();
    const left = [...opening];
    const step = (): void => {
      const chunk = left.shift();
      if (chunk !== undefined && socket.writable) socket.write(chunk);
    };
    socket.on('data', step);
    socket.on('end', () => socket.destroy());
    step();
  }

  #splice(fault: Fault, link: Link, other: Link, direction: Direction): void {
    switch (this.#random.below(4)) {
      case 0: {
        const lane = link.breakBy(fault, direction, FORGED);
        const theirs = other.lanes[direction];
        this.#insert(lane, theirs.record(lane.records) ?? this.#random.pick(theirs.history));
        return;
      }
      case 1: {
        const reasons = exchanged(link, other);
        exchange(direction, link, other);
        for (const each of [link, other]) each.breakBy(fault, direction, reasons);
        return;
      }
      default: {
        const reasons = exchanged(link, other);
        exchange('up', link, other);
        exchange('down', link, other);
        for (const each of [link, other]) each.broken = { fault, server: reasons, client: reasons };
      }
    }
  }
}

/** Whether a fault of `link` may involve `other`. */
function fits(fault: Fault, link: Link, other: Link): boolean {
  if (fault === 'splice-sessions') return other.door !== link.door;
  if (fault === 'splice-connections') return other.door === link.door && other !== link;
  return other === link;
}

/** How connections end whose lanes are exchanged: one that came in pieces may wait for the rest of a record. */
function exchanged(...links: readonly Link[]): Reasons {
  const inPieces = links.some(({ lanes }) => lanes.up.dribbles || lanes.down.dribbles);
  return inPieces ? [...FORGED, ...NO_CLOSE, 'record-timeout'] : [...FORGED, ...NO_CLOSE];
}

function exchange(direction: Direction, one: Link, two: Link): void {
  const [a, b] = [one.lanes[direction], two.lanes[direction]];
  [a.to, b.to] = [b.to, a.to];
}
