/** HTTPS for API servers: POST /inject and nothing else. Whoever reaches the port may ask; the answer changes nothing here. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { Clock } from '../../clock/clock.ts';
import type { ListenAddress } from '../../config/config.ts';
import { type ListenError, Listener } from '../../relay/listener.ts';
import type { Logger } from '../../telemetry/log.ts';
import { addressKey } from '../../transport/admission.ts';
import type { InjectionResult } from '../injector/inject.ts';
import { Bodies, type Body } from './bodies.ts';
import type { ServingCertificate } from './certificates.ts';
import { Connections } from './connections.ts';
import { type AdmissionRequest, ReviewError, readReview, writeReview } from './review.ts';

export interface WebhookServerOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** `caller` is the address that asks. May reject: the API server then does what the webhook's failurePolicy says. */
  readonly admit: (request: AdmissionRequest, caller: string) => Promise<InjectionResult>;
  /** PEM: who shows no certificate by one of these is refused. Undefined: none is asked for. */
  readonly clientCa: string | undefined;
  /** A request that was no question of an API server, or that could not be answered. */
  readonly onFailed: (status: number, detail: string) => void;
}

/** API servers take objects of 3 MiB. */
const MAX_BODY = 4 << 20;
/** Of requests that are not answered yet. */
const BODIES = { max: 64 << 20, maxPerAddress: 16 << 20 };
/** An API server opens one for each pod that it creates at a time: some hundred, as its own limits are. */
const CONNECTIONS = { max: 1024, maxPerAddress: 512 };
const MAX_HEADER = 16_384;
const BODY_MS = 10_000;
/** Above the 90 s after which API servers close a connection that is not used. */
const KEEP_ALIVE_MS = 120_000;
const HANDSHAKE_MS = 5000;

export class WebhookServer {
  readonly #options: WebhookServerOptions;
  readonly #server: Server;
  readonly #connections = new Connections(CONNECTIONS);
  readonly #bodies = new Bodies(BODIES);
  #listeners: Listener[] = [];
  #requests = 0;
  #draining = false;
  #onIdle: (() => void) | undefined;

  constructor(options: WebhookServerOptions, certificate: ServingCertificate) {
    this.#options = options;
    this.#server = createServer(
      {
        ...secureContext(certificate, options.clientCa),
        requestCert: options.clientCa !== undefined,
        rejectUnauthorized: options.clientCa !== undefined,
        handshakeTimeout: HANDSHAKE_MS,
        maxHeaderSize: MAX_HEADER,
        keepAliveTimeout: KEEP_ALIVE_MS,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.on('tlsClientError', (error, socket) => {
      options.log.debug({ error: error.message }, 'a TLS handshake with the webhook failed');
      socket.destroy();
    });
    this.#server.on('clientError', (_error, socket) => void socket.destroy());
    // `listen` is not called, which would start the server's other time limits.
    this.#server.timeout = KEEP_ALIVE_MS;
  }

  get bound(): readonly string[] {
    return this.#listeners.map(({ name }) => name);
  }

  /** Rejects with ListenError. */
  async listen(addresses: readonly ListenAddress[], onSkipped: (error: ListenError) => void): Promise<void> {
    const accept = (socket: Socket): void => this.#accept(socket);
    this.#listeners = await Listener.openAll('webhook.listen', addresses, 'own', accept, onSkipped);
  }

  /** Handshakes from now on show it. */
  show(certificate: ServingCertificate): void {
    this.#server.setSecureContext(secureContext(certificate, this.#options.clientCa));
  }

  /**
   * Goes on taking requests for `lingerMs`, because API servers hear later than we do that this replica ends, each of them the
   * last of its connection; then lets those under way end. Resolves by `deadlineMs`, when what is left is cut. Connections that
   * wait are closed after that only: one that is closed while a request comes on it loses that request.
   */
  async drain(lingerMs: number, deadlineMs: number): Promise<void> {
    const { clock } = this.#options;
    this.#draining = true;
    await new Promise<void>((resolve) => void clock.after(Math.min(lingerMs, deadlineMs), resolve));
    for (const listener of this.#listeners) listener.close();
    this.#connections.closeIdle();
    if (this.#requests > 0) {
      await new Promise<void>((resolve) => {
        const timer = clock.after(Math.max(0, deadlineMs - lingerMs), resolve);
        this.#onIdle = () => {
          clock.clear(timer);
          resolve();
        };
      });
    }
    this.close();
  }

  close(): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener.destroy();
    this.#connections.destroy();
  }

