import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { LocalIdentity } from '../../src/identity/local.ts';
import { Acceptor, type AcceptorOptions, type Refusal } from '../../src/transport/acceptor.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { type DialOptions, dial } from '../../src/transport/dial.ts';
import type { CloseReason } from '../../src/transport/errors.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { Initiator } from '../../src/transport/initiator.ts';
import { DEFAULT_HANDSHAKE_LIMITS, DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { MODES } from '../../src/transport/mode.ts';
import { MAX_LENGTH, PING, RecordReader, RecordWriter } from '../../src/transport/record.ts';
import { StaticKey } from '../../src/transport/statickey.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust, type Trust } from '../harness/trust.ts';
import { crypto } from './world.ts';

/** Things that come one by one, and are waited for in their order. */
export class Queue<T> {
  readonly #items: T[] = [];
  readonly #waiting: Array<(item: T) => void> = [];

  push(item: T): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#items.push(item);
    else next(item);
  }

  next(): Promise<T> {
    const item = this.#items.shift();
    return item === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(item);
  }

  get length(): number {
    return this.#items.length;
  }
}

export interface End {
  reason: CloseReason;
  detail: string;
  flood: string | undefined;
}

/** A channel with its callbacks set: what it received, and how it ended. */
export class Party {
  readonly channel: SecureChannel;
  readonly data: Buffer[] = [];
  readonly ended: Promise<End>;
  readonly rekeys: string[] = [];
  #bytes = 0;
  #wanted = new Map<number, () => void>();

