import type { CloseReason } from '../transport/errors.ts';
import type { SessionState } from './lifecycle.ts';
import type { Session, SessionCounters } from './session.ts';

/** Why a session drains or has ended: its last connection's reason, or its owner's. */
export type SessionReason = CloseReason;

/** How the audit log names the end of a session. */
export type SessionOutcome = 'closed' | 'expired' | 'evicted' | 'revoked';

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
  | {
      readonly type: 'draining';
      readonly session: Session;
      readonly reason: SessionReason;
      /** When it will be cut at the latest: milliseconds since the epoch. */
      readonly endsAt: number;
    }
  | {
      readonly type: 'disposed';
      readonly session: Session;
      readonly reason: SessionReason;
      readonly outcome: SessionOutcome;
      /** The session's own, as they are at its end. */
      readonly counters: Readonly<SessionCounters>;
    };

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
