import type { Session } from '../session/session.ts';
import { RelayError } from './errors.ts';

/** What the calls of a session get that was revoked here; undefined if it was not. */
export function revokedError(session: Session | undefined): RelayError | undefined {
  if (session?.revocation === undefined) return undefined;
  const { id, peer, revocation } = session;
  if (!revocation.mayReturn) return blockedError(peer);
  return new RelayError(
    'session-revoked',
    `an operator ended session ${id} with ${peer} while the call was under way; try again if the call may be repeated`,
  );
}

/** What calls to a blocked peer get. */
export function blockedError(peer: string): RelayError {
  return new RelayError(
    'peer-blocked',
    `${peer} is blocked: an operator has to allow it again at the sidecar that says so`,
  );
}
