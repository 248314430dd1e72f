/** The library: what a program that embeds a sidecar imports. */

export type { MonitoringAdapter } from './audit/adapter.ts';
export type { AuditEvent, AuditEventInput, AuditEventOf, AuditEventType } from './audit/event.ts';
export type { Clock, TimerHandle } from './clock/clock.ts';
export type { SidecarConfig } from './config/config.ts';
export { ConfigError } from './config/errors.ts';
export { loadConfig } from './config/load.ts';
export { CryptoError, type CryptoErrorCode } from './crypto/errors.ts';
export { Secret } from './crypto/secret.ts';
export { IdentityError } from './identity/errors.ts';
export type {
  AllowReceipt,
  Revocation,
  RevocationReceipt,
  RevokeOptions,
  RevokeSelection,
  SessionReceipt,
} from './relay/revocation.ts';
export type { BlockedPeer } from './session/blockfile.ts';
export type { SessionDetails } from './session/details.ts';
export {
  BlockError,
  type BlockErrorCode,
  DuplicateSessionError,
  ManagerShutDownError,
  SessionDisposedError,
  SessionError,
  type SessionErrorCode,
} from './session/errors.ts';
export type { SessionEvent, SessionOutcome, SessionReason } from './session/event.ts';
export type { SessionFilter } from './session/filter.ts';
export type { ManagerState, SessionState } from './session/lifecycle.ts';
export type { SessionEventOf, SessionEventType } from './session/listeners.ts';
export { SessionManager, type SessionStats } from './session/manager.ts';
export type { SessionManagerOptions } from './session/options.ts';
export type { Session } from './session/session.ts';
export type { SessionCounters, SessionInit } from './session/sessionowner.ts';
export { type BoundAddresses, Sidecar, type SidecarOptions } from './sidecar/sidecar.ts';
