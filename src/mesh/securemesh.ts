import type { Duplex } from 'node:stream';
import type {
  ChannelCredentials,
  ChannelInterface,
  ChannelOptions,
  ClientOptions,
  Server,
} from '@grpc/grpc-js';
import type { HealthMonitor } from '../admin/healthmonitor.ts';
import { nearest } from '../config/nearest.ts';
import type { Revocation } from '../relay/revocation.ts';
import type { SessionManager } from '../session/manager.ts';
import type { IdentityEvent, IdentityStatus } from '../sidecar/identitywatch.ts';
import type { LocalApp } from '../sidecar/options.ts';
import type { Sidecar } from '../sidecar/sidecar.ts';
import type { SidecarStats } from '../sidecar/stats.ts';
import { version } from '../telemetry/version.ts';
import { MeshError } from './errors.ts';
import type { Grpc } from './grpctypes.ts';
import { localApp } from './localapp.ts';
import { MeshChannel } from './meshchannel.ts';
import { MeshClient } from './meshclient.ts';
import { checkOptions } from './meshconfig.ts';
import { MeshHealth } from './meshhealth.ts';
import { startError, startSidecar } from './meshstart.ts';
import type { SecureMeshOptions } from './options.ts';
import { WireStream } from './wirestream.ts';

/** `new` until `start()`, `ended` from the end of `cleanup()` on; a start that failed leaves it `new`. */
export type MeshState = 'new' | 'starting' | 'started' | 'ending' | 'ended';

const NO_PORT =
  'options.port is missing: without a mesh port nobody can call what this program serves; 15008 is the usual one, 0 takes any that is free';

/** A class of clients as code generators and proto-loader make them for grpc-js. */
export type GrpcClientClass<Client> = new (
  address: string,
  credentials: ChannelCredentials,
  options?: Partial<ClientOptions>,
) => Client;

/**
 * A sidecar in this process: sessions with peers, and calls over them without a port in between.
 *
 * It opens nothing before `start()`. `cleanup()` ends it, as `await using` does: a mesh that is started keeps the process
 * alive while it listens or has connections.
 */
export class SecureMesh implements AsyncDisposable {
  readonly serviceId: string;
  readonly #options: SecureMeshOptions;
  #state: MeshState = 'new';
  #starting: Promise<Sidecar> | undefined;
  #sidecar: Sidecar | undefined;
  #ended: Promise<void> | undefined;
  /** Who hears of the identity, with what ends that once there is a sidecar. */
  readonly #hearing = new Map<(event: IdentityEvent) => void, (() => void) | undefined>();
  /** What serves calls in this process. */
  #app: (() => Promise<LocalApp>) | undefined;
  #grpc: Grpc | undefined;
  readonly #health: MeshHealth;

  /** Throws MeshError `bad-option` with everything that is wrong with the options. */
  constructor(options: SecureMeshOptions) {
    checkOptions(options);
    this.#options = options;
    this.serviceId = options.serviceId;
    this.#health = new MeshHealth(Object.keys(options.services ?? {}));
  }

  /**
   * Has the calls for this service delivered to a grpc-js server in this process, which needs no port of its own; each has
   * the caller's SPIFFE ID and session as metadata, `hauberk-peer` and `hauberk-session`. Before `start()`, once; a
   * {@link SecureMeshServer} does it by itself. The server stays the program's to shut down, after `cleanup()`.
   *
   * Throws MeshError `bad-option` or `already-started`.
   */
  serve(server: Server): void {
    this.serveApp(() => localApp(server));
  }

  /**
   * As `serve`, with whatever takes connections.
   * @internal
   */
  serveApp(app: () => Promise<LocalApp>): void {
    if (this.#state !== 'new') {
      throw new MeshError(
        'already-started',
        `what the mesh of ${this.serviceId} serves must be known before start()`,
      );
    }
    const { app: address } = this.#options;
    if (this.#app !== undefined || address !== undefined) {
      const other = address === undefined ? 'was given a server before' : `has options.app (${address})`;
      throw new MeshError(
        'bad-option',
        `the mesh of ${this.serviceId} ${other}; calls go to one of them only`,
      );
    }
    this.#app = app;
  }

