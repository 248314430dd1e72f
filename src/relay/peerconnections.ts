/** The connections between sidecars: which session each belongs to, and what the metrics and the audit hear of its life. */
import { Roster } from '../lifecycle/roster.ts';
import type { Session } from '../session/session.ts';
import type { SecureChannel } from '../transport/channel.ts';
import type { ConnectionChange } from '../transport/connectionlife.ts';
import type { CloseReason } from '../transport/errors.ts';
import type { RelayContext } from './context.ts';

/** A peer's channel and the session on it. Whoever gets it ends the channel when the session drains or is disposed. */
export interface PeerConnection {
  readonly channel: SecureChannel;
  readonly session: Session;
  readonly remote: string;
}

/**
 * Each step of a connection's life that a proven peer takes part in is an audit event; those before are counted only, so
 * that strangers, however many, fill no log: how many connections there are in each state is a metric, and a handshake that
 * fails is one event, or one for many of an address.
 */
export class PeerConnections {
  readonly #context: RelayContext;
  /** Those that are not closed, by their session's id. */
  readonly #bySession = new Map<string, Roster<PeerConnection>>();

  constructor(context: RelayContext) {
    this.#context = context;
  }

  /** The connections of a session. */
  of(sessionId: string): readonly PeerConnection[] {
    return [...(this.#bySession.get(sessionId) ?? [])];
  }

  /** For the transport: a connection has begun, or taken a step. */
  readonly changed = ({ connection, from, to, reason = '' }: ConnectionChange): void => {
    const { metrics, recorder } = this.#context;
    const { direction } = connection;
    if (from !== undefined) metrics.peerConnections.of(direction, from).dec();
    if (to !== 'closed') metrics.peerConnections.of(direction, to).inc();
    const { sessionId } = connection;
    if (to !== 'draining' || sessionId === undefined) return;
    const remote = this.of(sessionId).find(({ channel }) => channel.life === connection)?.remote;
    if (remote === undefined) return;
    recorder.record({ type: 'connection.draining', side: 'peer', remote, sessionId, reason });
  };

  /** An open connection has got its session. */
  joined(connection: PeerConnection): void {
    const { channel, session, remote } = connection;
    const { metrics, recorder } = this.#context;
    const { direction } = channel.life;
    channel.life.sessionId = session.id;
    let connections = this.#bySession.get(session.id);
    if (connections === undefined) {
      connections = new Roster();
      this.#bySession.set(session.id, connections);
    }
    connections.add(connection);
    metrics.connections.of('peer').inc();
    metrics.connectionsOpen.of('peer').inc();
    recorder.record({ type: 'connection.opened', side: 'peer', remote, sessionId: session.id, direction });
  }

  /** A connection of a session has closed. */
  closed(session: Session, remote: string, reason: CloseReason, detail: string): void {
    const { metrics, recorder } = this.#context;
    const state = this.#takeClosed(session.id)?.channel.life.left;
    metrics.connectionsOpen.of('peer').dec();
    metrics.connectionsClosed.of('peer', reason).inc();
    const { id: sessionId } = session;
    recorder.record({ type: 'connection.closed', side: 'peer', remote, sessionId, state, reason, detail });
  }

  #takeClosed(sessionId: string): PeerConnection | undefined {
    const connections = this.#bySession.get(sessionId);
    let closed: PeerConnection | undefined;
    for (const connection of connections ?? []) {
      if (!connection.channel.closed) continue;
      closed = connection;
      connections?.delete(connection);
      break;
    }
    if (connections?.size === 0) this.#bySession.delete(sessionId);
    return closed;
  }
}
