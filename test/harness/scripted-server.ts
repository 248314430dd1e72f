/** An HTTP/2 server that does with each request what a test tells it, frame by frame: an app, or a peer in a session. */
import hpack from 'hpack.js';
import type { LocalIdentity } from '../../src/identity/local.ts';
import type { ChainVerifier } from '../../src/transport/identityproof.ts';
import {
  ACK,
  block,
  data,
  END_HEADERS,
  END_STREAM,
  type Fields,
  headers,
  PREFACE,
  ping,
  RESPONSE,
  settings,
  settingsAck,
  T,
  TRAILERS,
} from './http2-peer.ts';
import { acceptorAs, impostor } from './rogue.ts';

/** What the other end said that matters to a test. */
export interface Told {
  /** Code of its GOAWAY, if one came. */
  goaway: number | undefined;
  readonly resets: Map<number, number>;
  closed: boolean;
}

/** A request whose headers have come; its body is of no interest. */
export interface ScriptedRequest {
  readonly id: number;
  readonly path: string;
  readonly connection: ScriptedConnection;
}

export class ScriptedConnection {
  readonly told: Told = { goaway: undefined, resets: new Map(), closed: false };
  /** PINGs that were answered. */
  pongs = 0;
  readonly #write: (octets: Buffer) => void;
  readonly #onRequest: (request: ScriptedRequest) => void;
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 65_536 } });
  #octets = Buffer.alloc(0);
  #begun = false;

  constructor(write: (octets: Buffer) => void, onRequest: (request: ScriptedRequest) => void) {
    this.#write = write;
    this.#onRequest = onRequest;
    this.write(settings());
  }

  /** Frames as they are, in one write. */
  write(...frames: Buffer[]): void {
    this.#write(Buffer.concat(frames));
  }

  /** A gRPC answer with an empty message. */
  succeed(id: number): void {
    this.write(
      headers(id, block(RESPONSE)),
      data(id, Buffer.alloc(5)),
      headers(id, block(TRAILERS), END_HEADERS | END_STREAM),
    );
  }

  read(chunk: Buffer): void {
    this.#octets = Buffer.concat([this.#octets, chunk]);
    if (!this.#begun) {
      if (this.#octets.length < PREFACE.length) return;
      this.#octets = this.#octets.subarray(PREFACE.length);
      this.#begun = true;
    }
    while (this.#octets.length >= 9) {
      const end = 9 + this.#octets.readUIntBE(0, 3);
      if (this.#octets.length < end) return;
      const [type, flags, id] = [
        this.#octets.readUInt8(3),
        this.#octets.readUInt8(4),
        this.#octets.readUInt32BE(5),
      ];
      const payload = this.#octets.subarray(9, end);
      this.#octets = this.#octets.subarray(end);
      this.#frame(type, flags, id, payload);
    }
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    const ack = (flags & ACK) !== 0;
    if (type === T.SETTINGS && !ack) this.write(settingsAck());
    else if (type === T.PING && !ack) this.write(ping(payload.toString('latin1'), ACK));
    else if (type === T.PING) this.pongs++;
    else if (type === T.GOAWAY) this.told.goaway = payload.readUInt32BE(4);
    else if (type === T.RST_STREAM) this.told.resets.set(id, payload.readUInt32BE(0));
    else if (type === T.HEADERS) {
      const path = this.#decode(payload).find(([name]) => name === ':path')?.[1] ?? '';
      this.#onRequest({ id, path, connection: this });
    }
  }

  #decode(payload: Buffer): Fields {
    this.#decompressor.write(payload);
    this.#decompressor.execute((error) => {
      if (error !== null) throw error;
    });
    const found: Array<[string, string]> = [];
    for (let field = this.#decompressor.read(); field !== null; field = this.#decompressor.read()) {
      found.push([field.name, field.value]);
    }
    return found;
  }
}

/** A listener of such servers. */
export class ScriptedServer {
  readonly connections: ScriptedConnection[] = [];
  /** What becomes of a request; by default it succeeds. */
  onRequest: (request: ScriptedRequest) => void = ({ id, connection }) => connection.succeed(id);
  address = '';

  #connection(write: (octets: Buffer) => void): ScriptedConnection {
    const connection = new ScriptedConnection(write, (request) => this.onRequest(request));
    this.connections.push(connection);
    return connection;
  }

  /** As an app. */
  static async app(): Promise<ScriptedServer> {
    const server = new ScriptedServer();
    const { address } = await impostor((socket) => {
      const connection = server.#connection((octets) => void socket.write(octets));
      socket.on('data', (chunk: Buffer) => connection.read(chunk));
      socket.on('close', () => {
        connection.told.closed = true;
      });
    });
    server.address = address;
    return server;
  }

  /** As a peer with a good identity. */
  static async peer(identity: LocalIdentity, bundle: ChainVerifier): Promise<ScriptedServer> {
    const server = new ScriptedServer();
    const acceptor = acceptorAs(identity, bundle, (channel) => {
      const connection = server.#connection((octets) => {
        for (let at = 0; at < octets.length; at += channel.capacity) {
          const buf = channel.acquire();
          const n = octets.copy(buf, channel.headroom, at, at + channel.capacity);
          channel.write(buf, channel.headroom, channel.headroom + n);
        }
      });
      channel.onClose = () => {
        connection.told.closed = true;
      };
      channel.onData = (chunk) => connection.read(chunk);
    });
    const { address } = await impostor((socket) => acceptor.accept(socket));
    server.address = address;
    return server;
  }
}
