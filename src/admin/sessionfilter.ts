import { ValueError } from '../config/errors.ts';
import { parseSpiffeGlob } from '../config/spiffe.ts';
import { SessionError } from '../session/errors.ts';
import { fitsAll, matching, type SessionFilter } from '../session/filter.ts';
import { SESSION_TRANSITIONS } from '../session/lifecycle.ts';
import type { Session } from '../session/session.ts';
import { AdminError } from './errors.ts';
import type { SessionFilterMessage } from './messages.ts';

const MAX_GLOB = 512; // characters: matching costs glob x SPIFFE ID
const MAX_SERVICE = 253;
const MAX_METADATA = 16; // entries
const MAX_KEY = 128; // characters
const MAX_VALUE = 256;

export type SessionPredicate = (session: Session) => boolean;

/** What a filter means, as of `now` (milliseconds since the epoch). Throws AdminError `INVALID_ARGUMENT`. */
export function sessionPredicate(message: SessionFilterMessage | null, now: number): SessionPredicate {
  if (message === null) return () => true;
  const { peer, service, direction, states, metadata, olderThanMs, idleForMs } = message;
  if (service.length > MAX_SERVICE) throw tooLong('filter.service', MAX_SERVICE);
  checkMetadata(metadata);
  const filter: SessionFilter = {
    peer: peer === '' ? undefined : globOf(peer),
    service: service === '' ? undefined : service.toLowerCase(),
    direction: directionOf(direction),
    metadata,
    olderThanMs,
    idleForMs,
  };
  const matches = matchingOrRefused(filter, now);
  if (states.length === 0) return matches;
  const wanted = statesOf(states);
  return (session) => wanted.has(session.state) && matches(session);
}

function checkMetadata(metadata: SessionFilterMessage['metadata']): void {
  const entries = Object.entries(metadata);
  if (entries.length > MAX_METADATA) {
    throw new AdminError('INVALID_ARGUMENT', `filter.metadata has more than ${MAX_METADATA} entries`);
  }
  for (const [key, value] of entries) {
    if (key.length > MAX_KEY) throw tooLong('a key of filter.metadata', MAX_KEY);
    if (value.length > MAX_VALUE) throw tooLong('a value of filter.metadata', MAX_VALUE);
  }
}

/** Whether a filter names nothing, and so fits every session. */
export function namesNothing(message: SessionFilterMessage | null): boolean {
  if (message === null) return true;
  const { peer, service, direction, states, ...rest } = message;
  const named = peer !== '' || service !== '' || direction !== 'DIRECTION_UNSPECIFIED' || states.length > 0;
  const { metadata, olderThanMs, idleForMs } = rest;
  return !named && fitsAll({ metadata, olderThanMs, idleForMs });
}

function matchingOrRefused(filter: SessionFilter, now: number): SessionPredicate {
  try {
    return matching(filter, now);
  } catch (error) {
    if (error instanceof SessionError) throw new AdminError('INVALID_ARGUMENT', `filter: ${error.message}`);
    throw error;
  }
}

function globOf(peer: string): string {
  if (peer.length > MAX_GLOB) throw tooLong('filter.peer', MAX_GLOB);
  try {
    return parseSpiffeGlob(peer);
  } catch (error) {
    if (error instanceof ValueError) throw new AdminError('INVALID_ARGUMENT', `filter.peer ${error.message}`);
    throw error;
  }
}

/** An enumeration may hold a number that the definition does not name. */
function directionOf(direction: SessionFilterMessage['direction']): 'inbound' | 'outbound' | undefined {
  switch (direction) {
    case 'DIRECTION_UNSPECIFIED':
      return undefined;
    case 'INBOUND':
      return 'inbound';
    case 'OUTBOUND':
      return 'outbound';
    default:
      throw new AdminError('INVALID_ARGUMENT', 'filter.direction is INBOUND or OUTBOUND');
  }
}

function statesOf(states: readonly string[]): ReadonlySet<string> {
  const known = Object.keys(SESSION_TRANSITIONS);
  if (states.every((state) => known.includes(state))) return new Set(states);
  throw new AdminError('INVALID_ARGUMENT', `filter.states: a state is one of ${known.join(', ')}`);
}

function tooLong(field: string, most: number): AdminError {
  return new AdminError('INVALID_ARGUMENT', `${field} is longer than ${most} characters`);
}
