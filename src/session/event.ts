import type { CloseReason } from '../transport/errors.ts';
import type { ManagerState, SessionState } from './lifecycle.ts';
import type { Session } from './session.ts';
import type { SessionCounters } from './sessionowner.ts';

/** Why a session drains or has ended: its last connection's reason, or its owner's. */
export type SessionReason = CloseReason;

/** How the audit log names the end of a session. */
export type SessionOutcome = 'closed' | 'expired' | 'evicted' | 'revoked';

/**
 * What a manager tells. Every change of state is a `stateChanged`; `connected`, `disconnected` and `error` say the
 * same again of those three states, so that nobody needs to know the whole table.
 */
export type SessionEvent =
  | { readonly type: 'created'; readonly session: Session }
  | {
      readonly type: 'stateChanged';
      readonly session: Session;
      readonly from: SessionState;
      readonly to: SessionState;
      /** On the way down only. */
      readonly reason?: SessionReason;
    }
  | { readonly type: 'connected'; readonly session: Session }
  | {
      /** It has been used and comes to its end: whoever opened it opens its successor now, and moves new calls there. */
      readonly type: 'successorDue';
      readonly session: Session;
      readonly reason: SessionReason;
    }
  | {
      readonly type: 'draining';
      readonly session: Session;
      readonly reason: SessionReason;
      /** When it will be cut at the latest: milliseconds since the epoch. */
      readonly endsAt: number;
    }
  | {
      /** It has no connection any more: for good, or until it is resumed. */
      readonly type: 'disconnected';
      readonly session: Session;
      readonly reason: SessionReason;
    }
  | {
      /** Its last connection broke, or none could be made; it can still be resumed. */
      readonly type: 'error';
      readonly session: Session;
      readonly reason: SessionReason;
    }
  | {
      readonly type: 'disposed';
      readonly session: Session;
      readonly reason: SessionReason;
      readonly outcome: SessionOutcome;
      /** The session's own, as they are at its end. */
      readonly counters: Readonly<SessionCounters>;
    }
  | { readonly type: 'managerStateChanged'; readonly from: ManagerState; readonly to: ManagerState };

export function outcomeOf(reason: SessionReason): SessionOutcome {
  switch (reason) {
    case 'idle':
    case 'expired':
    case 'identity-expired':
      return 'expired';
    case 'evicted':
    case 'revoked':
      return reason;
    default:
      return 'closed';
  }
}

/**
 * How a session that can be resumed rests after its last connection ended so. Whatever is not here ends it: the peer
 * broke the protocol, or somebody wanted the end.
 */
export const REST: Readonly<Partial<Record<SessionReason, 'disconnected' | 'error'>>> = {
  'peer-closed': 'disconnected',
  'local-closed': 'disconnected',
  'close-timeout': 'error',
  truncated: 'error',
  'heartbeat-timeout': 'error',
  'bad-record': 'error',
  'record-timeout': 'error',
  'socket-error': 'error',
};
