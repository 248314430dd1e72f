/** What a session is made of, and what passes between it and its manager. */
import type { Secret } from '../crypto/secret.ts';
import type { SessionReason } from './event.ts';
import type { Terms } from './expiry.ts';
import type { SessionState } from './lifecycle.ts';
import type { Session } from './session.ts';

/** What a session has used. The relay adds to these numbers directly. */
export interface SessionCounters {
  calls: number;
  /** DATA bytes of calls that have ended, from and to the peer. */
  bytesIn: number;
  bytesOut: number;
  /** Records of every type that were opened and sealed, on all connections. */
  recordsIn: number;
  recordsOut: number;
  errors: number;
  limited: number;
  denied: number;
}

/** What `SessionManager.create` makes a session of. */
export interface SessionInit {
  /** A UUID, the same at both ends (design section 5). */
  readonly id: string;
  /** 32 bytes. Ownership passes with the call, also when it throws: it is wiped then. */
  readonly sessionKey: Secret;
  /** SPIFFE ID of the other sidecar. */
  readonly peer: string;
  /** Where the other sidecar is, without a port; `maxPerPeer` is counted for each address of a peer. Default: one for all. */
  readonly address?: string | undefined;
  /** The upstream service that an outbound session was opened for. */
  readonly serviceId?: string | undefined;
  /** Who opened it: the peer (inbound) or this sidecar (outbound). */
  readonly direction: 'inbound' | 'outbound';
  /** Its handshake was post-quantum. */
  readonly postQuantum: boolean;
  /** The earliest notAfter in either end's chain, milliseconds since the epoch. */
  readonly notAfter: number;
  /** Yours. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
}

/** What a session asks of its manager, and tells it. */
export interface SessionOwner {
  readonly terms: Terms;
  readonly maxConnections: number;
  /** Monotonic milliseconds as of the last sweep: reading it costs nothing. */
  readonly coarseNow: number;
  /** It is not behind by more. */
  readonly coarseLagMs: number;
  /** All sessions come to their end, also those that are yet to be drained. */
  readonly shutsDown: boolean;
  monotonic(): number;
  wallNow(): number;
  /** The session was used while it had no call open. Returns a number larger than any before. */
  used(session: Session): number;
  changed(session: Session, from: SessionState, to: SessionState, reason: SessionReason | undefined): void;
  aged(session: Session, reason: SessionReason): void;
  draining(session: Session, reason: SessionReason, endsAt: number): void;
  /** From now on nobody may find the session. The owner wipes its key: now, or at the end of a shutdown. */
  ending(session: Session, key: Secret): void;
  ended(session: Session, reason: SessionReason): void;
  /** A listener threw. */
  listenerFailed(error: unknown): void;
}
