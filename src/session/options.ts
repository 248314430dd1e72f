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
  /**
   * Sessions of a peer at one address; default 64. One identity may have many addresses: all of it together has as many, or a
   * quarter of `max` if that is more.
   */
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
  /** Of a peer, wherever it is. */
  readonly peerShare: number;
  readonly maxConnections: number;
  readonly cleanupIntervalMs: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
/** Of all places, which one identity may take, however many addresses it has. */
const PEER_SHARE = 1 / 4;
const SHORTEST_CLEANUP_MS = 10;

/** The options with their defaults. Throws SessionError `bad-option`. */
export function managerSettings(options: SessionManagerOptions): ManagerSettings {
  const idleMs = positive('idleMs', options.idleMs ?? HOUR);
  const absoluteMs = positive('absoluteMs', options.absoluteMs ?? Math.max(8 * HOUR, idleMs));
  const max = positiveInteger('max', options.max ?? 10_000);
  const maxPerPeer = positiveInteger('maxPerPeer', options.maxPerPeer ?? 64);
  return {
    clock: options.clock ?? systemClock,
    terms: { idleMs, absoluteMs, graceMs: notNegative('graceMs', options.graceMs ?? 30 * SECOND) },
    max,
    maxPerPeer,
    peerShare: Math.max(maxPerPeer, Math.floor(max * PEER_SHARE)),
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
