/**
 * Secure calls between programs: servers, clients, and the mesh under them.
 *
 * @module hauberk/mesh
 */

export { IdentityError } from '../identity/errors.ts';
export type { ReloadCause } from '../identity/keeper.ts';
export type { CallContext, CallSession } from '../mesh/callcontext.ts';
export { CallError, type CallErrorOptions, type FailedStatus } from '../mesh/callerror.ts';
export type { Requests } from '../mesh/clientcall.ts';
export { MeshError, type MeshErrorCode } from '../mesh/errors.ts';
export type {
  BidiStreamHandler,
  ClientStreamHandler,
  Replies,
  ServerStreamHandler,
  UnaryHandler,
} from '../mesh/handlers.ts';
export type { CallOptions, MeshClient, MetadataRecord } from '../mesh/meshclient.ts';
export type {
  AllowOptions,
  Duration,
  KeyFiles,
  RateLimit,
  RotationOptions,
  SecureMeshOptions,
  ServiceOptions,
} from '../mesh/options.ts';
export { type GrpcClientClass, type MeshState, SecureMesh } from '../mesh/securemesh.ts';
export { SecureMeshServer } from '../mesh/securemeshserver.ts';
export type { IdentityEvent, IdentityStatus } from '../sidecar/identitywatch.ts';
export type { CallStats, SidecarStats } from '../sidecar/stats.ts';
export type { LogFields, LogLevel, LogSink } from '../telemetry/log.ts';
