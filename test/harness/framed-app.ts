/** An app of which a test writes every frame: HTTP/2 by the mock peer's codec over a socket of its own. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import {
  ACK,
  END_STREAM,
  frame,
  PADDED,
  type PeerFrame,
  PREFACE,
  settings,
  settingsAck,
  T,
  windowUpdate,
} from './http2-peer.ts';
import { atEnd } from './sidecars.ts';

const INITIAL_WINDOW = 65_535; // RFC 9113 section 6.9.2
const SETTINGS_INITIAL_WINDOW_SIZE = 4;
const LARGEST_WINDOW = 2 ** 31 - 1;

/** A request that has come to its end. */
export interface FramedRequest {
  readonly connection: FramedConnection;
  readonly id: number;
  readonly body: Buffer;
}

export interface DataShape {
  /** Octets of the body in each frame. */
  readonly frameSize: number;
  /** Octets of padding in each; none without it. */
  readonly padding?: number;
}

export type FrameScript = (request: FramedRequest) => void | Promise<void>;

/** Pairs for its first SETTINGS. */
export type Announced = ReadonlyArray<[id: number, value: number]>;

export class FramedConnection {
  /** Streams whose request has begun and whose answer has not ended, and the most that there were at a time. */
  readonly open = new Set<number>();
  mostOpen = 0;
  requests = 0;
  pingsSent = 0;
  pingsAnswered = 0;
  readonly #socket: Socket;
  readonly #script: FrameScript;
  readonly #bodies = new Map<number, Buffer[]>();
  readonly #windows = new Map<number, number>();
  #initialWindow = INITIAL_WINDOW;
  #connectionWindow = INITIAL_WINDOW;
  #unread = Buffer.alloc(0);
  /** The preface has come. */
  #begun = false;
  #waiting: Array<() => void> = [];

  constructor(socket: Socket, script: FrameScript, announced: Announced) {
    this.#socket = socket;
    this.#script = script;
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('data', (octets) => this.#read(octets));
    this.write(
      settings([SETTINGS_INITIAL_WINDOW_SIZE, LARGEST_WINDOW], ...announced),
      windowUpdate(0, LARGEST_WINDOW - INITIAL_WINDOW),
    );
  }

  write(...frames: Buffer[]): void {
    this.#socket.write(Buffer.concat(frames));
  }

  ping(): void {
    this.pingsSent++;
    this.write(frame(T.PING, 0, 0, `ping${`${this.pingsSent}`.padStart(4, '0')}`));
  }

  /** The answer on a stream has ended. */
  ended(id: number): void {
    this.open.delete(id);
  }

  /** Sends a body in frames of this shape, as far and as soon as the windows let it. */
  async send(id: number, body: Buffer, { frameSize, padding }: DataShape): Promise<void> {
    const overhead = padding === undefined ? 0 : 1 + padding; // counts in flow control, section 6.1
    for (let at = 0; at < body.length; at += frameSize) {
      const chunk = body.subarray(at, at + frameSize);
      const cost = chunk.length + overhead;
      while (this.#connectionWindow < cost || this.#window(id) < cost) await this.#news();
      this.#connectionWindow -= cost;
      this.#windows.set(id, this.#window(id) - cost);
      if (padding === undefined) this.write(frame(T.DATA, 0, id, chunk));
      else {
        const padded = Buffer.concat([Buffer.from([padding]), chunk, Buffer.alloc(padding)]);
        this.write(frame(T.DATA, PADDED, id, padded));
      }
    }
  }

  /** Waits until every PING has been answered. */
  async pingsDone(): Promise<void> {
    while (this.pingsAnswered < this.pingsSent) await this.#news();
  }

  #window(id: number): number {
    return this.#windows.get(id) ?? this.#initialWindow;
  }

  #news(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #read(octets: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, octets]);
    if (!this.#begun) {
      if (this.#unread.length < PREFACE.length) return;
      this.#begun = true;
      this.#unread = this.#unread.subarray(PREFACE.length);
    }
    while (this.#unread.length >= 9) {
      const length = this.#unread.readUIntBE(0, 3);
      if (this.#unread.length < 9 + length) break;
      const [type, flags, id] = [
        this.#unread.readUInt8(3),
        this.#unread.readUInt8(4),
        this.#unread.readUInt32BE(5),
      ];
      const payload = this.#unread.subarray(9, 9 + length);
      this.#unread = this.#unread.subarray(9 + length);
      this.#take({ type, flags, id, payload });
    }
    for (const go of this.#waiting.splice(0)) go();
  }

  #take({ type, flags, id, payload }: PeerFrame): void {
    if (type === T.SETTINGS && (flags & ACK) === 0) this.#settings(payload);
    else if (type === T.PING && (flags & ACK) !== 0) this.pingsAnswered++;
    else if (type === T.PING) this.write(frame(T.PING, ACK, 0, payload));
    else if (type === T.WINDOW_UPDATE) this.#credit(id, payload.readUInt32BE(0));
    else if (type === T.HEADERS) {
      this.requests++;
      this.open.add(id);
      this.mostOpen = Math.max(this.mostOpen, this.open.size);
      this.#bodies.set(id, []);
    } else if (type === T.DATA) this.#bodies.get(id)?.push(Buffer.from(payload));
    else if (type === T.RST_STREAM) this.open.delete(id);
    const complete = (type === T.HEADERS || type === T.DATA) && (flags & END_STREAM) !== 0;
    if (complete)
      void this.#script({ connection: this, id, body: Buffer.concat(this.#bodies.get(id) ?? []) });
  }

  #settings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) === SETTINGS_INITIAL_WINDOW_SIZE)
        this.#initialWindow = payload.readUInt32BE(at + 2);
    }
    this.write(settingsAck());
  }

  #credit(id: number, octets: number): void {
    if (id === 0) this.#connectionWindow += octets;
    else this.#windows.set(id, this.#window(id) + octets);
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

export class FramedApp {
  /** `127.0.0.1:port`. */
  readonly address: string;
  /** All that ever spoke; a sidecar also looks by a bare connection whether there is somebody. */
  readonly connections: FramedConnection[] = [];
  readonly #server: Server;

  private constructor(server: Server, script: FrameScript, announced: Announced) {
    this.#server = server;
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('connection', (socket) => {
      const connection = new FramedConnection(socket, script, announced);
      socket.once('data', () => this.connections.push(connection));
    });
  }

  /** Every complete request is answered by the script. It ends with the test file. */
  static async start(script: FrameScript, announced: Announced = []): Promise<FramedApp> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const app = new FramedApp(server, script, announced);
    atEnd(() => app.#end());
    return app;
  }

  #end(): void {
    for (const connection of this.connections) connection.destroy();
    this.#server.close();
  }
}
