/**
 * The library: everything that the parts have, and what a program that embeds a sidecar imports.
 *
 * @module hauberk
 */

export type { CheckStatus, HealthState } from './admin/healthcheck.ts';
export {
  type HealthChange,
  type HealthCheckOptions,
  HealthError,
  type HealthErrorCode,
  HealthMonitor,
  type HealthMonitorOptions,
  type HealthStatus,
} from './admin/healthmonitor.ts';
export type { MonitoringAdapter } from './audit/adapter.ts';
export { openFileAdapter, streamAdapter } from './audit/adapters/programs.ts';
export { AuditError, type AuditErrorCode } from './audit/errors.ts';
export type {
  AuditEvent,
  AuditEventFields,
  AuditEventInput,
  AuditEventOf,
  AuditEventType,
  AuditStamp,
} from './audit/event.ts';
export { eventLine } from './audit/line.ts';
export type { Clock, TimerHandle } from './clock/clock.ts';
export type { SidecarConfig } from './config/config.ts';
export { ConfigError } from './config/errors.ts';
export { loadConfig } from './config/load.ts';
export { CryptoError, type CryptoErrorCode } from './crypto/errors.ts';
export { Secret } from './crypto/secret.ts';
export { IdentityError } from './identity/errors.ts';
export type { ReloadCause } from './identity/keeper.ts';
export { LimitError, type LimitErrorCode } from './limit/errors.ts';
export { RateLimiter, type RateLimiterOptions, type RateLimitResult } from './limit/ratelimiter.ts';
export type { StoreChange } from './limit/ratelimits.ts';
export type { CallContext, CallSession } from './mesh/callcontext.ts';
export { CallError, type CallErrorOptions, type FailedStatus } from './mesh/callerror.ts';
export type { Requests } from './mesh/clientcall.ts';
export { MeshError, type MeshErrorCode } from './mesh/errors.ts';
export type {
  BidiStreamHandler,
  ClientStreamHandler,
  Replies,
  ServerStreamHandler,
  UnaryHandler,
} from './mesh/handlers.ts';
export type { CallOptions, MeshClient, MetadataRecord } from './mesh/meshclient.ts';
export type {
  AllowOptions,
  Duration,
  KeyFiles,
  RateLimit,
  RotationOptions,
  SecureMeshOptions,
  ServiceOptions,
} from './mesh/options.ts';
export { type GrpcClientClass, type MeshState, SecureMesh } from './mesh/securemesh.ts';
export { SecureMeshServer } from './mesh/securemeshserver.ts';
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
export type { IdentityEvent, IdentityStatus } from './sidecar/identitywatch.ts';
export type { SidecarOptions } from './sidecar/options.ts';
export { type BoundAddresses, Sidecar } from './sidecar/sidecar.ts';
export type { CallStats, SidecarStats } from './sidecar/stats.ts';
export type { LogFields, LogLevel, LogSink } from './telemetry/log.ts';
