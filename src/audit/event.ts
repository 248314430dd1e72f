/**
 * The closed union of audit events. Reading order of this folder: event.ts (what can be said), catalogue.ts (what
 * each field means), line.ts (one JSON line per event), adapter.ts (who takes events), delivery.ts (one adapter's
 * bounded queue), recorder.ts (the way in), adapters/ (stdout, file, a user's module).
 *
 * A new event is added here and in catalogue.ts (the compiler insists) and in docs/audit-events.md (a test does).
 * Fields are flat: text, numbers, booleans, or a list of text. Times are ISO 8601 text, durations have `Ms` in
 * their name, sizes are bytes. No field ever holds a key, a token or message content.
 */

/** Who opened the connection under a session: the peer (inbound) or this sidecar (outbound). */
export type SessionDirection = 'inbound' | 'outbound';
/** Which side of the sidecar took the call: its own app's (egress) or a peer's (ingress). */
export type CallDirection = 'egress' | 'ingress';
/** The app that calls (`app`), another sidecar (`peer`), or the app that is called (`local-app`). */
export type ConnectionSide = 'app' | 'peer' | 'local-app';

type Optional<T> = T | undefined;

interface SessionEnd {
  readonly sessionId: string;
  readonly peer: string;
  readonly direction: SessionDirection;
  readonly reason: string;
  readonly calls: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** The fields of each event besides those that every event has ({@link AuditStamp}). */
export interface AuditEventFields {
  'sidecar.started': { readonly version: string; readonly runtime: string; readonly pid: number };
  'sidecar.ready': { readonly listeners: readonly string[] };
  'sidecar.draining': { readonly reason: string; readonly calls: number; readonly deadlineMs: number };
  'sidecar.stopped': { readonly reason: string; readonly callsCut: number };
  'config.loaded': { readonly file: string; readonly sha256: string; readonly policy: 'enforce' | 'open' };
  'identity.loaded': {
    readonly spiffeId: string;
    readonly notAfter: string;
    readonly leafSha256: string;
    readonly bundleGeneration: number;
  };
  'identity.rotated': {
    readonly spiffeId: string;
    readonly notAfter: string;
    readonly leafSha256: string;
    readonly bundleGeneration: number;
    readonly changed: 'svid' | 'bundle' | 'both';
    readonly cause: 'files' | 'command' | 'renewal';
    readonly sessions: number;
  };
  'identity.reload-failed': {
    readonly reason: string;
    readonly detail: string;
    readonly cause: 'files' | 'command' | 'renewal';
    readonly notAfter: string;
  };
  'identity.renewed': { readonly svid: string; readonly notAfter: string };
  'identity.renewal-failed': {
    readonly reason: string;
    readonly detail: string;
    readonly attempts: number;
    readonly retryMs: number;
    readonly notAfter: string;
  };
  'identity.expired': { readonly spiffeId: string; readonly notAfter: string };

  'app.exposed': { readonly service: string; readonly address: string };
  'app.unexposed': { readonly service: string; readonly address: string };

  'session.created': {
    readonly sessionId: string;
    readonly peer: string;
    readonly direction: SessionDirection;
    readonly mode: number;
    readonly expiresAt: string;
  };

  'controller.started': {
    readonly version: string;
    readonly runtime: string;
    readonly pid: number;
    readonly namespace: string;
  };
  'controller.ready': {
    readonly listeners: readonly string[];
  };
  'controller.draining': {
    readonly reason: string;
    readonly deadlineMs: number;
  };
  'controller.stopped': {
    readonly reason: string;
  };
  'controller.leading': {
    readonly lease: string;
    readonly state: 'leading' | 'following';
  };
  'ca.taken': {
    readonly secret: string;
    readonly cause: 'made' | 'found' | 'replaced';
    readonly caSha256: string;
    readonly notAfter: string;
    readonly certificates: number;
    readonly overlaps: boolean;
  };
  'ca.refused': {
    readonly secret: string;
    readonly reason: string;
    readonly detail: string;
  };
  'svid.issued': {
    readonly spiffeId: string;
    readonly pod?: Optional<string>;
    readonly podUid?: Optional<string>;
    readonly remote?: Optional<string>;
    readonly keyType: 'p256' | 'ed25519';
    readonly leafSha256: string;
    readonly caSha256: string;
    readonly notAfter: string;
  };
  'svid.refused': {
    readonly reason: string;
    readonly detail: string;
    readonly remote: string;
    readonly spiffeId?: Optional<string>;
    readonly pod?: Optional<string>;
    readonly count: number;
  };
  'session.resumed': {
    readonly sessionId: string;
    readonly peer: string;
    readonly direction: SessionDirection;
    readonly connections: number;
    readonly expiresAt: string;
  };
  'session.closed': SessionEnd;
  'session.expired': SessionEnd;
  'session.evicted': SessionEnd;
  'session.revoked': SessionEnd & {
    readonly mayReturn: boolean;
    readonly callsCut: number;
    readonly recordsAccepted: number;
    readonly lastRecords: readonly string[];
    readonly cutMicros: number;
  };
  'session.rekeyed': {
    readonly sessionId: string;
    readonly direction: 'send' | 'receive';
    readonly cause: string;
  };

  'peer.blocked': {
    readonly peer: string;
    readonly since: string;
    readonly reason: string;
    readonly sessions: number;
    readonly holdsUntil: 'allowed' | 'restart';
    readonly detail?: Optional<string>;
  };
  'peer.allowed': { readonly peer: string; readonly blockedSince: string };

