/**
 * Somebody who speaks HTTP/2 to a sidecar frame by frame, to do harm: as an app, as a peer with a good identity, as a
 * called app, or as a called peer.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { systemClock } from '../../src/clock/clock.ts';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import type { LocalIdentity } from '../../src/identity/local.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import type { ChainVerifier } from '../../src/transport/identityproof.ts';
import { Initiator } from '../../src/transport/initiator.ts';
import { DEFAULT_HANDSHAKE_LIMITS } from '../../src/transport/limits.ts';
import { MODES } from '../../src/transport/mode.ts';
import { MAX_LENGTH, PING } from '../../src/transport/record.ts';
import { StaticKey } from '../../src/transport/statickey.ts';
import { Rogue, shakeHands } from '../transport/wire.ts';
import { ACK, PREFACE, settings, settingsAck, T } from './http2-peer.ts';
import { rawConnection } from './rawtcp.ts';
import { acceptorAs, dialAs } from './rogue.ts';
import { atEnd } from './sidecars.ts';

/** Who attacks as a peer, and whom it expects. */
export interface PeerOptions {
  readonly identity: LocalIdentity;
  readonly expectedPeer: string;
  readonly bundle: ChainVerifier;
}

interface Pipe {
  write(octets: Buffer): void;
  backlog(): number;
  close(): void;
}

const EVERYTHING = 2 ** 31 - 1;
/** Octets under way above which a flood waits: what was sent when the end came is then nearly what was read. */
const UNDER_WAY = 16 * 1024;
const TYPE = 3; // octet of a frame header

export class Attacker {
  /** Codes of the RST_STREAMs that came, by stream. */
  readonly resets = new Map<number, number>();
  /** How many frames of each type came. */
  readonly frames = new Map<number, number>();
  /** Octets of DATA that came. */
  octets = 0;
  /** The code of the last GOAWAY. */
  goaway: number | undefined;
  /** The connection is over. */
  ended = false;
  /** Acknowledges SETTINGS by itself. */
  acks = true;
  /** Called with each stream that the sidecar opens. */
  onRequest: (streamId: number) => void = () => {};
  readonly #pipe: Pipe;
  #unread = Buffer.alloc(0);
  #preface: boolean;

  private constructor(pipe: Pipe, server: boolean) {
    this.#pipe = pipe;
    this.#preface = server;
  }

  /** As an app, at egress. `first` is sent instead of preface, SETTINGS and ACK. */
  static async app(address: string, first = opening()): Promise<Attacker> {
    return Attacker.#onSocket(await rawConnection(address), false, first);
  }

