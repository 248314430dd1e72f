/** The library: what a program that embeds a sidecar imports. */

export type { MonitoringAdapter } from './audit/adapter.ts';
export type { AuditEvent, AuditEventInput, AuditEventOf, AuditEventType } from './audit/event.ts';
export type { SidecarConfig } from './config/config.ts';
export { ConfigError } from './config/errors.ts';
export { loadConfig } from './config/load.ts';
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
export { BlockError, type BlockErrorCode } from './session/errors.ts';
export type { SessionFilter } from './session/filter.ts';
export { type BoundAddresses, Sidecar, type SidecarOptions } from './sidecar/sidecar.ts';
