import type { SessionReason } from './event.ts';

/** How long sessions may live, in milliseconds. */
export interface Terms {
  /** Without a call open. */
  readonly idleMs: number;
  /** In all. */
  readonly absoluteMs: number;
  /** How long before its end a session is drained; at most a tenth of what it lives. */
  readonly graceMs: number;
}

/**
 * One session's times. Life is measured on the monotonic clock, so that a clock that is set neither kills nor
 * prolongs it; only certificates are held against the wall clock.
 */
export interface Life {
  /** Wall clock, milliseconds since the epoch. */
  readonly createdAt: number;
  /** The same moment on the monotonic clock. */
  readonly created: number;
  /** Monotonic clock, coarse. */
  readonly lastActivity: number;
  /** Wall clock: the earliest notAfter in either end's chain. */
  readonly notAfter: number;
  readonly openCalls: number;
}

/** The end of a session as seen from now; `inMs` and `drainInMs` are not positive once the moment has come. */
export interface End {
  readonly inMs: number;
  readonly drainInMs: number;
  readonly reason: SessionReason;
}

/** Less than what is left when the successor is opened, so that it is there before the grace period. */
export const LARGEST_SHARE_OF_GRACE = 1 / 10;
/** Of its life: whoever opened a session opens its successor then. */
const SUCCESSOR_AT = 0.8;

/**
 * min(lastActivity + idle, created + absolute, earliest notAfter), design section 6. The idle part does not run
 * while a call is open.
 */
export function endOf(life: Life, terms: Terms, now: number, wallNow: number): End {
  let inMs = life.created + terms.absoluteMs - now;
  let span = terms.absoluteMs;
  let reason: SessionReason = 'expired';
  if (life.notAfter - wallNow < inMs) {
    inMs = life.notAfter - wallNow;
    span = life.notAfter - life.createdAt;
    reason = 'identity-expired';
  }
  if (life.openCalls === 0 && life.lastActivity + terms.idleMs - now < inMs) {
    inMs = life.lastActivity + terms.idleMs - now;
    span = terms.idleMs;
    reason = 'idle';
  }
  return { inMs, drainInMs: inMs - Math.min(terms.graceMs, span * LARGEST_SHARE_OF_GRACE), reason };
}

/** When a session's successor is to be opened, because its age or a certificate will end it. */
export interface Succession {
  /** Not positive once the moment has come. */
  readonly inMs: number;
  /** What will end the session. */
  readonly reason: 'expired' | 'identity-expired';
}

/** At 80 % of the longest that the session may live. Idle time plays no part: it ends no session that is used. */
export function successionOf(life: Life, terms: Terms, now: number, wallNow: number): Succession {
  const byAge = life.created + terms.absoluteMs * SUCCESSOR_AT - now;
  const byIdentity = life.createdAt + (life.notAfter - life.createdAt) * SUCCESSOR_AT - wallNow;
  return byIdentity < byAge
    ? { inMs: byIdentity, reason: 'identity-expired' }
    : { inMs: byAge, reason: 'expired' };
}