  static #onSocket(socket: Socket, server: boolean, first: Buffer): Attacker {
    const pipe: Pipe = {
      write: (octets) => void socket.write(octets),
      backlog: () => socket.writableLength,
      close: () => void socket.destroy(),
    };
    const attacker = new Attacker(pipe, server);
    socket.on('error', () => {});
    socket.on('data', (octets: Buffer) => attacker.#read(octets));
    socket.on('end', () => attacker.#over());
    socket.on('close', () => attacker.#over());
    attacker.write(first);
    return attacker;
  }

  /** As a peer, inside a session. */
  static async peer(address: string, options: PeerOptions, first = opening()): Promise<Attacker> {
    const attacker = Attacker.#onChannel(await dialAs(options.identity, address, options), false);
    attacker.write(first);
    return attacker;
  }

  static #onChannel(channel: SecureChannel, server: boolean): Attacker {
    const pipe: Pipe = {
      write: (octets) => {
        for (let at = 0; at < octets.length; at += channel.capacity) {
          const buf = channel.acquire();
          const n = octets.copy(buf, channel.headroom, at, at + channel.capacity);
          channel.write(buf, channel.headroom, channel.headroom + n);
        }
      },
      backlog: () => channel.backlog,
      close: () => channel.destroy('refused'),
    };
    const attacker = new Attacker(pipe, server);
    channel.onClose = () => attacker.#over();
    channel.onData = (octets) => attacker.#read(octets);
    return attacker;
  }

  /** Listens as a called app; `onConnection` gets each connection of a sidecar. */
  static async listen(onConnection: (attacker: Attacker) => void, announced = settings()): Promise<string> {
    return listen((socket) => {
      socket.setNoDelay(true);
      onConnection(Attacker.#onSocket(socket, true, announced));
    });
  }

  /** Listens as a called peer. */
  static async listenAsPeer(
    { identity, bundle }: Omit<PeerOptions, 'expectedPeer'>,
    onConnection: (attacker: Attacker) => void,
  ): Promise<string> {
    const acceptor = acceptorAs(identity, bundle, (channel) => {
      const attacker = Attacker.#onChannel(channel, true);
      attacker.write(settings());
      onConnection(attacker);
    });
    atEnd(() => acceptor.close());
    return listen((socket) => acceptor.accept(socket));
  }

  write(...frames: Buffer[]): void {
    if (!this.ended) this.#pipe.write(Buffer.concat(frames));
  }

  close(): void {
    this.#pipe.close();
  }

  /** Resolves when both sides have had their SETTINGS acknowledged: nothing is sent any more by itself. */
  async ready(): Promise<this> {
    await eventually(() => this.count(T.SETTINGS) >= 2 || this.ended);
    return this;
  }

  /** Resolves when the connection is over. */
  async end(): Promise<void> {
    await eventually(() => this.ended);
  }

  /** Resolves when what was written has nearly gone. */
  async taken(): Promise<void> {
    do await turn();
    while (this.#pipe.backlog() > UNDER_WAY && !this.ended);
  }

  /** Sends `make(0)`, `make(1)`, ... until the connection is over or `most` are sent; returns how many were. */
  async flood(make: (i: number) => Buffer, most: number, batch = 25): Promise<number> {
    let sent = 0;
    while (sent < most && !this.ended) {
      const frames: Buffer[] = [];
      for (; frames.length < batch && sent < most; sent++) frames.push(make(sent));
      this.write(...frames);
      await this.taken();
    }
    return sent;
  }

  count(type: number): number {
    return this.frames.get(type) ?? 0;
  }

  #read(chunk: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, chunk]);
    if (this.#preface) {
      if (this.#unread.length < PREFACE.length) return;
      this.#unread = this.#unread.subarray(PREFACE.length);
      this.#preface = false;
    }
    while (this.#unread.length >= 9) {
      const end = 9 + this.#unread.readUIntBE(0, 3);
      if (this.#unread.length < end) return;
      const frame = this.#unread.subarray(0, end);
      this.#unread = this.#unread.subarray(end);
      this.#frame(frame[TYPE] as number, frame[TYPE + 1] as number, frame.readUInt32BE(5), frame.subarray(9));
    }
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    this.frames.set(type, this.count(type) + 1);
    if (type === T.SETTINGS && (flags & ACK) === 0 && this.acks) this.write(settingsAck());
    else if (type === T.GOAWAY) this.goaway = payload.readUInt32BE(4);
    else if (type === T.RST_STREAM) this.resets.set(id, payload.readUInt32BE(0));
    else if (type === T.HEADERS) this.onRequest(id);
    else if (type === T.DATA) this.octets += payload.length;
  }

  #over(): void {
    this.ended = true;
    this.#pipe.close();
  }
}

/** Preface and SETTINGS with open windows; the ACK of the sidecar's SETTINGS follows by itself. */
export function opening(...more: Array<[id: number, value: number]>): Buffer {
  return Buffer.concat([PREFACE, settings([4, EVERYTHING], ...more)]);
}

const PATIENCE_MS = 30_000;

/** Waits until it is so; rejects when it is not for too long. */
export async function eventually(so: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await so())) {
    if (performance.now() > deadline) throw new Error(`not so after ${PATIENCE_MS} ms: ${so}`);
    await pause(5);
  }
}

async function listen(onSocket: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A peer that has done its handshake with a live sidecar and now writes records by hand. */
export async function rogueRecords(address: string, options: PeerOptions): Promise<Rogue> {
  const crypto = await loadCryptoProvider('native', { postQuantum: true });
  const staticKey = new StaticKey(crypto, systemClock, 3_600_000);
  atEnd(() => staticKey.close());
  const socket = await rawConnection(address);
  const machine = new Initiator({
    crypto,
    modes: MODES,
    staticKey: staticKey.current,
    now: () => systemClock.now(),
    limits: DEFAULT_HANDSHAKE_LIMITS,
    maxRecord: MAX_LENGTH,
    instance: undefined,
    ...options,
  });
  const rogue = new Rogue(socket, await shakeHands(socket, machine));
  rogue.send(PING, Buffer.alloc(8));
  return rogue;
}
