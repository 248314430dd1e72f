import type { Socket } from 'node:net';
import type { ByteSink } from '../http2/sink.ts';
import type { Series } from '../telemetry/series.ts';
import type { RecordFlood } from '../transport/errors.ts';

/**
 * The transport under an HTTP/2 connection: a plaintext socket to an app, or a SecureChannel to a peer, which
 * has this shape by itself.
 */
export interface Wire extends ByteSink {
  /** Octets that the kernel has not taken yet. */
  readonly backlog: number;
  /** The other end has left a heartbeat unanswered for a while: nothing new should be put on it. */
  readonly silent: boolean;
  // A function literal assigned to a property is made in V8's old space, and with it all that it knows of outlives every
  // scavenge: name the function first. test/integration/scavenged.test.ts holds it.
  /** Octets that came; valid until it returns. Set last: it may start the reading. */
  set onData(listener: (octets: Buffer) => void);
  /** There is room again after a `write` that returned false. */
  set onDrain(listener: () => void);
  /** The wire is gone, for whatever reason; `flood` names the limit against abuse that it crossed. Exactly once. */
  set onClose(listener: (reason: never, detail: string, flood?: RecordFlood) => void);
  /** GOAWAY goes out or has come, for whatever reason: those who look at connections are told. */
  draining(reason: string): void;
  /** Ends it once everything written has gone out. */
  close(): void;
  /** Ends it at once. */
  destroy(reason: 'shutdown'): void;
}

/** Why a connection drains whose other end has sent GOAWAY. */
export const PEER_GOAWAY = 'peer-goaway';

/** Why a connection closed, and what its other end had said with GOAWAY. */
export function closedAfter(goaway: string | undefined, detail: string): string {
  return [detail, goaway].filter((text) => text !== undefined && text !== '').join(', after ');
}

/** A sink that counts what goes through it. */
export class MeteredSink implements ByteSink {
  readonly headroom: number;
  readonly capacity: number;
  readonly #sink: ByteSink;
  readonly #octets: Series;
  readonly #writes: Series | undefined;

  constructor(sink: ByteSink, octets: Series, writes?: Series) {
    this.headroom = sink.headroom;
    this.capacity = sink.capacity;
    this.#sink = sink;
    this.#octets = octets;
    this.#writes = writes;
  }

  acquire(): Buffer {
    return this.#sink.acquire();
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    this.#octets.value += end - start;
    if (this.#writes !== undefined) this.#writes.value++;
    return this.#sink.write(buffer, start, end);
  }
}

const BUFFER_SIZE = 65_536; // octets
/** Above this many octets under way the writer holds DATA back. */
const HIGH_WATER = 524_288;
/** Above this many the other end takes nothing of what it makes us answer: it is cut off. */
const MAX_BACKLOG = 16 * 1024 * 1024;
/** Writes below this are copied out, so that the gathering buffer can be used again at once. */
const SMALL_WRITE = 4096;
/** How long an ended socket may take to close before it is destroyed. */
const LINGER_MS = 2000;

/** Gathering buffers that are free, shared by all sockets of the process. */
const free: Buffer[] = [];
const FREE_BUFFERS = 64;

const ignore = (): void => {};

/** A plaintext socket as a Wire. */
export class SocketWire implements Wire {
  readonly headroom = 0;
  readonly capacity = BUFFER_SIZE;
  readonly silent = false;
  /** The other end, for logs. */
  readonly remote: string;
  onData: (octets: Buffer) => void = ignore;
  onDrain: () => void = ignore;
  onClose: (reason: string, detail: string, flood?: RecordFlood) => void = ignore;
  readonly #socket: Socket;
  #closing = false;
  #closed = false;

  constructor(socket: Socket, name?: string) {
    this.#socket = socket;
    this.remote = name ?? remoteOf(socket);
    socket.setNoDelay(true);
    socket.on('data', (octets: Buffer) => this.onData(octets));
    socket.on('drain', () => this.onDrain());
    socket.on('error', (error) => this.#gone('socket-error', error.message));
    socket.on('close', () => this.#gone('peer-closed', ''));
    // HTTP/2 has no half-closed connections: a FIN ends it, and what is under way with it.
    socket.on('end', () => this.#gone('peer-closed', ''));
  }

  get backlog(): number {
    return this.#socket.writableLength;
  }

  acquire(): Buffer {
    return free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_SIZE);
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    const socket = this.#socket;
    if (this.#closed) {
      release(buffer);
    } else if (end - start <= SMALL_WRITE) {
      socket.write(Buffer.from(buffer.subarray(start, end)));
      release(buffer);
    } else {
      // Until the callback the buffer belongs to the socket.
      socket.write(buffer.subarray(start, end), () => release(buffer));
    }
    // Later, because whoever writes does not expect the end.
    if (socket.writableLength > MAX_BACKLOG && !this.#closing) setImmediate(() => this.#cutOff());
    return socket.writableLength < HIGH_WATER;
  }

  #cutOff(): void {
    this.#gone('flood', `it has not taken ${MAX_BACKLOG} octets of what it was sent`, 'backlog');
    this.#socket.destroy();
  }

  draining(): void {}

  close(): void {
    if (this.#closing || this.#closed) return;
    this.#closing = true;
    const socket = this.#socket;
    socket.end();
    // A peer that neither reads nor closes must not keep the socket for ever.
    const linger = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    socket.once('close', () => clearTimeout(linger));
  }

  destroy(reason: 'shutdown'): void {
    this.#gone(reason, '');
    this.#socket.destroy();
  }

  #gone(reason: string, detail: string, flood?: RecordFlood): void {
    if (this.#closed) return;
    this.#closed = true;
    const onClose = this.onClose;
    this.onData = ignore;
    this.onDrain = ignore;
    if (!this.#closing) this.#socket.destroy();
    if (this.#closing) onClose('local-closed', detail);
    else onClose(reason, detail, flood);
  }
}

/** `address:port` of a socket's other end. */
export function remoteOf(socket: {
  remoteAddress?: string | undefined;
  remotePort?: number | undefined;
}): string {
  const { remoteAddress, remotePort } = socket;
  if (remoteAddress === undefined || remoteAddress === '') return 'unix';
  return remoteAddress.includes(':') ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}

function release(buffer: Buffer): void {
  if (free.length < FREE_BUFFERS) free.push(buffer);
}
