/**
 * What sidecars connect to: gRPC over TLS 1.3, of which the certificate is the controller's own SVID. TLS is done here and
 * not by grpc-js, which cannot take another certificate while it serves: connections that are up stay when it changes.
 */
import type { ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { createServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import type {
  Server,
  ServerInterceptor,
  ServiceDefinition,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Clock } from '../../clock/clock.ts';
import type { ListenAddress } from '../../config/config.ts';
import { type ListenError, Listener } from '../../relay/listener.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { callerOf } from '../callerof.ts';
import { Callers } from './callers.ts';
import { OpenRequests } from './openrequests.ts';

/** A gRPC service of the control listener. */
export interface ControlService {
  readonly definition: ServiceDefinition;
  readonly handlers: UntypedServiceImplementation;
}

/** PEM. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
}

export interface ControlServerOptions {
  readonly listen: readonly ListenAddress[];
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly services: readonly ControlService[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly onSkipped: (error: ListenError) => void;
}

const HANDSHAKE_MS = 5_000;
const MAX_STREAMS = 1_024; // of a connection: one for each service that a sidecar watches
const MAX_REQUEST = 24 * 1024; // octets: a certificate request of 4 KiB, a token of 16 KiB, and some
/**
 * Requests of which the end has not come: of one address (as many as a few hundred streams that are opened at once), and
 * in all.
 */
const MAX_UNFINISHED_PER_ADDRESS = 512;
const MAX_UNFINISHED = 2_048;
/** A connection that holds more gets no new streams. */
const MAX_CONNECTION_MB = 16;
/** Replicas that come later shall get their share, and connections of sidecars that have gone shall end. */
const MAX_AGE_MS = 30 * 60_000;
const AGE_GRACE_MS = 5 * 60_000;
const PING_MS = 60_000;
const PING_TIMEOUT_MS = 20_000;

export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #tls: TlsServer;
  readonly #grpc: Server;
  readonly #callers: Callers;
  readonly #injector: { injectConnection(socket: TLSSocket): void; destroy(): void };
  #listeners: readonly Listener[] = [];
  #draining = false;

  private constructor(
    options: ControlServerOptions,
    identity: TlsIdentity,
    grpc: typeof import('@grpc/grpc-js'),
  ) {
    this.#options = options;
    this.#tls = createServer({
      ...identity,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      handshakeTimeout: HANDSHAKE_MS,
    });
    const refused = (reason: string): void => options.metrics.refusals.of('control', reason).inc();
    this.#callers = new Callers(options.maxConnections, options.maxConnectionsPerAddress, () =>
      refused('full'),
    );
    const requests = new OpenRequests({
      clock: options.clock,
      max: MAX_UNFINISHED,
      maxPerAddress: MAX_UNFINISHED_PER_ADDRESS,
      onRefused: refused,
    });
    this.#grpc = new grpc.Server({
      interceptors: [boundedBy(requests, grpc)],
      'grpc.max_concurrent_streams': MAX_STREAMS,
      'grpc.max_receive_message_length': MAX_REQUEST,
      'grpc-node.max_session_memory': MAX_CONNECTION_MB,
      'grpc.max_connection_age_ms': MAX_AGE_MS,
      'grpc.max_connection_age_grace_ms': AGE_GRACE_MS,
      'grpc.keepalive_time_ms': PING_MS,
      'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
    });
    for (const { definition, handlers } of options.services) this.#grpc.addService(definition, handlers);
    this.#injector = this.#grpc.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    this.#tls.on('secureConnection', (socket) => {
      if (socket.alpnProtocol === 'h2' && !this.#draining) {
        this.#injector.injectConnection(socket);
        return;
      }
      refused(this.#draining ? 'draining' : 'no-h2');
      socket.destroy();
    });
    this.#tls.on('tlsClientError', (error, socket) => {
      refused('tls');
      options.log.debug({ error: error.message, remote: remoteOf(socket) }, 'a TLS handshake failed');
      socket.destroy();
    });
  }

  /** Rejects with ListenError. */
  static async open(options: ControlServerOptions, identity: TlsIdentity): Promise<ControlServer> {
    const grpc = await import('@grpc/grpc-js');
    // It prints what clients send, as it came; our log bounds and escapes it.
    const tell = (...parts: unknown[]): void => options.log.debug({ detail: parts.join(' ') }, 'grpc-js');
    grpc.setLogger({ error: tell, info: tell, debug: tell });
    const server = new ControlServer(options, identity, grpc);
    try {
      server.#listeners = await Listener.openAll(
        'control.listen',
        options.listen,
        'own',
        (socket) => server.#accept(socket),
        options.onSkipped,
      );
    } catch (error) {
      server.close();
      throw error;
    }
    return server;
  }

  get bound(): string[] {
    return this.#listeners.map(({ name }) => name);
  }

  get connections(): number {
    return this.#callers.open;
  }

  /** From the next connection on. */
  setIdentity(identity: TlsIdentity): void {
    this.#tls.setSecureContext({ ...identity, minVersion: 'TLSv1.3' });
  }

  #accept(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    // A FIN ends the connection: Node's HTTP/2 would leave our half of it open for ever.
    socket.allowHalfOpen = false;
    const refusal = this.#draining ? 'draining' : this.#callers.add(socket);
    if (refusal !== undefined) {
      this.#options.metrics.refusals.of('control', refusal).inc();
      socket.destroy();
      return;
    }
    this.#tls.emit('connection', socket);
  }

  /** No new connections and no new calls; those that are open may finish. */
  drain(): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener.close();
    this.#injector.destroy();
  }

  /** Ends everything now. */
  close(): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener.destroy();
    this.#grpc.forceShutdown();
    this.#callers.destroy();
  }
}

/** Holds each request of gRPC against the bounds of those that are not whole. */
function boundedBy(requests: OpenRequests, grpc: typeof import('@grpc/grpc-js')): ServerInterceptor {
  return (_method, call) => {
    // Nothing that grpc-js exports can end a request whose body does not come, and give back its memory.
    const { stream } = call as unknown as { readonly stream?: ServerHttp2Stream };
    if (stream === undefined) throw new TypeError('a call of grpc-js has no stream');
    requests.add(stream, callerOf(call.getPeer()));
    return new grpc.ServerInterceptingCall(call);
  };
}

const remoteOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress}:${remotePort}`;
