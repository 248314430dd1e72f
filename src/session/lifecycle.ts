import type { Machine, Transitions } from '../lifecycle/lifecycle.ts';
import { SessionError } from './errors.ts';

/**
 * A session's life (design section 6).
 *
 *     created ──▶ connecting ──▶ connected ──▶ active ◀──▶ idle
 *                  ▲   ▲ │           │            │         │
 *                  │   │ ├───────────┴────────────┴─────────┤
 *                  │   │ ▼                                  ▼
 *                  │  error ───────────────────▶ disconnecting
 *                  │                                        ▼
 *                  └──────────── resumption ────────── disconnected ──▶ disposed
 *
 * `connected` has not had a call yet. `active` and `idle` alternate; `idle` is noticed by the manager's sweep, so a
 * call costs no transition of its own. A session that can be resumed rests without connections: `disconnected` if the
 * last was closed in order, `error` if it broke or could not be made.
 */
export type SessionState =
  | 'created'
  | 'connecting'
  | 'connected'
  | 'active'
  | 'idle'
  | 'disconnecting'
  | 'disconnected'
  | 'error'
  | 'disposed';

export const SESSION_TRANSITIONS: Transitions<SessionState> = {
  created: ['connecting', 'disconnecting'],
  connecting: ['connected', 'disconnecting', 'error'],
  connected: ['active', 'disconnecting', 'error'],
  active: ['idle', 'disconnecting', 'error'],
  idle: ['active', 'disconnecting', 'error'],
  disconnecting: ['disconnected'],
  disconnected: ['connecting', 'disposed'],
  error: ['connecting', 'disconnecting'],
  disposed: [],
};

/** Where a session manager is in its life: `inactive` until its first session. */
export type ManagerState = 'inactive' | 'active' | 'shutdown' | 'disposed';

/** `inactive` until the first session; a manager that never had one is shut down from there. */
export const MANAGER_TRANSITIONS: Transitions<ManagerState> = {
  inactive: ['active', 'shutdown'],
  active: ['shutdown'],
  shutdown: ['disposed'],
  disposed: [],
};

const illegal = (message: string): Error => new SessionError('illegal-transition', message);

export const SESSION_MACHINE: Machine<SessionState> = { transitions: SESSION_TRANSITIONS, illegal };
export const MANAGER_MACHINE: Machine<ManagerState> = { transitions: MANAGER_TRANSITIONS, illegal };
