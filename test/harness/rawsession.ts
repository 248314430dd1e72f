/** An HTTP/2 client without any manners, at egress or inside a session: it sends whatever fields a test wants. */
import { setImmediate as turn } from 'node:timers/promises';
import hpack from 'hpack.js';
import type { LocalIdentity } from '../../src/identity/local.ts';
import type { ChainVerifier } from '../../src/transport/identityproof.ts';
import {
  block,
  data,
  END_HEADERS,
  END_STREAM,
  type Fields,
  headers,
  PREFACE,
  settings,
  settingsAck,
  T,
} from './http2-peer.ts';
import { rawConnection } from './rawtcp.ts';
import { dialAs } from './rogue.ts';

/** What became of a request. */
export interface Outcome {
  /** Of the first HEADERS; undefined if there were none. */
  readonly status: string | undefined;
  readonly fields: ReadonlyMap<string, string>;
  /** The code of RST_STREAM, or of the GOAWAY that ended everything. */
  readonly reset: number | undefined;
}

const EVERYTHING = 2 ** 31 - 1;
const ACK = 1;
const MUCH = 1024 * 1024; // octets

export class RawSession {
  readonly #write: (bytes: Buffer) => void;
  readonly #waiting = new Map<number, (outcome: Outcome) => void>();
  readonly #answers = new Map<number, Map<string, string>>();
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 65_536 } });
  #bytes = Buffer.alloc(0);
  #nextId = 1;
  #ended = false;
  /** Ends the connection. */
  readonly close: () => void;
  readonly #backlog: () => number;

  private constructor(write: (bytes: Buffer) => void, close: () => void, backlog: () => number) {
    this.#write = write;
    this.close = close;
    this.#backlog = backlog;
    write(Buffer.concat([PREFACE, settings([4, EVERYTHING]), settingsAck()]));
  }

  /** As an app. */
  static async toEgress(address: string): Promise<RawSession> {
    const socket = await rawConnection(address);
    const session = new RawSession(
      (bytes) => void socket.write(bytes),
      () => void socket.destroy(),
      () => socket.writableLength,
    );
    socket.on('data', (chunk: Buffer) => session.#read(chunk));
    socket.on('close', () => session.#over(undefined));
    return session;
  }

  /** As a peer with a good identity. */
  static async asPeer(
    identity: LocalIdentity,
    address: string,
    options: { expectedPeer: string; bundle: ChainVerifier },
  ): Promise<RawSession> {
    const channel = await dialAs(identity, address, options);
    const session = new RawSession(
      (bytes) => {
        for (let at = 0; at < bytes.length; at += channel.capacity) {
          const buf = channel.acquire();
          const n = bytes.copy(buf, channel.headroom, at, at + channel.capacity);
          channel.write(buf, channel.headroom, channel.headroom + n);
        }
      },
      () => channel.destroy('refused'),
      () => channel.backlog,
    );
    channel.onClose = () => session.#over(undefined);
    channel.onData = (bytes) => session.#read(bytes);
    return session;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves in a later turn, and when what was written has been taken by the other side, or nearly so. */
  async taken(): Promise<void> {
    do await turn();
    while (this.#backlog() > MUCH && !this.#ended);
  }

  /** Sends frames as they are. */
  write(...frames: Buffer[]): void {
    this.#write(Buffer.concat(frames));
  }

  /** Sends a request of these fields; with a body, and trailers behind it, if they are given. */
  request(fields: Fields, body?: Buffer | string, trailers?: Fields): Promise<Outcome> {
    const id = this.#nextId;
    this.#nextId += 2;
    const outcome = new Promise<Outcome>((resolve) => this.#waiting.set(id, resolve));
    const end = body === undefined && trailers === undefined ? END_STREAM : 0;
    const frames = this.#block(id, block(fields), end);
    if (body !== undefined) frames.push(data(id, body, trailers === undefined ? END_STREAM : 0));
    if (trailers !== undefined) frames.push(...this.#block(id, block(trailers), END_STREAM));
    if (this.#ended) this.#settle(id, { status: undefined, fields: new Map(), reset: -1 });
    else this.write(...frames);
    return outcome;
  }

  /** HEADERS, and CONTINUATION where the block is long. */
  #block(id: number, octets: Buffer, flags: number): Buffer[] {
    const MAX = 16_384;
    const frames: Buffer[] = [];
    for (let at = 0; at === 0 || at < octets.length; at += MAX) {
      const last = at + MAX >= octets.length ? END_HEADERS : 0;
      const frame = headers(id, octets.subarray(at, at + MAX), at === 0 ? flags | last : last);
      if (at > 0) frame.writeUInt8(T.CONTINUATION, 3);
      frames.push(frame);
    }
    return frames;
  }

  #read(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 9) {
      const end = 9 + this.#bytes.readUIntBE(0, 3);
      if (this.#bytes.length < end) return;
      const [type, flags, id] = [
        this.#bytes.readUInt8(3),
        this.#bytes.readUInt8(4),
        this.#bytes.readUInt32BE(5),
      ];
      const payload = this.#bytes.subarray(9, end);
      this.#bytes = this.#bytes.subarray(end);
      this.#frame(type, flags, id, payload);
    }
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    const fields = this.#answers.get(id) ?? new Map<string, string>();
    if (type === T.SETTINGS && (flags & ACK) === 0) this.write(settingsAck());
    if (type === T.HEADERS) {
      for (const [name, value] of this.#decode(payload)) fields.set(name, value);
      this.#answers.set(id, fields);
    }
    if (type === T.RST_STREAM) this.#settle(id, outcomeOf(fields, payload.readUInt32BE(0)));
    else if ((type === T.HEADERS || type === T.DATA) && (flags & END_STREAM) !== 0)
      this.#settle(id, outcomeOf(fields, undefined));
    else if (type === T.GOAWAY) this.#over(payload.readUInt32BE(4));
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

  #settle(id: number, outcome: Outcome): void {
    this.#waiting.get(id)?.(outcome);
    this.#waiting.delete(id);
    this.#answers.delete(id);
  }

  #over(code: number | undefined): void {
    this.#ended = true;
    for (const id of [...this.#waiting.keys()]) {
      this.#settle(id, outcomeOf(this.#answers.get(id) ?? new Map(), code ?? -1));
    }
  }
}

function outcomeOf(fields: ReadonlyMap<string, string>, reset: number | undefined): Outcome {
  return { status: fields.get(':status'), fields, reset };
}
