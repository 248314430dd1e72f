/**
 * grpc.health.v1 (Check, Watch, List) for kubelets' gRPC probes. The name `` is the sidecar as a whole, and each
 * local app has its service's name. grpc-js is loaded by the first connection: most sidecars never get one.
 */
import type { Socket } from 'node:net';
import type { Logger } from '../telemetry/log.ts';
import { ConnectionCap } from './connectioncap.ts';
import type { Readiness } from './readiness.ts';

type Status = 'SERVING' | 'NOT_SERVING';

interface Loaded {
  setStatus(service: string, status: Status): void;
  inject(socket: Socket): void;
  close(): void;
}

const MAX_CONNECTIONS = 64;
const MAX_STREAMS = 64; // of a connection

export class Health {
  readonly #log: Logger;
  readonly #statuses = new Map<string, Status>();
  readonly #connections = new ConnectionCap(MAX_CONNECTIONS);
  #loaded: Promise<Loaded> | undefined;
  #draining = false;

  constructor(readiness: Readiness, log: Logger) {
    this.#log = log;
    const follow = (): void => this.setStatus('', readiness.ready);
    readiness.onChange(follow);
    follow();
  }

  /** Says whether a service is served. */
  setStatus(service: string, serving: boolean): void {
    const status = serving && !this.#draining ? 'SERVING' : 'NOT_SERVING';
    this.#statuses.set(service, status);
    this.#loaded?.then(
      (loaded) => loaded.setStatus(service, status),
      () => undefined,
    );
  }

  /** From now on nothing is served, whatever becomes of the apps. */
  drain(): void {
    this.#draining = true;
    for (const service of this.#statuses.keys()) this.setStatus(service, false);
  }

  /** Takes over a connection that has just been accepted. */
  accept(socket: Socket): void {
    this.#connections.add(socket);
    socket.on('error', () => socket.destroy());
    // A FIN ends the connection: Node's HTTP/2 would leave our half of it open for ever.
    socket.allowHalfOpen = false;
    this.#loaded ??= this.#load();
    this.#loaded.then(
      (loaded) => loaded.inject(socket),
      (error) => {
        this.#log.error({ error: String(error) }, 'grpc.health.v1 could not be loaded');
        socket.destroy();
      },
    );
  }

  async #load(): Promise<Loaded> {
    const [grpc, health] = await Promise.all([import('@grpc/grpc-js'), import('grpc-health-check')]);
    // It prints what clients send, as it came; our log bounds and escapes it.
    const tell = (...parts: unknown[]): void => this.#log.debug({ detail: parts.join(' ') }, 'grpc-js');
    grpc.setLogger({ error: tell, info: tell, debug: tell });
    const server = new grpc.Server({ 'grpc.max_concurrent_streams': MAX_STREAMS });
    const implementation = new health.HealthImplementation(Object.fromEntries(this.#statuses));
    implementation.addToServer(server);
    const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    return {
      setStatus: (service, status) => implementation.setStatus(service, status),
      inject: (socket) => injector.injectConnection(socket),
      close: () => {
        injector.destroy();
        server.forceShutdown();
      },
    };
  }

  close(): void {
    this.#connections.destroy();
    this.#loaded?.then(
      (loaded) => loaded.close(),
      () => undefined,
    );
  }
}
