import { formatAddress } from '../config/address.ts';
import type { AppConfig, ListenAddress } from '../config/config.ts';
import { openSocket } from '../transport/opensocket.ts';
import type { Call, CallTarget } from './call.ts';
import type { RelayContext } from './context.ts';
import { RelayError } from './errors.ts';
import { Upstream, type UpstreamOptions } from './upstream.ts';
import type { Dialled, UpstreamConnection } from './upstreamconnection.ts';
import { SocketWire } from './wire.ts';

const CONNECT_TIMEOUT_MS = 5000;
/** Connections to one app; another is opened when all streams of the others are taken. */
const MAX_CONNECTIONS = 8;

/** A local app that ingress delivers to. Its address is never told to a peer. */
export class AppTarget implements CallTarget {
  readonly lostCode = 'app-lost';
  readonly name: string;
  readonly config: AppConfig;
  readonly upstream: Upstream;
  /** Called when a connection to the app has closed: the app may be gone. */
  onClosed: () => void = () => {};
  readonly #context: RelayContext;

  /** `upstream`: what differs, for tests. */
  constructor(context: RelayContext, config: AppConfig, upstream: Partial<UpstreamOptions> = {}) {
    this.#context = context;
    this.config = config;
    this.name = `the app of ${config.service}`;
    this.upstream = new Upstream(context, {
      name: this.name,
      kind: 'app',
      maxConnections: MAX_CONNECTIONS,
      dial: () => this.#dial(),
      onConnection: () => this.#opened(),
      onClosed: (_connection, reason, detail) => this.#closed(reason, detail),
      ...upstream,
    });
  }

  #opened(): void {
    const { metrics, recorder } = this.#context;
    metrics.connections.of('local-app').inc();
    metrics.connectionsOpen.of('local-app').inc();
    recorder.record({
      type: 'connection.opened',
      side: 'local-app',
      remote: formatAddress(this.config.address),
    });
  }

  #closed(reason: string, detail: string): void {
    const { metrics, recorder } = this.#context;
    metrics.connectionsOpen.of('local-app').dec();
    metrics.connectionsClosed.of('local-app', reason).inc();
    const remote = formatAddress(this.config.address);
    recorder.record({ type: 'connection.closed', side: 'local-app', remote, reason, detail });
    this.onClosed();
  }

  assign(call: Call): void {
    this.upstream.assign(call);
  }

  reassign(call: Call, error: RelayError): void {
    call.fail(error);
  }

  mayRetry(_call: Call, from: UpstreamConnection): boolean {
    return from.mayRetry();
  }

  async #dial(): Promise<Dialled> {
    try {
      const socket = await connectTo(this.config.address, CONNECT_TIMEOUT_MS);
      const remote = formatAddress(this.config.address);
      return { wire: new SocketWire(socket, remote), session: undefined, remote };
    } catch (cause) {
      this.#context.log.warn(
        { service: this.config.service, app: formatAddress(this.config.address), error: String(cause) },
        'the app does not accept connections',
      );
      throw new RelayError(
        'app-unreachable',
        `${this.name} does not accept connections; is it running, and is ingress.apps right?`,
        { cause },
      );
    }
  }

  /** Does the app accept connections? Rejects if not. */
  async probe(): Promise<void> {
    if (this.upstream.connected) return;
    (await connectTo(this.config.address, CONNECT_TIMEOUT_MS)).destroy();
    this.upstream.reachable();
  }
}

function connectTo(address: ListenAddress, timeoutMs: number): Promise<import('node:net').Socket> {
  return new Promise((resolve, reject) => {
    const socket =
      address.kind === 'unix'
        ? openSocket({ path: address.path })
        : openSocket({ host: address.host, port: address.port });
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no connection within ${timeoutMs} ms`)));
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}
