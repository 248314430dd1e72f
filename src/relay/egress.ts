/** The egress side: takes calls from the app, and sends each to the peer that its route names. */
import type { Socket } from 'node:net';
import type { ListenAddress, RedirectConfig, RouteConfig } from '../config/config.ts';
import { type HeaderField, headerField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';
import type { Message } from '../http2/message.ts';
import { Roster } from '../lifecycle/roster.ts';
import { RefusalTally } from '../transport/refusaltally.ts';
import { type Authority, parseAuthority } from './authority.ts';
import type { CallPlan, CallTarget } from './call.ts';
import type { RelayContext } from './context.ts';
import type { DiscoveredRoutes } from './discoveredroutes.ts';
import { DownstreamConnection } from './downstream.ts';
import { RelayError } from './errors.ts';
import { withAuthority } from './forwarding.ts';
import { Listener } from './listener.ts';
import { type MemoryWire, memoryWires } from './memorywire.ts';
import { Opening } from './opening.ts';
import { blockedError } from './revokederror.ts';
import { isGrpc, methodOf, NOWHERE, type Router } from './router.ts';
import { RouteTable } from './routes.ts';
import { formatTimeout, parseTimeout } from './timeout.ts';
import { remoteOf, SocketWire, type Wire } from './wire.ts';

/** A route and where it leads. */
export interface Route {
  readonly config: Pick<RouteConfig, 'service' | 'authorities' | 'timeoutMs' | 'listen'>;
  readonly target: CallTarget;
  /** The SPIFFE ID of its endpoints; undefined if discovery tells it, of each endpoint by itself. */
  readonly peer: string | undefined;
  /** An app has made up its name: it is no label of a metric before it is resolved. */
  readonly unverified?: boolean;
  /** It leads elsewhere with the port that `:authority` has. */
  readonly onPort?: (port: number) => CallTarget;
}

/** How a connection of an app came in, and what that says of its calls. */
interface Entrance {
  /** Where all of them go, whatever their `:authority`. */
  readonly route: Route | undefined;
  /** The port that an `:authority` without one means; 0: none. */
  readonly port: number;
  /** It may ask for a route by HTTP CONNECT. */
  readonly connect: boolean;
}

const BY_AUTHORITY: Entrance = { route: undefined, port: 0, connect: true };

const SWEEP_MS = 1000;

/** The other end of a connection without a socket, for the audit. */
const IN_PROCESS = 'in-process';

export interface EgressOptions {
  readonly routes: readonly Route[];
  /** Finds what no route takes; undefined: that is refused. */
  readonly discovery?: DiscoveredRoutes | undefined;
  readonly maxConnections: number;
  /** Calls to such a peer are refused. */
  readonly isBlocked: (peer: string) => boolean;
}

export class Egress {
  readonly #context: RelayContext;
  readonly #options: EgressOptions;
  readonly #atlas: Atlas;
  /** Listeners that route by `:authority`. */
  readonly shared: Listener[] = [];
  /** Listeners of single routes, by service. */
  readonly own = new Map<string, Listener>();
  /** Listeners for what was redirected, by the port that it went to. */
  readonly redirected = new Map<number, Listener[]>();
  readonly #openings = new Roster<Opening>();
  readonly #connections = new Roster<DownstreamConnection>();
  readonly #tooMany: RefusalTally;
  readonly #sweeper: unknown;
  #draining = false;

  constructor(context: RelayContext, options: EgressOptions) {
    this.#context = context;
    this.#options = options;
    this.#atlas = new Atlas(options.routes, options.discovery);
    this.#tooMany = new RefusalTally(context.clock);
    this.#sweeper = context.clock.every(SWEEP_MS, () => {
      for (const connection of this.#connections) connection.sweep();
      for (const opening of this.#openings) opening.sweep();
    });
  }

  get #listeners(): Listener[] {
    return [...this.shared, ...this.own.values(), ...[...this.redirected.values()].flat()];
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Binds the shared listeners, those of single routes and those of redirects. Rejects with ListenError. */
  async listen(
    addresses: readonly ListenAddress[],
    redirects: readonly RedirectConfig[] = [],
  ): Promise<void> {
    const accept = (socket: Socket, listener: Listener): void => this.#accept(socket, listener, BY_AUTHORITY);
    this.shared.push(
      ...(await Listener.openAll('egress.listen', addresses, 'shared', accept, this.#context.skipped)),
    );
    for (const route of this.#options.routes) {
      const { listen, service } = route.config;
      if (listen === undefined) continue;
      const listener = await Listener.open(`listen of the route ${service}`, listen, 'shared', (socket) =>
        this.#accept(socket, listener, { route, port: 0, connect: false }),
      );
      this.own.set(service, listener);
    }
    for (const { port, listen } of redirects) {
      const toPort: Entrance = { route: undefined, port, connect: false };
      const take = (socket: Socket, listener: Listener): void => this.#accept(socket, listener, toPort);
      const name = `listen of the redirect of port ${port}`;
      const { skipped } = this.#context;
      this.redirected.set(port, await Listener.openAll(name, listen, 'shared', take, skipped));
    }
  }

  #accept(socket: Socket, listener: Listener, entrance: Entrance): void {
    const remote = remoteOf(socket); // a socket that is destroyed has forgotten it
    if (this.#openings.size + this.#connections.size >= this.#options.maxConnections) {
      this.#turnAway(socket, remote, listener);
      return;
    }
    const opening = new Opening(socket, {
      monotonic: this.#context.monotonic,
      timeoutMs: this.#context.http2.prefaceTimeoutMs,
      allowConnect: entrance.connect,
      matchConnect: (authority) => this.#atlas.routeOf(parseAuthority(authority)),
      onHttp2: (first, connected) => {
        this.#openings.delete(opening);
        this.#serve(socket, first, connected === undefined ? entrance : { ...entrance, route: connected });
      },
      onRefused: (reason, detail) => {
        this.#openings.delete(opening);
        this.#refused(remote, listener, reason, detail);
      },
      onClosed: () => this.#openings.delete(opening),
    });
    this.#openings.add(opening);
  }

  #turnAway(socket: Socket, remote: string, listener: Listener): void {
    socket.on('error', () => {});
    socket.destroy();
    this.#tooMany.add(listener.name, (count) => {
      const times = count === 1 ? '' : `; ${count} were refused since this was said last`;
      const detail = `${this.#options.maxConnections} connections are open, raise egress.maxConnections if they are meant${times}`;
      this.#refused(remote, listener, 'too-many-connections', detail, count);
    });
  }

  #refused(remote: string, listener: Listener, reason: string, detail: string, count = 1): void {
    this.#context.metrics.refusals.of('egress', reason).inc(count);
    if (reason === 'tls') {
      this.#context.recorder.record({ type: 'tls.detected', listener: listener.name, remote, cure: detail });
      this.#context.log.warn(
        { listener: listener.name, remote, cure: detail },
        'an app speaks TLS to egress',
      );
    } else {
      this.#context.recorder.record({
        type: 'connection.refused',
        listener: listener.name,
        remote,
        reason,
        detail,
      });
    }
  }

  #serve(socket: Socket, first: Buffer, entrance: Entrance): void {
    const wire = new SocketWire(socket);
    this.#begin(wire, wire.remote, entrance).receive(first);
  }

  /**
   * A connection of an app in this process to the route of a service, whose far end this is; undefined if there is no
   * such route, or egress takes no more.
   */
  join(service: string): MemoryWire | undefined {
    const route = this.#atlas.routeOf(parseAuthority(service));
    if (route === undefined || this.#draining) return undefined;
    const [theirs, ours] = memoryWires();
    this.#begin(ours, IN_PROCESS, { route, port: 0, connect: false });
    return theirs;
  }

  #begin(wire: Wire, remote: string, entrance: Entrance): DownstreamConnection {
    const connection = new DownstreamConnection(this.#context, {
      wire,
      remote,
      router: new EgressRouter(this.#context, this.#atlas, entrance, this.#options.isBlocked),
      onClosed: (closed, reason, detail) => {
        this.#connections.delete(closed);
        this.#context.metrics.connectionsOpen.of('app').dec();
        this.#context.metrics.connectionsClosed.of('app', reason).inc();
        this.#context.recorder.record({
          type: 'connection.closed',
          side: 'app',
          remote: closed.remote,
          reason,
          detail,
        });
      },
    });
    this.#connections.add(connection);
    this.#context.metrics.connectionsOpen.of('app').inc();
    this.#context.metrics.connections.of('app').inc();
    this.#context.recorder.record({ type: 'connection.opened', side: 'app', remote });
    if (this.#draining) connection.drain('shutdown');
    return connection;
  }

  /** Accepts nothing more, tells the apps to go, lets their calls finish. */
  drain(): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener.close();
    for (const connection of this.#connections) connection.drain('shutdown');
  }

  close(): void {
    this.#context.clock.clear(this.#sweeper);
    for (const connection of this.#connections) connection.end();
  }

  /** Ends what is still open, after `close` has had its time. */
  destroy(): void {
    for (const listener of this.#listeners) listener.destroy();
    for (const { wire } of this.#connections) wire.destroy('shutdown');
  }
}

/** Where each name leads: to the routes of the configuration first, then to what discovery finds. */
class Atlas {
  readonly #table: RouteTable<Route>;
  readonly #discovery: DiscoveredRoutes | undefined;

  constructor(routes: readonly Route[], discovery: DiscoveredRoutes | undefined) {
    this.#table = new RouteTable(routes.map((route) => [route.config, route] as const));
    this.#discovery = discovery;
  }

  /** The exact names of the configuration, for error messages. */
  get names(): string[] {
    return this.#table.names;
  }

  routeOf(authority: Authority | undefined): Route | undefined {
    if (authority === undefined) return undefined;
    const route = this.#table.match(authority);
    if (route === undefined) return this.#discovered(authority);
    const { onPort } = route;
    const { port } = authority;
    return onPort === undefined || port === 0 ? route : { ...route, target: onPort(port) };
  }

  #discovered(authority: Authority): Route | undefined {
    const target = this.#discovery?.named(authority);
    if (target === undefined) return undefined;
    return { config: { service: target.name, authorities: [] }, target, peer: undefined, unverified: true };
  }
}

interface EgressPlan extends CallPlan {
  /** What the call is forwarded as; undefined if it is refused, or that depends on the endpoint. */
  readonly authority: HeaderField | undefined;
  /** The SPIFFE ID of the route's peer, if there is a route that has one. */
  readonly peer: string | undefined;
  /** The deadline that the route gives to gRPC calls without one, ms. */
  readonly routeTimeoutMs: number | undefined;
}

/** What a plan has in common with those of all calls like it. */
type PlanFacts = Omit<EgressPlan, 'source' | 'direction' | 'list' | 'timeoutMs' | 'refusal'>;

/** Routes the calls of one app connection: by `:authority`, or all to the one route of its listener. */
class EgressRouter implements Router {
  readonly #context: RelayContext;
  readonly #atlas: Atlas;
  readonly #fixed: Route | undefined;
  readonly #port: number;

  readonly #isBlocked: (peer: string) => boolean;

  constructor(
    context: RelayContext,
    atlas: Atlas,
    { route, port }: Entrance,
    isBlocked: (peer: string) => boolean,
  ) {
    this.#context = context;
    this.#atlas = atlas;
    this.#fixed = route;
    this.#port = port;
    this.#isBlocked = isBlocked;
  }

  plan(list: HeaderList, message: Message): EgressPlan {
    const grpc = isGrpc(message.contentType);
    const authority = this.#meant(message.authority);
    const route = this.#fixed ?? this.#atlas.routeOf(authority);
    if (route === undefined || message.method === 'CONNECT')
      return this.#refuse(list, message, grpc, this.#noRoute(message));
    const { target, peer, unverified } = route;
    const { timeoutMs: routeTimeoutMs } = route.config;
    const service = serviceOf(route);
    const method = methodOf(message.path);
    const known = unverified !== true;
    const series = this.#context.metrics.calls(
      'egress',
      known ? service : 'unknown',
      known ? method : 'unknown',
    );
    const forwarded = peer === undefined ? undefined : this.#forwarded(service, authority);
    const facts = { service, method, authority: forwarded, grpc, series, target, peer, routeTimeoutMs };
    return this.#planOf(facts, list, message);
  }

  /** On its own listener a client cannot say which port it means, so none is passed on. */
  #forwarded(service: string, authority: Authority | undefined): HeaderField {
    const port = this.#fixed === undefined && authority !== undefined ? authority.port : 0;
    return headerField(':authority', port > 0 ? `${service}:${port}` : service);
  }

  /** What an `:authority` says, with the port of a redirect where it has none. */
  #meant(text: string): Authority | undefined {
    const authority = parseAuthority(text);
    if (authority === undefined || authority.port > 0 || this.#port === 0) return authority;
    return { name: authority.name, port: this.#port };
  }

  planLike(known: EgressPlan, list: HeaderList, message: Message): EgressPlan {
    return known.refusal !== undefined ? this.plan(list, message) : this.#planOf(known, list, message);
  }

  #planOf(facts: PlanFacts, list: HeaderList, message: Message): EgressPlan {
    const { service, method, authority, grpc, series, target, peer, routeTimeoutMs } = facts;
    const ownTimeoutMs = parseTimeout(message.grpcTimeout);
    if (ownTimeoutMs === undefined && message.grpcTimeout !== undefined) {
      return this.#refuse(
        list,
        message,
        grpc,
        new RelayError('bad-timeout', 'grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n'),
      );
    }
    const forwarded = authority === undefined ? list : withAuthority(list, authority);
    const given = grpc && ownTimeoutMs === undefined ? routeTimeoutMs : undefined;
    return {
      source: list,
      direction: 'egress',
      service,
      method,
      list: given === undefined ? forwarded : withTimeout(forwarded, given),
      authority,
      grpc,
      timeoutMs: ownTimeoutMs ?? given,
      series,
      target,
      peer,
      routeTimeoutMs,
      refusal: undefined,
      forwarded: undefined,
    };
  }

  #noRoute(message: Message): RelayError {
    const known = this.#atlas.names.slice(0, 8).join(', ');
    const shown = JSON.stringify(message.authority.slice(0, 128));
    return new RelayError(
      'no-route',
      `no route for :authority ${shown}; this sidecar routes ${known || 'nothing'}. Add it under egress.routes`,
    );
  }

  #refuse(list: HeaderList, message: Message, grpc: boolean, refusal: RelayError): EgressPlan {
    return {
      source: list,
      authority: undefined,
      peer: undefined,
      routeTimeoutMs: undefined,
      direction: 'egress',
      service: 'unknown',
      method: methodOf(message.path),
      list: HeaderList.of([]),
      grpc,
      timeoutMs: undefined,
      series: this.#context.metrics.calls('egress', 'unknown', 'unknown'),
      target: NOWHERE,
      refusal,
      forwarded: undefined,
    };
  }

  admit({ peer }: EgressPlan): RelayError | undefined {
    return peer !== undefined && this.#isBlocked(peer) ? blockedError(peer) : undefined;
  }

  refused(): void {
    // Counted and audited as a call that failed, with its code; there is nothing more to say.
  }
}

/** Its service without the port that one of discovery may have; what an app has made up is left as it is. */
function serviceOf({ config: { service }, peer, unverified }: Route): string {
  return peer === undefined && unverified !== true ? service.replace(/:[0-9]+$/, '') : service;
}

function withTimeout(list: HeaderList, ms: number): HeaderList {
  return HeaderList.of([...list.fields, headerField('grpc-timeout', formatTimeout(ms))]);
}