  get state(): MeshState {
    return this.#state;
  }

  /**
   * Loads the identity, binds the ports, and resolves with the mesh itself. Rejects with MeshError `bad-keys`,
   * `port-taken`, `bad-option`, `already-started`, `ended` or `start-failed`, everything that was begun being undone.
   * `port` is the mesh port in place of that of the options.
   */
  async start(port: number | undefined = this.#options.port): Promise<this> {
    if (this.#state === 'ending' || this.#state === 'ended') throw this.#hasEnded();
    if (this.#state !== 'new') {
      throw new MeshError(
        'already-started',
        `the mesh of ${this.serviceId} was started before; start it once`,
      );
    }
    if (port === undefined && this.#app !== undefined) throw new MeshError('bad-option', NO_PORT);
    this.#state = 'starting';
    this.#starting = startSidecar(port === undefined ? this.#options : { ...this.#options, port }, this.#app);
    try {
      // Both at once: a start that fails while grpc-js is still loading must have somebody who waits for it.
      [this.#grpc, this.#sidecar] = await Promise.all([import('@grpc/grpc-js'), this.#starting]);
    } catch (error) {
      if (this.#state === 'starting') this.#state = 'new';
      throw startError(error);
    }
    // cleanup() may have come meanwhile, and ends it then.
    if (this.#state !== 'starting') throw this.#hasEnded();
    this.#state = 'started';
    for (const hear of this.#hearing.keys()) this.#hearing.set(hear, this.#sidecar.onIdentity(hear));
    this.#health.join(this.#sidecar);
    return this;
  }

  /** The SPIFFE ID of this program. Throws MeshError unless started, as all that follows does. */
  get spiffeId(): string {
    return this.#running.spiffeId;
  }

  /** The mesh port that was bound; undefined if this program only calls. */
  get port(): number | undefined {
    const [bound] = this.#running.bound.ingress;
    return bound === undefined ? undefined : Number(bound.slice(bound.lastIndexOf(':') + 1));
  }

  /**
   * A client of a service of `options.services`, by the names of its methods. Nothing is sent before its first call, and
   * it follows the service from session to session. Throws MeshError `unknown-service`, and as all of the mesh does.
   */
  connect(service: string): MeshClient {
    return new MeshClient(this.#loadedGrpc, service, this.channel(service));
  }

  /**
   * A generated client of a service, such as `mesh.client(GreeterClient, 'greeter')`. Of grpc-js's options those count that
   * concern calls: interceptors and the limits of message sizes. Its `close()` leaves the session.
   */
  client<Client>(
    Class: GrpcClientClass<Client>,
    service: string,
    options: Partial<ClientOptions> = {},
  ): Client {
    const channelOverride = this.channel(service, options) as never;
    return new Class(service, this.#loadedGrpc.credentials.createInsecure(), { ...options, channelOverride });
  }

  /**
   * A grpc-js channel to a service: calls go over its session, without a port in between. Of grpc-js's options
   * `grpc.max_receive_message_length` (4 MiB by default) and `grpc.max_send_message_length` (no limit) count, -1 for none.
   */
  channel(service: string, options: ChannelOptions = {}): ChannelInterface {
    this.#known(service);
    const { relay } = this.#running;
    return new MeshChannel({
      grpc: this.#loadedGrpc,
      context: relay.context,
      service,
      userAgent: `hauberk/${version()}`,
      connect: () => relay.join(service),
      maxReceive: options['grpc.max_receive_message_length'],
      maxSend: options['grpc.max_send_message_length'],
    });
  }

  /**
   * A stream of octets on which a service speaks HTTP/2 without TLS, for what brings a client of its own:
   * `createConnection: () => mesh.socket('greeter')` for node:http2 and Connect.
   */
  socket(service: string): Duplex {
    this.#known(service);
    const wire = this.#running.relay.join(service);
    if (wire === undefined) throw this.#hasEnded();
    return new WireStream(wire);
  }

  #known(service: string): void {
    this.#running;
    const names = Object.keys(this.#options.services ?? {});
    if (names.some((name) => name.toLowerCase() === service.toLowerCase())) return;
    const near = nearest(service, names);
    const known = names.length === 0 ? 'there are none' : `there are ${names.join(', ')}`;
    const cure =
      near === undefined ? 'add it, with the addresses of its mesh ports' : `did you mean ${near}?`;
    throw new MeshError(
      'unknown-service',
      `options.services has no ${JSON.stringify(service)} (${known}); ${cure}`,
    );
  }

  /**
   * How the mesh is, the services that it calls, and whatever the program adds, at any time: while a critical check of the
   * program's fails, the probes say that it is not ready. It runs from `start()` to `cleanup()`.
   */
  get health(): HealthMonitor {
    return this.#health.monitor;
  }

  /** What `options.probes` bound, as `host:port`. */
  get probes(): { readonly http: readonly string[]; readonly grpc: readonly string[] } {
    const { probesHttp, probesGrpc } = this.#running.bound;
    return { http: probesHttp, grpc: probesGrpc };
  }

  /** Every session of this program, in both directions: to look at, to listen to, to end. */
  get sessions(): SessionManager {
    return this.#running.sessions;
  }

  /** Cuts sessions with a receipt; blocks peers and allows them again. */
  get revocation(): Revocation {
    return this.#running.revocation;
  }

  /** Who this program is now, until when, and how often that was renewed. */
  get identity(): IdentityStatus {
    return this.#running.identity;
  }

  /**
   * Reads the files of the identity now. Resolves with whether anything was replaced. Rejects with IdentityError, which
   * names the file and the cure; what was good stays in use, but for a good trust bundle, which is taken by itself.
   */
  reloadIdentity(): Promise<boolean> {
    return this.#running.reloadIdentity();
  }

  /**
   * Calls `listener` with each event of a type: `rotated` (a renewed SVID or a changed bundle is in use), `reloadFailed`,
   * `renewalFailed`, `expired`. Also before `start()`. Returns a function that removes it.
   */
  on<T extends IdentityEvent['type']>(
    type: T,
    listener: (event: Extract<IdentityEvent, { readonly type: T }>) => void,
  ): () => void {
    const hear = (event: IdentityEvent): void => {
      if (event.type === type) listener(event as Extract<IdentityEvent, { readonly type: T }>);
    };
    this.#hearing.set(hear, this.#sidecar?.onIdentity(hear));
    return () => {
      this.#hearing.get(hear)?.();
      this.#hearing.delete(hear);
    };
  }

  /** What it has done since its start, and what it holds. */
  getStats(): SidecarStats {
    return this.#running.getStats();
  }

  /**
   * Ends it: no new calls, those under way finish within `drainTimeout` (or `timeoutMs`), the audit is written, the keys
   * are wiped. Resolves with nothing left behind, also when called again or before `start()`. Never rejects.
   */
  cleanup(timeoutMs?: number): Promise<void> {
    this.#ended ??= this.#end(timeoutMs);
    return this.#ended;
  }

  /** `cleanup`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.cleanup();
  }

  async #end(timeoutMs: number | undefined): Promise<void> {
    this.#state = 'ending';
    this.#health.leave();
    const sidecar = await this.#starting?.catch(() => undefined);
    await sidecar?.drain('cleanup', timeoutMs);
    await sidecar?.stop('cleanup');
    this.#state = 'ended';
  }

  get #loadedGrpc(): Grpc {
    this.#running;
    return this.#grpc as Grpc;
  }

  /** The sidecar, if it runs. */
  get #running(): Sidecar {
    if (this.#sidecar !== undefined && this.#state === 'started') return this.#sidecar;
    if (this.#state === 'ending' || this.#state === 'ended') throw this.#hasEnded();
    throw new MeshError(
      'not-started',
      `the mesh of ${this.serviceId} has not started; \`await mesh.start()\` first`,
    );
  }

  #hasEnded(): MeshError {
    return new MeshError(
      'ended',
      `the mesh of ${this.serviceId} has ended, for cleanup() was called; make a new SecureMesh, or call cleanup() later`,
    );
  }
}
