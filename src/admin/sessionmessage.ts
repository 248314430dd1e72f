import type { Session } from '../session/session.ts';
import type { ConnectionLife } from '../transport/connectionlife.ts';
import { type ConnectionMessage, type DirectionName, type SessionMessage, timestamp } from './messages.ts';

const MAX_METADATA = 32; // entries shown
const MAX_KEY = 128; // characters
const MAX_VALUE = 256;

/** What is shown of a PeerConnection. */
export interface ShownConnection {
  readonly remote: string;
  readonly channel: { readonly life: Pick<ConnectionLife, 'direction' | 'state' | 'since'> };
}

/** A session as the admin API shows it: bounded whatever its metadata holds, and never its key. */
export function sessionMessage(
  session: Session,
  frameLogging: boolean,
  connections: readonly ShownConnection[],
): SessionMessage {
  return {
    id: session.id,
    peer: session.peer,
    service: session.serviceId ?? '',
    direction: directionName(session.direction),
    state: session.state,
    flags: {
      postQuantum: session.postQuantum,
      resumed: session.resumptions > 0,
      frameLogging,
      draining: session.isDraining,
    },
    createdAt: timestamp(session.createdAt),
    lastActivity: timestamp(session.lastActivity),
    expiresAt: timestamp(session.expiresAt),
    connections: session.connections,
    openCalls: session.openCalls,
    counters: { ...session.counters, resumptions: session.resumptions },
    metadata: metadataMessage(session.metadata),
    resumedAt: session.resumedAt === undefined ? null : timestamp(session.resumedAt),
    openConnections: connections.map(connectionMessage),
  };
}

function connectionMessage({ remote, channel: { life } }: ShownConnection): ConnectionMessage {
  const { direction, state, since } = life;
  return { remote, direction: directionName(direction), state, since: timestamp(since) };
}

function directionName(direction: Session['direction']): DirectionName {
  return direction === 'inbound' ? 'INBOUND' : 'OUTBOUND';
}

function metadataMessage(metadata: Readonly<Record<string, unknown>>): Record<string, string> {
  const shown = Object.entries(metadata).slice(0, MAX_METADATA);
  return Object.fromEntries(shown.map(([key, value]) => [bounded(key, MAX_KEY), metadataText(value)]));
}

/** A value of a session's metadata as text: itself, or JSON. */
export function metadataText(value: unknown): string {
  return bounded(typeof value === 'string' ? value : json(value), MAX_VALUE);
}

function json(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(typeof value);
  } catch {
    return '[not JSON]'; // it holds itself, or a bigint: that is the embedding program's affair
  }
}

function bounded(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
