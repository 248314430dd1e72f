/**
 * Sessions with keys that are wiped at their end.
 *
 * @module hauberk/sessions
 */

export type { Clock, TimerHandle } from '../clock/clock.ts';
export { CryptoError, type CryptoErrorCode } from '../crypto/errors.ts';
export { Secret } from '../crypto/secret.ts';
export type { SessionDetails } from '../session/details.ts';
export {
  DuplicateSessionError,
  ManagerShutDownError,
  SessionDisposedError,
  SessionError,
  type SessionErrorCode,
} from '../session/errors.ts';
export type { SessionEvent, SessionOutcome, SessionReason } from '../session/event.ts';
export type { ManagerState, SessionState } from '../session/lifecycle.ts';
export type { SessionEventOf, SessionEventType } from '../session/listeners.ts';
export { SessionManager, type SessionStats } from '../session/manager.ts';
export type { SessionManagerOptions } from '../session/options.ts';
export type { Session } from '../session/session.ts';
export type { SessionCounters, SessionInit } from '../session/sessionowner.ts';
