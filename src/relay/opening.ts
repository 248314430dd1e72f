/**
 * The first octets of an app's connection: HTTP/2 with prior knowledge, HTTP/1.1 CONNECT to a route (what
 * clients send that go through `grpc_proxy`), or something that is refused with the cure.
 */
import type { Socket } from 'node:net';
import type { Route } from './egress.ts';

export interface OpeningOptions {
  readonly monotonic: () => number;
  readonly timeoutMs: number;
  readonly allowConnect: boolean;
  readonly matchConnect: (authority: string) => Route | undefined;
  /** The connection speaks HTTP/2; `first` is what was read of it. */
  readonly onHttp2: (first: Buffer, connected: Route | undefined) => void;
  readonly onRefused: (reason: string, detail: string) => void;
  /** It went away by itself. */
  readonly onClosed: () => void;
}

const MAX_REQUEST = 8192; // octets of a CONNECT request, or of another's first line
const LINE_FEED = 0x0a;
const TLS_HANDSHAKE = 0x16;
const HTTP2 = Buffer.from('PRI * HTTP/2.0\r\n', 'latin1');
const CONNECT = Buffer.from('CONNECT ', 'latin1');

const NOT_HTTP2 =
  'not HTTP/2; gRPC clients speak it by themselves, others need "prior knowledge" of HTTP/2 (h2c)';

const HTTP1_ANSWER =
  'HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\n' +
  `content-length: ${NOT_HTTP2.length + 1}\r\nconnection: close\r\n\r\n${NOT_HTTP2}\n`;

const TLS_CURE =
  'the app speaks TLS to its sidecar; use plaintext credentials (grpc.credentials.createInsecure() or the like): the sidecar encrypts';

/** After a CONNECT it may be that only the variable `grpc_proxy` sent the app here. */
const tlsCureFor = (authority: string): string =>
  `the app speaks TLS to ${JSON.stringify(authority)} through its sidecar; if that is outside of the mesh, list its host in the app's variable no_grpc_proxy (in Kubernetes by the annotation hauberk.mesh/no-grpc-proxy), so that it is called directly; if it is a service of the mesh, use plaintext credentials (grpc.credentials.createInsecure() or the like): the sidecar encrypts`;

export class Opening {
  readonly #socket: Socket;
  readonly #options: OpeningOptions;
  readonly #startedAt: number;
  #read: Buffer = Buffer.alloc(0);
  #connected: Route | undefined;
  /** What that CONNECT has named. */
  #authority = '';
  #over = false;

  constructor(socket: Socket, options: OpeningOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#startedAt = options.monotonic();
    socket.on('data', this.#onData);
    socket.on('error', this.#onGone);
    socket.on('end', this.#onGone);
    socket.on('close', this.#onGone);
  }

  /** Refuses what has not said in time what it is. */
  sweep(): void {
    if (this.#options.monotonic() - this.#startedAt < this.#options.timeoutMs) return;
    this.#refuse('slow-preface', `nothing that is HTTP/2 within ${this.#options.timeoutMs} ms`, undefined);
  }

  readonly #onGone = (): void => {
    if (this.#over) return;
    this.#finish();
    this.#socket.on('error', () => {});
    this.#socket.destroy();
    this.#options.onClosed();
  };

  readonly #onData = (octets: Buffer): void => {
    this.#read = Buffer.concat([this.#read, octets]); // a copy: they are valid only until this returns
    this.#decide();
  };

  #decide(): void {
    const read = this.#read;
    if (read.length === 0) return;
    if (read[0] === TLS_HANDSHAKE) {
      const cure = this.#connected === undefined ? TLS_CURE : tlsCureFor(this.#authority);
      this.#refuse('tls', cure, undefined);
    } else if (agrees(read, HTTP2)) {
      this.#finish();
      this.#options.onHttp2(read, this.#connected);
    } else if (this.#options.allowConnect && this.#connected === undefined && agrees(read, CONNECT)) {
      this.#readConnect();
    } else if (mayBeHttp1(read)) {
      if (read.length < MAX_REQUEST && !read.includes(LINE_FEED)) return;
      this.#refuse('not-http2', NOT_HTTP2, HTTP1.test(read.toString('latin1')) ? HTTP1_ANSWER : undefined);
    } else this.#refuse('not-http2', NOT_HTTP2, undefined);
  }

  /** RFC 9110 section 9.3.6. */
  #readConnect(): void {
    const text = this.#read.toString('latin1', 0, MAX_REQUEST);
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.#read.length >= MAX_REQUEST)
        this.#refuse('bad-connect', `CONNECT request above ${MAX_REQUEST} octets`, http1(431));
      return;
    }
    const request = /^CONNECT ([^ \r\n]{1,300}) HTTP\/1\.[01]\r\n/.exec(text);
    if (request === null) {
      this.#refuse('bad-connect', 'malformed CONNECT request', http1(400));
      return;
    }
    const authority = request[1] as string;
    const route = this.#options.matchConnect(authority);
    if (route === undefined) {
      this.#refuse(
        'no-route',
        `CONNECT to ${JSON.stringify(authority)}, which is no route of this sidecar`,
        http1(404),
      );
      return;
    }
    this.#connected = route;
    this.#authority = authority;
    this.#socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
    this.#read = this.#read.subarray(end + 4);
    this.#decide();
  }

  #refuse(reason: string, detail: string, answer: string | undefined): void {
    if (this.#over) return;
    this.#finish();
    const socket = this.#socket;
    socket.on('error', () => {});
    if (answer === undefined) socket.destroy();
    else {
      socket.end(answer);
      // A sender that never stops would keep the half-closed socket open.
      socket.destroySoon();
    }
    this.#options.onRefused(reason, detail);
  }

  #finish(): void {
    this.#over = true;
    const socket = this.#socket;
    socket.removeListener('data', this.#onData);
    socket.removeListener('error', this.#onGone);
    socket.removeListener('end', this.#onGone);
    socket.removeListener('close', this.#onGone);
  }
}

/** Does what was read so far begin like `expected`? */
function agrees(read: Buffer, expected: Buffer): boolean {
  const n = Math.min(read.length, expected.length);
  return read.compare(expected, 0, n, 0, n) === 0;
}

const HTTP1 = /^[A-Z]+ [^ \r\n]+ HTTP\/1\.[01]\r?\n/;

/** Only who speaks HTTP/1 is answered in it: to others it is noise (RFC 9113 section 3.4 lets us say nothing). */
function mayBeHttp1(read: Buffer): boolean {
  return /^[A-Z]{1,32}(?: |$)/.test(read.toString('latin1', 0, 33));
}

function http1(status: 400 | 404 | 431): string {
  const reason = { 400: 'Bad Request', 404: 'Not Found', 431: 'Request Header Fields Too Large' }[status];
  return `HTTP/1.1 ${status} ${reason}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`;
}
