import { formatAddress } from '../config/address.ts';
import type { ListenAddress, PoolConfig } from '../config/config.ts';
import type { RelayContext } from '../relay/context.ts';
import type { Forwarding } from '../relay/forwarding.ts';
import type { SessionPlaces } from '../relay/sessionplaces.ts';
import type { PeerSessions } from '../relay/sessions.ts';
import { Upstream } from '../relay/upstream.ts';
import type { UpstreamConnection } from '../relay/upstreamconnection.ts';
import type { CloseReason } from '../transport/errors.ts';

/** The upstream of one address of a service: its connections are those of sessions, and end with them. */
export function peerUpstream(
  context: RelayContext,
  {
    sessions,
    places,
    pool,
    onGone,
    forwarding,
  }: {
    sessions: PeerSessions;
    places: SessionPlaces;
    pool: PoolConfig;
    onGone?: () => void;
    forwarding?: Forwarding;
  },
  route: { readonly service: string; readonly peer: string },
  host: string,
  port: number,
): Upstream {
  const address: ListenAddress = { kind: 'tcp', host, port };
  const remote = formatAddress(address);
  const { service } = route;
  const listening = new Map<UpstreamConnection, () => void>();
  return new Upstream(context, {
    name: `${service} at ${remote}`,
    kind: 'session',
    maxConnections: pool.size,
    waitMs: pool.waitTimeoutMs,
    places,
    reconnect: {
      backoffMs: pool.backoffMs,
      maxBackoffMs: pool.maxBackoffMs,
      maxAttempts: pool.maxReconnectAttempts,
      healthCheckMs: pool.healthCheckMs,
    },
    onHealth: (up, attempts, detail) => {
      if (up) context.recorder.record({ type: 'endpoint.up', service, remote, attempts });
      else context.recorder.record({ type: 'endpoint.down', service, remote, attempts, detail });
      context.log.warn({ service, remote, attempts, up }, 'an endpoint has gone down or come back');
    },
    ...(onGone === undefined ? {} : { onGone }),
    ...(forwarding === undefined ? {} : { forwarding }),
    dial: () => sessions.dial(route.service, host, port, route.peer),
    onConnection: (to) => {
      const { session } = to;
      if (session === undefined) return;
      listening.set(
        to,
        session.listen({
          draining: (reason) => to.drainOnceReady(reason),
          disposed: () => to.end(session),
          successorDue: (reason) => to.upstream.replace(to, reason),
        }),
      );
    },
    onClosed: (to, reason, detail) => {
      if (to.session === undefined) return;
      listening.get(to)?.();
      listening.delete(to);
      sessions.closed(to.session, remote, reason as CloseReason, detail);
    },
  });
}