  'connection.opened': {
    readonly side: ConnectionSide;
    readonly remote: string;
    readonly sessionId?: Optional<string>;
    readonly direction?: Optional<SessionDirection>;
  };
  'connection.draining': {
    readonly side: ConnectionSide;
    readonly remote: string;
    readonly sessionId: string;
    readonly reason: string;
  };
  'connection.closed': {
    readonly side: ConnectionSide;
    readonly remote: string;
    readonly sessionId?: Optional<string>;
    readonly state?: Optional<string>;
    readonly reason?: Optional<string>;
    readonly detail?: Optional<string>;
  };
  'connection.refused': {
    readonly listener: string;
    readonly remote: string;
    readonly reason: string;
    readonly detail: string;
  };
  'handshake.failed': {
    readonly direction: SessionDirection;
    readonly remote: string;
    readonly state?: Optional<string>;
    readonly reason: string;
    readonly detail: string;
    readonly peer?: Optional<string>;
  };
  'endpoint.down': {
    readonly service: string;
    readonly remote: string;
    readonly attempts: number;
    readonly detail: string;
  };
  'endpoint.up': {
    readonly service: string;
    readonly remote: string;
    readonly attempts: number;
  };

  'discovery.lost': { readonly detail: string; readonly services: number };
  'discovery.restored': { readonly downMs: number; readonly services: number };

  'discovery.refused': {
    readonly reason: string;
    readonly detail: string;
    readonly remote: string;
    readonly pod?: Optional<string>;
    readonly count: number;
  };
  'exposure.refused': {
    readonly reason: string;
    readonly detail: string;
    readonly remote: string;
    readonly pod?: Optional<string>;
    readonly count: number;
  };

  'call.completed': {
    readonly direction: CallDirection;
    readonly sessionId?: Optional<string>;
    readonly peer?: Optional<string>;
    readonly service: string;
    readonly method: string;
    readonly grpcStatus?: Optional<number>;
    readonly httpStatus?: Optional<number>;
    readonly durationMs: number;
    readonly requestBytes: number;
    readonly responseBytes: number;
    readonly error?: Optional<string>;
  };
  'call.denied': {
    readonly direction: CallDirection;
    readonly sessionId: string;
    readonly peer: string;
    readonly service: string;
    readonly method: string;
    readonly rule?: Optional<number>;
    readonly auditOnly?: Optional<boolean>;
  };
  'call.limited': {
    readonly direction: CallDirection;
    readonly sessionId: string;
    readonly peer: string;
    readonly service: string;
    readonly method: string;
    readonly scope: string;
    readonly limit: number;
    readonly windowMs: number;
    readonly retryAfterMs: number;
  };

  'flood.detected': {
    readonly side: ConnectionSide;
    readonly remote: string;
    readonly sessionId?: Optional<string>;
    readonly peer?: Optional<string>;
    readonly kind: string;
    readonly detail: string;
  };
  'admin.command': {
    readonly method: string;
    readonly caller: string;
    readonly request: string;
    readonly outcome: string;
    readonly detail?: Optional<string>;
  };
  'admin.refused': {
    readonly method: string;
    readonly caller: string;
    readonly reason: string;
    readonly count: number;
  };

  'limit.store': {
    readonly store: string;
    readonly state: 'lost' | 'restored';
    readonly detail?: Optional<string>;
  };

  'pod.injected': {
    readonly namespace: string;
    readonly pod: string;
    readonly user: string;
    readonly remote: string;
    readonly dryRun: boolean;
    readonly version: string;
  };
  'pod.refused': {
    readonly namespace: string;
    readonly pod: string;
    readonly user: string;
    readonly remote: string;
    readonly dryRun: boolean;
    readonly detail: string;
  };
  'webhook.certificate': {
    readonly source: 'self' | 'files' | 'external';
    readonly cause: 'found' | 'made' | 'rotated';
    readonly notAfter: string;
  };
  'webhook.published': { readonly configuration: string; readonly webhooks: number };

  'tls.detected': { readonly listener: string; readonly remote: string; readonly cure: string };

  'audit.dropped': {
    readonly adapter: string;
    readonly count: number;
    readonly since: string;
    readonly until: string;
  };
  'audit.adapter-failed': { readonly adapter: string; readonly error: string; readonly retryMs: number };
  'audit.adapter-recovered': { readonly adapter: string; readonly downMs: number };
}

/** The types of events; docs/audit-events.md says what each means. */
export type AuditEventType = keyof AuditEventFields;

/** What the recorder adds to every event. */
export interface AuditStamp {
  /** When it was recorded: ISO 8601, UTC, milliseconds. */
  readonly time: string;
  /** Counts from 1 in each run of a sidecar, over all events: a gap at one adapter is a loss there. */
  readonly seq: number;
  /** The SPIFFE ID of the sidecar that recorded the event. */
  readonly sidecar: string;
  /** Names the run: another value after every restart. */
  readonly instance: string;
}

/** What `Recorder.record` takes. The object belongs to the recorder from then on. */
export type AuditEventInput = {
  [T in AuditEventType]: { readonly type: T } & AuditEventFields[T];
}[AuditEventType];

/** One event of type T as adapters get it; frozen. */
export type AuditEventOf<T extends AuditEventType> = AuditStamp & { readonly type: T } & AuditEventFields[T];

/** An event as adapters get it: discriminated by `type`, frozen, every text bounded. */
export type AuditEvent = { [T in AuditEventType]: AuditEventOf<T> }[AuditEventType];
