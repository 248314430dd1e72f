import type { LimitConfig } from '../config/config.ts';

export type LimitScope = LimitConfig['scope'];

export interface Allowed {
  readonly allowed: true;
}

export interface Denied {
  readonly allowed: false;
  /** Whose limit it was; of several, the one that lasts longest. */
  readonly scope: LimitScope;
  /** Calls a window. */
  readonly limit: number;
  readonly windowMs: number;
  /** Until the window ends; at least 1. */
  readonly retryAfterMs: number;
}

export type Verdict = Allowed | Denied;

/** The one object that says yes: allowing a call allocates nothing. */
export const ALLOWED: Allowed = Object.freeze({ allowed: true });
