import { type Clock, systemClock } from '../clock/clock.ts';
import { SessionError } from './errors.ts';
import type { SessionEvent } from './event.ts';
import type { Terms } from './expiry.ts';

/** Times in milliseconds. */
export interface SessionManagerOptions {
  /** Default: the real one. */
  readonly clock?: Clock;
  /** Default 1 h. */
  readonly idleMs?: number;
  /** Default 8 h, or `idleMs` if that is more. */
  readonly absoluteMs?: number;
  /** How long before its end a session is drained. Default 30 s; never more than a tenth of a session's life. */
  readonly graceMs?: number;
  /** Sessions in all; default 10,000. */
  readonly max?: number;
  /** Sessions a peer; default 64. */
  readonly maxPerPeer?: number;
  /** Connections a session; default 8. */
  readonly maxConnections?: number;
  /**
   * Between looks at what is due, which is how late a session is drained, comes to rest or is disposed; none is ever
   * found after its time. Default 5 min, or a tenth of the shortest lifetime if that is less.
   */
  readonly cleanupIntervalMs?: number;
  /** Gets every event, before those who asked for one type. */
  readonly onEvent?: (event: SessionEvent) => void;
  /** A listener threw. By default that is thrown again from a microtask: nothing is hidden, no session is harmed. */
  readonly onListenerError?: (error: unknown) => void;
}

export interface ManagerSettings {
  readonly clock: Clock;
  readonly terms: Terms;
  readonly max: number;
  readonly maxPerPeer: number;
  readonly maxConnections: number;
  readonly cleanupIntervalMs: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const SHORTEST_CLEANUP_MS = 10;

/** The options with their defaults. Throws SessionError `bad-option`. */
export function managerSettings(options: SessionManagerOptions): ManagerSettings {
  const idleMs = positive('idleMs', options.idleMs ?? HOUR);
  const absoluteMs = positive('absoluteMs', options.absoluteMs ?? Math.max(8 * HOUR, idleMs));
  return {
    clock: options.clock ?? systemClock,
    terms: { idleMs, absoluteMs, graceMs: notNegative('graceMs', options.graceMs ?? 30 * SECOND) },
    max: positiveInteger('max', options.max ?? 10_000),
    maxPerPeer: positiveInteger('maxPerPeer', options.maxPerPeer ?? 64),
    maxConnections: positiveInteger('maxConnections', options.maxConnections ?? 8),
    cleanupIntervalMs: positive(
      'cleanupIntervalMs',
      options.cleanupIntervalMs ?? cleanupInterval(5 * MINUTE, idleMs, absoluteMs),
    ),
  };
}

/** `wanted`, or a tenth of the shortest lifetime if that is less. */
export function cleanupInterval(wanted: number, ...lifetimesMs: number[]): number {
  return Math.max(SHORTEST_CLEANUP_MS, Math.min(wanted, Math.floor(Math.min(...lifetimesMs) / 10)));
}

function positive(name: string, value: number): number {
  if (Number.isFinite(value) && value > 0) return value;
  throw new SessionError('bad-option', `session.${name} must be greater than 0, not ${value}`);
}

function notNegative(name: string, value: number): number {
  if (Number.isFinite(value) && value >= 0) return value;
  throw new SessionError('bad-option', `session.${name} must not be negative, and is ${value}`);
}

function positiveInteger(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new SessionError('bad-option', `session.${name} must be a whole number from 1 on, not ${value}`);
}
