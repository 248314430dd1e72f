import type { AppPlace } from './appplace.ts';
import type { Call, CallTarget } from './call.ts';
import type { RelayContext } from './context.ts';
import { RelayError } from './errors.ts';
import { Upstream, type UpstreamOptions } from './upstream.ts';
import type { Dialled, UpstreamConnection } from './upstreamconnection.ts';

/** Connections to one app; another is opened when all streams of the others are taken. */
const MAX_CONNECTIONS = 8;

/** A local app that ingress delivers to. Its address is never told to a peer. */
export class AppTarget implements CallTarget {
  readonly lostCode = 'app-lost';
  readonly name: string;
  readonly service: string;
  readonly anyNameOn: number | undefined;
  readonly upstream: Upstream;
  /** Called when a connection to the app has closed: the app may be gone. */
  onClosed: () => void = () => {};
  readonly #context: RelayContext;
  readonly #place: AppPlace;

  /** `upstream`: what differs, for tests. */
  constructor(context: RelayContext, place: AppPlace, upstream: Partial<UpstreamOptions> = {}) {
    this.#context = context;
    this.#place = place;
    this.service = place.service;
    this.anyNameOn = place.anyNameOn;
    this.name =
      place.anyNameOn === undefined ? `the app of ${place.service}` : `the app on port ${place.anyNameOn}`;
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
    recorder.record({ type: 'connection.opened', side: 'local-app', remote: this.#place.remote });
  }

  #closed(reason: string, detail: string): void {
    const { metrics, recorder } = this.#context;
    metrics.connectionsOpen.of('local-app').dec();
    metrics.connectionsClosed.of('local-app', reason).inc();
    const { remote } = this.#place;
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
    const { service, remote, advice } = this.#place;
    try {
      return { wire: await this.#place.connect(), session: undefined, remote };
    } catch (cause) {
      this.#context.log.warn(
        { service, app: remote, error: String(cause) },
        'the app does not accept connections',
      );
      throw new RelayError('app-unreachable', `${this.name} does not accept connections; ${advice}`, {
        cause,
      });
    }
  }

  /** Does the app accept connections? Rejects if not. */
  async probe(): Promise<void> {
    if (this.upstream.connected) return;
    await this.#place.probe();
    this.upstream.reachable();
  }
}
