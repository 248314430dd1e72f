/** The egress side: takes calls from the app, and sends each to the peer that its route names. */
import type { Socket } from 'node:net';
import type { ListenAddress, RouteConfig } from '../config/config.ts';
import { type HeaderField, headerField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';
import type { Message } from '../http2/message.ts';
import { Roster } from '../lifecycle/roster.ts';
import { RefusalTally } from '../transport/refusaltally.ts';
import { parseAuthority } from './authority.ts';
import type { CallPlan } from './call.ts';
import type { RelayContext } from './context.ts';
import { DownstreamConnection } from './downstream.ts';
import { RelayError } from './errors.ts';
import { Listener } from './listener.ts';
import { Opening } from './opening.ts';
import type { PeerTarget } from './peertarget.ts';
import { blockedError } from './revokederror.ts';
import { isGrpc, methodOf, NOWHERE, type Router } from './router.ts';
import { RouteTable } from './routes.ts';
import { formatTimeout, parseTimeout } from './timeout.ts';
import { remoteOf, SocketWire } from './wire.ts';

/** A configured route and where it leads. */
export interface Route {
  readonly config: RouteConfig;
  readonly target: PeerTarget;
}

const SWEEP_MS = 1000;

export class Egress {
  readonly #context: RelayContext;
  readonly #table: RouteTable<Route>;
  readonly #routes: readonly Route[];
  /** Listeners that route by `:authority`. */
  readonly shared: Listener[] = [];
  /** Listeners of single routes, by service. */
  readonly own = new Map<string, Listener>();
  readonly #openings = new Roster<Opening>();
  readonly #connections = new Roster<DownstreamConnection>();
  readonly #maxConnections: number;
  readonly #tooMany: RefusalTally;
  readonly #sweeper: unknown;
  #draining = false;

  readonly #isBlocked: (peer: string) => boolean;

  /** Calls to a peer that `isBlocked` are refused. */
  constructor(
    context: RelayContext,
    routes: readonly Route[],
    maxConnections: number,
    isBlocked: (peer: string) => boolean,
  ) {
    this.#context = context;
    this.#isBlocked = isBlocked;
    this.#routes = routes;
    this.#maxConnections = maxConnections;
    this.#tooMany = new RefusalTally(context.clock);
    this.#table = new RouteTable(routes.map((route) => [route.config, route] as const));
    this.#sweeper = context.clock.every(SWEEP_MS, () => {
      for (const connection of this.#connections) connection.sweep();
      for (const opening of this.#openings) opening.sweep();
    });
  }

  get #listeners(): Listener[] {
    return [...this.shared, ...this.own.values()];
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Binds the shared listeners and those of single routes. Rejects with ListenError. */
  async listen(addresses: readonly ListenAddress[]): Promise<void> {
    const accept = (socket: Socket, listener: Listener): void => this.#accept(socket, listener, undefined);
    this.shared.push(
      ...(await Listener.openAll('egress.listen', addresses, 'shared', accept, this.#context.skipped)),
    );
    for (const route of this.#routes) {
      const { listen, service } = route.config;
      if (listen === undefined) continue;
      const listener = await Listener.open(`listen of the route ${service}`, listen, 'shared', (socket) =>
        this.#accept(socket, listener, route),
      );
      this.own.set(service, listener);
    }
  }

  #accept(socket: Socket, listener: Listener, route: Route | undefined): void {
    const remote = remoteOf(socket); // a socket that is destroyed has forgotten it
    if (this.#openings.size + this.#connections.size >= this.#maxConnections) {
      this.#turnAway(socket, remote, listener);
      return;
    }
    const opening = new Opening(socket, {
      monotonic: this.#context.monotonic,
      timeoutMs: this.#context.http2.prefaceTimeoutMs,
      allowConnect: route === undefined,
      matchConnect: (authority) => this.#matchConnect(authority),
      onHttp2: (first, connected) => {
        this.#openings.delete(opening);
        this.#serve(socket, first, route ?? connected);
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
      const detail = `${this.#maxConnections} connections are open, raise egress.maxConnections if they are meant${times}`;
      this.#refused(remote, listener, 'too-many-connections', detail, count);
    });
  }

  #matchConnect(authority: string): Route | undefined {
    const parsed = parseAuthority(authority);
    return parsed === undefined ? undefined : this.#table.match(parsed);
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

  #serve(socket: Socket, first: Buffer, route: Route | undefined): void {
    const wire = new SocketWire(socket);
    const connection = new DownstreamConnection(this.#context, {
      wire,
      remote: wire.remote,
      router: new EgressRouter(this.#context, this.#table, route, this.#isBlocked),
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
    this.#context.recorder.record({ type: 'connection.opened', side: 'app', remote: wire.remote });
    if (this.#draining) connection.drain('shutdown');
    connection.receive(first);
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
  }
}

interface EgressPlan extends CallPlan {
  /** What the call is forwarded as; undefined if it is refused. */
  readonly authority: HeaderField | undefined;
  /** The SPIFFE ID of the route's peer, if there is a route. */
  readonly peer: string | undefined;
  /** The deadline that the route gives to gRPC calls without one, ms. */
  readonly routeTimeoutMs: number | undefined;
}

/** What a plan has in common with those of all calls like it. */
type PlanFacts = Omit<EgressPlan, 'source' | 'direction' | 'list' | 'timeoutMs' | 'refusal'>;

/** Routes the calls of one app connection: by `:authority`, or all to the one route of its listener. */
class EgressRouter implements Router {
  readonly #context: RelayContext;
  readonly #table: RouteTable<Route>;
  readonly #fixed: Route | undefined;

  readonly #isBlocked: (peer: string) => boolean;

  constructor(
    context: RelayContext,
    table: RouteTable<Route>,
    fixed: Route | undefined,
    isBlocked: (peer: string) => boolean,
  ) {
    this.#context = context;
    this.#table = table;
    this.#fixed = fixed;
    this.#isBlocked = isBlocked;
  }

  plan(list: HeaderList, message: Message): EgressPlan {
    const grpc = isGrpc(message.contentType);
    const authority = parseAuthority(message.authority);
    const route = this.#fixed ?? (authority === undefined ? undefined : this.#table.match(authority));
    if (route === undefined || message.method === 'CONNECT')
      return this.#refuse(list, message, grpc, this.#noRoute(message));
    const { service, peer, timeoutMs: routeTimeoutMs } = route.config;
    const method = methodOf(message.path);
    // On its own listener a client cannot say which port it means, so none is passed on.
    const port =
      this.#fixed === undefined && authority !== undefined && authority.port > 0 ? `:${authority.port}` : '';
    const forwarded = headerField(':authority', service + port);
    const series = this.#context.metrics.calls('egress', service, method);
    const { target } = route;
    const facts = { service, method, authority: forwarded, grpc, series, target, peer, routeTimeoutMs };
    return this.#planOf(facts, list, message);
  }

  planLike(known: EgressPlan, list: HeaderList, message: Message): EgressPlan {
    return known.authority === undefined ? this.plan(list, message) : this.#planOf(known, list, message);
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
    };
  }

  #noRoute(message: Message): RelayError {
    const known = this.#table.names.slice(0, 8).join(', ');
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
    };
  }

  admit({ peer }: EgressPlan): RelayError | undefined {
    return peer !== undefined && this.#isBlocked(peer) ? blockedError(peer) : undefined;
  }

  refused(): void {
    // Counted and audited as a call that failed, with its code; there is nothing more to say.
  }
}

function withTimeout(list: HeaderList, ms: number): HeaderList {
  return HeaderList.of([...list.fields, headerField('grpc-timeout', formatTimeout(ms))]);
}

/** The list with this `:authority`, without `host`, which says the same. */
function withAuthority(list: HeaderList, own: HeaderField): HeaderList {
  if (list.get(':authority') === own.value && list.get('host') === undefined) return list;
  const fields = list.fields.filter(({ name }) => name !== 'host' && name !== ':authority');
  // Behind the other pseudo-headers, which all come first.
  let at = 0;
  while (at < fields.length && fields[at]?.name.startsWith(':')) at++;
  return HeaderList.of([...fields.slice(0, at), own, ...fields.slice(at)]);
}
