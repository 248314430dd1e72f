/** The messages of proto/hauberk/admin/v1/admin.proto as the loader makes them. A test holds the two together. */

/** google.protobuf.Timestamp. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanos: number;
}

/** `ms` since the epoch. */
export function timestamp(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1_000_000) };
}

export interface StatusMessage {
  readonly version: string;
  readonly pid: number;
  readonly spiffeId: string;
  readonly instance: string;
  readonly startedAt: Timestamp;
  readonly identityExpiresAt: Timestamp;
  readonly ready: boolean;
  readonly pending: readonly string[];
  readonly draining: boolean;
  readonly listeners: ReadonlyArray<{ readonly name: string; readonly address: string }>;
  readonly sessions: {
    readonly active: number;
    readonly inbound: number;
    readonly outbound: number;
    readonly max: number;
    readonly peers: number;
    readonly created: number;
    readonly refused: number;
    readonly closed: Readonly<Record<string, number>>;
  };
  readonly callsOpen: { readonly egress: number; readonly ingress: number };
  readonly auditAdapters: ReadonlyArray<{
    readonly name: string;
    readonly state: string;
    readonly queued: number;
    readonly delivered: number;
    readonly dropped: number;
    readonly failures: number;
    readonly lastError: string;
  }>;
  readonly memoryBytes: number;
  readonly eventLoopLagMs: number;
  readonly peersBlocked: number;
  readonly identityRotations: number;
  readonly identityRotatedAt: Timestamp | null;
  readonly identityRefusal: string;
  readonly identityRenewsAt: Timestamp | null;
  readonly identityRenewalFailure: string;
}

export type DirectionName = 'DIRECTION_UNSPECIFIED' | 'INBOUND' | 'OUTBOUND';

export interface SessionMessage {
  readonly id: string;
  readonly peer: string;
  readonly service: string;
  readonly direction: DirectionName;
  readonly state: string;
  readonly flags: {
    readonly postQuantum: boolean;
    readonly resumed: boolean;
    readonly frameLogging: boolean;
    readonly draining: boolean;
  };
  readonly createdAt: Timestamp;
  readonly lastActivity: Timestamp;
  readonly expiresAt: Timestamp;
  readonly connections: number;
  readonly openCalls: number;
  readonly counters: {
    readonly calls: number;
    readonly bytesIn: number;
    readonly bytesOut: number;
    readonly recordsIn: number;
    readonly recordsOut: number;
    readonly errors: number;
    readonly limited: number;
    readonly denied: number;
    readonly resumptions: number;
  };
  readonly metadata: Readonly<Record<string, string>>;
  readonly resumedAt: Timestamp | null;
  readonly openConnections: readonly ConnectionMessage[];
}

export interface ConnectionMessage {
  readonly remote: string;
  readonly direction: DirectionName;
  readonly state: string;
  readonly since: Timestamp;
}

export interface SessionFilterMessage {
  readonly peer: string;
  readonly service: string;
  readonly direction: DirectionName;
  readonly states: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Absent where the caller gave none. */
  readonly olderThanMs?: number;
  readonly idleForMs?: number;
}

export type OrderName = 'LAST_USED' | 'CREATED' | 'EXPIRES' | 'CALLS' | 'OPEN_CALLS' | 'BYTES';

export interface ListSessionsRequest {
  readonly filter: SessionFilterMessage | null;
  readonly order: OrderName;
  readonly descending: boolean;
  readonly pageSize: number;
  readonly pageToken: string;
}

export interface ListSessionsResponse {
  readonly sessions: readonly SessionMessage[];
  readonly nextPageToken: string;
  readonly totalSize: number;
}

export interface GetSessionRequest {
  readonly id: string;
}

export interface RevokeSessionsRequest {
  readonly ids: readonly string[];
  readonly filter: SessionFilterMessage | null;
  readonly all: boolean;
  readonly blockPeers: boolean;
  readonly reason: string;
}

export interface BlockedPeerMessage {
  readonly peer: string;
  readonly since: string;
  readonly reason: string;
}

export interface SessionReceiptMessage {
  readonly sessionId: string;
  readonly peer: string;
  readonly service: string;
  readonly direction: DirectionName;
  readonly mayReturn: boolean;
  readonly recordsAccepted: number;
  readonly connections: ReadonlyArray<{ readonly remote: string; readonly lastRecord: number }>;
  readonly callsCut: number;
  readonly cutMicros: number;
}

export interface RevokeResponse {
  readonly sessions: readonly SessionReceiptMessage[];
  readonly sessionsCut: number;
  readonly unknownIds: readonly string[];
  readonly cutMicros: number;
  readonly blocked: readonly BlockedPeerMessage[];
  readonly hold: 'HOLD_UNSPECIFIED' | 'UNTIL_ALLOWED' | 'UNTIL_RESTART';
  readonly holdDetail: string;
}

export interface BlockPeerRequest {
  readonly peer: string;
  readonly reason: string;
}

export interface AllowPeerRequest {
  readonly peer: string;
}

export interface AllowPeerResponse {
  readonly was: BlockedPeerMessage | null;
}

export interface ListBlockedPeersResponse {
  readonly blocked: readonly BlockedPeerMessage[];
}

export interface WatchEventsRequest {
  readonly types: readonly string[];
  readonly sessionId: string;
  readonly peer: string;
}

export interface EventMessage {
  readonly time: Timestamp;
  readonly seq: number;
  readonly type: string;
  readonly json: string;
}

export type WatchEventsResponse =
  | { readonly event: EventMessage }
  | { readonly dropped: number }
  | { readonly watching: Record<string, never> };

export interface SetFrameLoggingRequest {
  readonly sessionId: string;
  readonly enabled: boolean;
}

export interface SetFrameLoggingResponse {
  readonly wasEnabled: boolean;
}

export interface DrainRequest {
  /** Absent where the caller gave none. */
  readonly deadlineMs?: number;
}

export interface DrainResponse {
  readonly wasDraining: boolean;
  readonly callsOpen: number;
}