  constructor(channel: SecureChannel) {
    this.channel = channel;
    this.ended = new Promise((resolve) => {
      channel.onClose = (reason, detail, flood) => resolve({ reason, detail, flood });
    });
    channel.onRekey = (direction, cause) => this.rekeys.push(`${direction} ${cause}`);
    channel.onData = (plaintext) => {
      this.data.push(Buffer.from(plaintext));
      this.#bytes += plaintext.length;
      for (const [count, resolve] of this.#wanted) if (this.#bytes >= count) resolve();
    };
  }

  send(payload: Buffer | string): boolean {
    const buf = this.channel.acquire();
    const start = this.channel.headroom;
    const bytes = Buffer.from(payload);
    bytes.copy(buf, start);
    return this.channel.write(buf, start, start + bytes.length);
  }

  /** Resolves with everything received, once that is `count` bytes. */
  async received(count: number): Promise<string> {
    if (this.#bytes < count) await new Promise<void>((resolve) => this.#wanted.set(count, resolve));
    return Buffer.concat(this.data).toString('latin1');
  }
}

/** Changes bytes on their way. `at` is where the chunk begins in its direction. */
export type Meddler = (chunk: Buffer, direction: 'up' | 'down', at: number, link: Link) => Buffer | undefined;

/** A connection through the man in the middle. */
export interface Link {
  readonly client: Socket;
  readonly server: Socket;
}

/** A server `greeter`, a client `web`, both on one clock that stands still, and whatever a test opens. */
export class Bench {
  readonly clock = new FakeClock();
  readonly channels = new Queue<SecureChannel>();
  readonly refusals = new Queue<Refusal>();
  readonly trust: Trust;
  readonly web: LocalIdentity;
  readonly greeter: LocalIdentity;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #staticKeys: StaticKey[] = [];
  port = 0;
  acceptor!: Acceptor;

  private constructor(trust: Trust, web: LocalIdentity, greeter: LocalIdentity) {
    this.trust = trust;
    this.web = web;
    this.greeter = greeter;
  }

  static async open(overrides: Partial<AcceptorOptions> = {}, trust?: Trust): Promise<Bench> {
    const domain = trust ?? (await makeTrust({ clock: new FakeClock() }));
    const [web, greeter] = await Promise.all([domain.identity('web'), domain.identity('greeter')]);
    const bench = new Bench(domain, web, greeter);
    bench.acceptor = new Acceptor({
      identity: () => greeter,
      bundle: () => domain.bundle,
      staticKey: bench.staticKey(),
      crypto,
      clock: bench.clock,
      onChannel: (channel) => bench.channels.push(channel),
      onRefused: (refusal) => bench.refusals.push(refusal),
      ...overrides,
    });
    bench.port = await bench.listen((socket) => bench.acceptor.accept(socket));
    return bench;
  }

  staticKey(): StaticKey {
    const key = new StaticKey(crypto, this.clock, 3_600_000);
    this.#staticKeys.push(key);
    return key;
  }

  async listen(onSocket: (socket: Socket) => void, host = '127.0.0.1'): Promise<number> {
    const server = createServer((socket) => {
      this.#keep(socket);
      onSocket(socket);
    });
    this.#servers.push(server);
    server.listen(0, host);
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  dial(overrides: Partial<DialOptions> = {}): Promise<SecureChannel> {
    return dial({
      host: '127.0.0.1',
      port: this.port,
      identity: this.web,
      bundle: this.trust.bundle,
      expectedPeer: this.greeter.spiffeId,
      staticKey: overrides.staticKey ?? this.staticKey(),
      crypto,
      clock: this.clock,
      ...overrides,
    });
  }

  /** Both ends of a new connection. */
  async connect(overrides: Partial<DialOptions> = {}): Promise<{ client: Party; server: Party }> {
    const channel = await this.dial(overrides);
    return { client: new Party(channel), server: new Party(await this.channels.next()) };
  }

  /** A port on which every connection goes to the acceptor through `meddle`. */
  async middle(meddle: Meddler): Promise<number> {
    return this.listen((client) => {
      const server = this.#keep(connect(this.port, '127.0.0.1'));
      const link = { client, server };
      const pump = (from: Socket, to: Socket, direction: 'up' | 'down'): void => {
        let at = 0;
        from.on('data', (chunk: Buffer) => {
          const out = meddle(chunk, direction, at, link);
          at += chunk.length;
          if (out !== undefined && !to.destroyed) to.write(out);
        });
        from.on('end', () => to.end());
        from.on('close', () => to.destroy());
        from.on('error', () => to.destroy());
      };
      pump(client, server, 'up');
      pump(server, client, 'down');
    });
  }

  /** A plain TCP connection to the acceptor. */
  async raw(port = this.port): Promise<Socket> {
    const socket = this.#keep(connect(port, '127.0.0.1'));
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  }

  /** A peer that has done its handshake and now does what it likes; its first record is a PING, unless it is `mute`. */
  async rogue({ tickets = false, mute = false } = {}): Promise<Rogue> {
    const socket = await this.raw();
    const machine = new Initiator({
      crypto,
      modes: MODES,
      staticKey: this.staticKey().current,
      identity: this.web,
      bundle: this.trust.bundle,
      now: () => this.clock.now(),
      limits: DEFAULT_HANDSHAKE_LIMITS,
      maxRecord: MAX_LENGTH,
      instance: undefined,
      expectedPeer: this.greeter.spiffeId,
      tickets,
    });
    const rogue = new Rogue(socket, await shakeHands(socket, machine));
    if (!mute) rogue.send(PING, Buffer.alloc(8));
    return rogue;
  }

  /** Ends everything that is open; resolves when no connection is left. */
  async close(): Promise<void> {
    this.acceptor.close();
    for (const socket of this.#sockets) socket.destroy();
    for (const key of this.#staticKeys) key.close();
    await Promise.all(
      this.#servers.map((server) => new Promise<void>((resolve) => void server.close(() => resolve()))),
    );
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  /** How many of the sockets made here are open. */
  get sockets(): number {
    return this.#sockets.size;
  }
}

/** Does a handshake as the initiator over a socket, up to its last message. */
export async function shakeHands(socket: Socket, machine: Initiator): Promise<Established> {
  socket.write(machine.start());
  return new Promise<Established>((resolve, reject) => {
    socket.once('close', () => reject(new Error('the connection was closed during the handshake')));
    socket.on('data', function shake(chunk: Buffer) {
      const step = machine.receive(chunk);
      if (step?.send !== undefined) socket.write(step.send);
      if (step?.established === undefined) return;
      socket.off('data', shake);
      resolve(step.established);
    });
  });
}

/** One end of an established connection, without any manners. */
export class Rogue {
  readonly socket: Socket;
  readonly established: Established;
  readonly writer: RecordWriter;
  /** Called with each record that comes, before it is in `records`. */
  onRecord: (type: number, payload: Buffer) => void = () => {};
  readonly records = new Queue<{ type: number; payload: Buffer }>();

  /** `rest` is what came with the last message of the handshake. */
  constructor(socket: Socket, established: Established, rest: Buffer = Buffer.alloc(0)) {
    this.socket = socket;
    this.established = established;
    this.writer = new RecordWriter(established.send, DEFAULT_RECORD_LIMITS);
    const sink = {
      record: (type: number, payload: Buffer) => {
        const own = Buffer.from(payload);
        this.onRecord(type, own);
        this.records.push({ type, payload: own });
      },
    };
    const reader = new RecordReader(established.receive, DEFAULT_RECORD_LIMITS, sink, () => 0);
    reader.push(rest);
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
  }

  sealed(type: number, payload: Buffer = Buffer.alloc(0)): Buffer {
    const buf = Buffer.concat([Buffer.alloc(3), payload]);
    return this.writer.seal(type, buf, 3, buf.length);
  }

  send(type: number, payload?: Buffer): void {
    this.socket.write(this.sealed(type, payload));
  }
}

/** Resolves when the socket has closed, whether it has already or will, in peace or by a reset. */
export async function gone(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise<void>((resolve) => void socket.once('close', () => resolve()));
}
