/**
 * One end of an HTTP/2 connection that returns the connection's credit at once, as good peers do, and a stream's
 * only when it is told to: so it stalls as many streams as it likes, and nothing but them.
 */
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import {
  ACK,
  block,
  END_HEADERS,
  END_STREAM,
  type Fields,
  headers,
  PREFACE,
  RESPONSE,
  settings,
  settingsAck,
  T,
  TRAILERS,
  windowUpdate,
} from './http2-peer.ts';
import { rawConnection } from './rawtcp.ts';
import { atEnd } from './sidecars.ts';

const FRAME_HEADER = 9; // octets
const MAX_WINDOW = 2 ** 31 - 1;
const DEFAULT_WINDOW = 65_535;
const INITIAL_WINDOW_SIZE = 4;
const MAX_CONCURRENT_STREAMS = 3;

/** A stream that the other end sends on. */
export interface Incoming {
  readonly id: number;
  octets: number;
  readonly hash: Hash;
  /** Resolves with the code of RST_STREAM, 0 if it ended by END_STREAM. */
  readonly over: Promise<number>;
}

interface State extends Incoming {
  owed: number;
  reads: boolean;
  end(code: number): void;
}

export interface CreditOptions {
  /** Of each stream, octets. */
  readonly window: number;
  /** Whether streams that begin are read; by default none is. */
  readonly reads?: () => boolean;
}

export class CreditPeer {
  readonly #socket: Socket;
  readonly #server: boolean;
  readonly #reads: () => boolean;
  readonly #streams = new Map<number, State>();
  #bytes: Buffer = Buffer.alloc(0);
  #skip: number;
  #nextId = 1;

  private constructor(socket: Socket, server: boolean, { window, reads = () => false }: CreditOptions) {
    this.#socket = socket;
    this.#server = server;
    this.#reads = reads;
    this.#skip = server ? PREFACE.length : 0;
    const announced = settings([INITIAL_WINDOW_SIZE, window], [MAX_CONCURRENT_STREAMS, 100_000]);
    socket.write(
      Buffer.concat([
        ...(server ? [] : [PREFACE]),
        announced,
        windowUpdate(0, MAX_WINDOW - DEFAULT_WINDOW),
        settingsAck(),
      ]),
    );
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const stream of this.#streams.values()) stream.end(-1);
    });
  }

  /** A client of an egress listener. */
  static async connect(address: string, options: CreditOptions): Promise<CreditPeer> {
    return new CreditPeer(await rawConnection(address), false, options);
  }

  /** An app that answers a request when it has ended. `options` hold for every connection to it. */
  static async listen(options: CreditOptions): Promise<{ address: string; peers: CreditPeer[] }> {
    const peers: CreditPeer[] = [];
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      peers.push(new CreditPeer(socket, true, options));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    atEnd(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const address = server.address();
    return { address: typeof address === 'object' ? `127.0.0.1:${address?.port}` : '', peers };
  }

  /** The streams that have begun, in their order. */
  get streams(): readonly Incoming[] {
    return [...this.#streams.values()];
  }

  /** Octets of DATA that came, on all streams. */
  get octets(): number {
    let octets = 0;
    for (const stream of this.#streams.values()) octets += stream.octets;
    return octets;
  }

  /** Client: sends a request without a body. */
  request(fields: Fields): Incoming {
    const id = this.#nextId;
    this.#nextId += 2;
    this.#socket.write(headers(id, block(fields), END_HEADERS | END_STREAM));
    return this.#begin(id);
  }

  /** Gives a stream the credit that it is owed, and from now on for all that comes. */
  read(stream: Incoming): void {
    const state = stream as State;
    state.reads = true;
    this.#pay(state);
  }

  #begin(id: number): State {
    let end: (code: number) => void = () => {};
    const over = new Promise<number>((resolve) => {
      end = resolve;
    });
    const hash = createHash('sha256');
    const state: State = { id, octets: 0, hash, over, owed: 0, reads: this.#reads(), end };
    this.#streams.set(id, state);
    return state;
  }

  #pay(state: State): void {
    if (!state.reads || state.owed === 0) return;
    this.#socket.write(windowUpdate(state.id, state.owed));
    state.owed = 0;
  }

  #read(chunk: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    let at = this.#skip;
    let credit = 0;
    while (this.#bytes.length - at >= FRAME_HEADER) {
      const length = this.#bytes.readUIntBE(at, 3);
      const end = at + FRAME_HEADER + length;
      if (this.#bytes.length < end) break;
      const [type, flags, id] = [
        this.#bytes.readUInt8(at + 3),
        this.#bytes.readUInt8(at + 4),
        this.#bytes.readUInt32BE(at + 5),
      ];
      if (type === T.DATA) credit += length;
      this.#frame(type, flags, id, this.#bytes.subarray(at + FRAME_HEADER, end));
      at = end;
    }
    this.#skip = Math.max(0, at - this.#bytes.length);
    this.#bytes = this.#bytes.subarray(at);
    if (credit > 0) this.#socket.write(windowUpdate(0, credit));
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    if (type === T.SETTINGS && (flags & ACK) === 0) this.#socket.write(settingsAck());
    if (id === 0) return;
    const state = this.#streams.get(id) ?? this.#begin(id);
    if (type === T.RST_STREAM) state.end(payload.readUInt32BE(0));
    if (type === T.DATA) {
      state.octets += payload.length;
      state.hash.update(payload);
      state.owed += payload.length;
      this.#pay(state);
    }
    if ((type === T.DATA || type === T.HEADERS) && (flags & END_STREAM) !== 0) this.#ended(state);
  }

  #ended(state: State): void {
    state.end(0);
    if (!this.#server) return;
    this.#socket.write(headers(state.id, block([...RESPONSE, ...TRAILERS]), END_HEADERS | END_STREAM));
  }
}
