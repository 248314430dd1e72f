import type { Metadata } from '@grpc/grpc-js';
import type { LimitStatus } from '../limit/ratelimits.ts';
import type { SessionCounters } from '../session/sessionowner.ts';

/**
 * The session that a call came in, as it is whenever it is looked at. A handler begins only while the session lives; when
 * that ends, the call's `signal` aborts, and this goes on telling of it, with `ended` true.
 */
export interface CallSession {
  /** The same at both ends, and in their audits. */
  readonly id: string;
  /** The SPIFFE ID that the caller has proved. */
  readonly peer: string;
  /** When its handshake was. */
  readonly createdAt: Date;
  /** When it ends if nothing more happens in it; once it has ended, when that was seen first. */
  readonly expiresAt: Date;
  /** It has ended: nothing that the handler answers reaches the caller. */
  readonly ended: boolean;
  /** Free for the program: what one call writes here the session's later calls find. Never sent. */
  readonly metadata: Record<string, unknown>;
  /** What it has used, this call included. */
  readonly counters: Readonly<SessionCounters>;
  /** The limits on its calls and on those of its peer, and what they leave; empty once it has ended. */
  readonly limits: readonly LimitStatus[];
}

/** What a handler is told of a call besides the request, and may do with it besides answering. */
export interface CallContext {
  readonly session: CallSession;
  /** The SPIFFE ID of the caller; the same as `session.peer`. */
  readonly peer: string;
  /** The service that was called: the `serviceId` of the mesh, or that of the definition. */
  readonly service: string;
  /** The method's name. */
  readonly method: string;
  /** What the caller sent with the call. No caller can set `hauberk-peer` and `hauberk-session` in it. */
  readonly metadata: Metadata;
  /** When the caller gives up; undefined if never. */
  readonly deadline: Date | undefined;
  /**
   * Aborts when nobody waits for the answer any more: the caller cancelled, its deadline is over, or the session has
   * ended. The reason is a {@link CallError}: `CANCELLED`, `DEADLINE_EXCEEDED` or `UNAVAILABLE`. Never after the answer.
   */
  readonly signal: AbortSignal;
  /** Sends metadata ahead of the answer; only the first time, and before anything else of the answer, has it an effect. */
  sendMetadata(metadata: Metadata | Readonly<Record<string, string | Buffer>>): void;
  /** Goes out with the status: fill it in before the handler ends. */
  readonly trailers: Metadata;
}
