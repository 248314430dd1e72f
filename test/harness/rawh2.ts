/** HTTP/2 by node:http2 at both ends, for what gRPC libraries hide: raw header order, flags, resets, windows. */
import { once } from 'node:events';
import * as http2 from 'node:http2';
import { atEnd } from './sidecars.ts';

/** Header fields as they stood on the wire, in their order. */
export type Fields = ReadonlyArray<readonly [name: string, value: string]>;

const END_STREAM = 0x1;

function fieldsOf(raw: readonly string[] | undefined): Fields {
  const fields: Array<[string, string]> = [];
  for (let i = 0; raw !== undefined && i + 1 < raw.length; i += 2)
    fields.push([raw[i] as string, raw[i + 1] as string]);
  return fields;
}

/** A request as an app gets it. */
export interface RawRequest {
  readonly stream: http2.ServerHttp2Stream;
  readonly headers: Fields;
  /** Its HEADERS frame ended it: there is no DATA at all. */
  readonly ended: boolean;
}

/** An app of which a test answers each request itself. */
export class RawApp {
  readonly address: string;
  readonly requests: RawRequest[] = [];
  readonly sessions = new Set<http2.ServerHttp2Session>();
  readonly #server: http2.Http2Server;
  #onRequest: (request: RawRequest) => void = () => {};

  private constructor(server: http2.Http2Server) {
    this.#server = server;
    const address = server.address();
    this.address = typeof address === 'object' ? `127.0.0.1:${address?.port}` : '';
    server.on('session', (session) => {
      this.sessions.add(session);
      session.on('error', () => {});
      session.once('close', () => this.sessions.delete(session));
    });
    const onStream = (
      stream: http2.ServerHttp2Stream,
      _headers: http2.IncomingHttpHeaders,
      flags: number,
      raw?: readonly string[],
    ): void => {
      stream.on('error', () => {}); // a reset; 'close' and rstCode say it
      const request = { stream, headers: fieldsOf(raw), ended: (flags & END_STREAM) !== 0 };
      this.requests.push(request);
      this.#onRequest(request);
    };
    server.on('stream', onStream);
  }

  static async start(options: http2.ServerOptions = {}): Promise<RawApp> {
    const server = http2.createServer(options);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const app = new RawApp(server);
    atEnd(() => app.kill());
    return app;
  }

  /** Answers every request from now on. */
  onRequest(answer: (request: RawRequest) => void): void {
    this.#onRequest = answer;
  }

  /** The next request; from then on requests wait for the next `next`. */
  next(): Promise<RawRequest> {
    return new Promise((resolve) => this.onRequest(resolve));
  }

  kill(): void {
    for (const session of this.sessions) session.destroy();
    this.#server.close();
  }
}

export interface RawAnswer {
  readonly headers: Fields;
  /** The HEADERS frame ended the stream: the answer is trailers-only, or has no body. */
  readonly ended: boolean;
  readonly body: Buffer;
  readonly trailers: Fields;
  /** The code of RST_STREAM, 0 if the stream ended by itself. */
  readonly rstCode: number;
}

/** A client of an egress listener. */
export class RawClient {
  readonly session: http2.ClientHttp2Session;
  readonly #authority: string;

  constructor(address: string, authority: string, options: http2.ClientSessionOptions = {}) {
    this.#authority = authority;
    this.session = http2.connect(`http://${address}`, options);
    this.session.on('error', () => {});
    atEnd(() => this.session.destroy());
  }

  request(
    headers: http2.OutgoingHttpHeaders,
    options: http2.ClientSessionRequestOptions = {},
  ): http2.ClientHttp2Stream {
    const stream = this.session.request({ ':authority': this.#authority, ...headers }, options);
    stream.on('error', () => {}); // a reset; 'close' and rstCode say it
    return stream;
  }

  /** A gRPC request's headers with more behind them. */
  grpc(
    path: string,
    headers: http2.OutgoingHttpHeaders = {},
    options: http2.ClientSessionRequestOptions = {},
  ): http2.ClientHttp2Stream {
    return this.request(
      { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...headers },
      options,
    );
  }
}

/** Reads an answer to its end. */
export async function answerOf(stream: http2.ClientHttp2Stream): Promise<RawAnswer> {
  let headers: Fields = [];
  let ended = false;
  let trailers: Fields = [];
  const body: Buffer[] = [];
  stream.on('response', (_headers, flags: number, raw?: string[]) => {
    headers = fieldsOf(raw);
    ended = (flags & END_STREAM) !== 0;
  });
  stream.on('trailers', (_headers: unknown, _flags: number, raw?: string[]) => {
    trailers = fieldsOf(raw);
  });
  stream.on('data', (octets: Buffer) => body.push(octets));
  if (!stream.destroyed) await new Promise((resolve) => stream.once('close', resolve));
  return { headers, ended, body: Buffer.concat(body), trailers, rstCode: stream.rstCode ?? 0 };
}

/** The first value of a field. */
export function fieldOf(fields: Fields, name: string): string | undefined {
  return fields.find(([key]) => key === name)?.[1];
}

/** A gRPC message with its five octets in front. */
export function framed(message: Buffer, compressed = false): Buffer {
  const head = Buffer.alloc(5);
  head[0] = compressed ? 1 : 0;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}