  /** Counted before TLS: a handshake costs more than a socket. */
  #accept(socket: Socket): void {
    if (this.#connections.add(socket)) this.#server.emit('connection', socket);
    else socket.destroy();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { socket } = request;
    const caller = addressKey(socket.remoteAddress ?? '');
    const crowded = new AbortController();
    const body = this.#bodies.hold(caller, () => crowded.abort());
    this.#requests += 1;
    this.#connections.begin(socket);
    response.on('error', () => undefined);
    try {
      const { status, type, text } = await this.#answer(request, caller, body, crowded.signal);
      send(response, status, type, text, this.#draining || !request.complete);
    } catch (error) {
      const status = error instanceof ReviewError ? error.status : 500;
      const message = error instanceof Error ? error.message : String(error);
      this.#options.onFailed(status, message);
      if (status === 405) response.setHeader('allow', 'POST');
      // What is left of the body is not read.
      send(
        response,
        status,
        'text/plain; charset=utf-8',
        `${status < 500 ? message : 'hauberk: ' + message}\n`,
        true,
      );
    } finally {
      body.release();
      this.#requests -= 1;
      this.#connections.end(socket);
      if (this.#requests === 0) this.#onIdle?.();
    }
  }

  async #answer(
    request: IncomingMessage,
    caller: string,
    body: Body,
    crowded: AbortSignal,
  ): Promise<{ status: number; type: string; text: string }> {
    const path = (request.url ?? '').split('?', 1)[0];
    if (path !== '/inject') throw new ReviewError(404, 'there is nothing but POST /inject');
    if (request.method !== 'POST') throw new ReviewError(405, 'only POST is answered');
    const type = (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase();
    if (type !== 'application/json') throw new ReviewError(415, 'the content-type is not application/json');
    const review = readReview(
      await this.#read(request, body, crowded),
      `${request.socket.remoteAddress}:${request.socket.remotePort}`,
    );
    const result = await this.#options.admit(review, caller);
    return { status: 200, type: 'application/json', text: writeReview(review.uid, result) };
  }

  #read(request: IncomingMessage, body: Body, crowded: AbortSignal): Promise<Buffer> {
    const { clock } = this.#options;
    const declared = Number(request.headers['content-length'] ?? 0);
    if (declared > MAX_BODY) throw new ReviewError(413, `the body is larger than ${MAX_BODY} bytes`);
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      let over = false;
      const settle = (outcome: () => void): void => {
        if (over) return;
        over = true;
        clock.clear(timer);
        body.finish();
        outcome();
      };
      const fail = (status: number, message: string): void =>
        settle(() => {
          request.pause();
          reject(new ReviewError(status, message));
        });
      const timer = clock.after(BODY_MS, () => fail(408, `the body did not come within ${BODY_MS / 1000} s`));
      crowded.addEventListener('abort', () =>
        fail(503, 'too many requests are being read at the same time, most of them of this address'),
      );
      request.on('data', (chunk: Buffer) => {
        if (over) return;
        length += chunk.length;
        chunks.push(chunk);
        body.grow(chunk.length);
        if (length > MAX_BODY) fail(413, `the body is larger than ${MAX_BODY} bytes`);
      });
      request.on('end', () => settle(() => resolve(Buffer.concat(chunks))));
      request.on('error', () => fail(400, 'the request broke off'));
      request.on('close', () => fail(400, 'the request broke off'));
    });
  }
}

const secureContext = ({ chain, key }: ServingCertificate, clientCa: string | undefined) => ({
  cert: chain,
  key,
  ca: clientCa,
  minVersion: 'TLSv1.2' as const,
});

function send(response: ServerResponse, status: number, type: string, text: string, isLast: boolean): void {
  if (response.destroyed) return;
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(isLast ? { connection: 'close' } : {}),
  });
  response.end(text);
}
