import { Glob } from '../policy/glob.ts';
import { SessionError } from './errors.ts';
import type { Session } from './session.ts';

/** Which sessions: those that fit everything that is given. */
export interface SessionFilter {
  /** SPIFFE ID of the peer, or a glob over it; `*` does not cross a `/`. */
  readonly peer?: string | undefined;
  /** Who opened it: the peer (`inbound`) or this sidecar (`outbound`). */
  readonly direction?: 'inbound' | 'outbound' | undefined;
  /** The upstream service that an outbound session was opened for. */
  readonly service?: string | undefined;
  /** Every entry must be in the session's metadata: texts as they are, numbers and booleans by their text. */
  readonly metadata?: Readonly<Record<string, string | number | boolean>> | undefined;
  /** At least so old, in milliseconds. */
  readonly olderThanMs?: number | undefined;
  /** Not used for at least so long, in milliseconds, and without a call. */
  readonly idleForMs?: number | undefined;
}

type Predicate = (session: Session) => boolean;

/** A filter as a predicate, as of `now` (milliseconds since the epoch). Throws SessionError `bad-option`. */
export function matching(filter: SessionFilter, now: number): Predicate {
  const { peer, direction, service, metadata, olderThanMs, idleForMs } = filter;
  const tests: Predicate[] = [];
  if (peer !== undefined) {
    const glob = new Glob(peer);
    tests.push((session) => glob.matches(session.peer));
  }
  if (direction !== undefined) {
    if (direction !== 'inbound' && direction !== 'outbound') {
      throw new SessionError('bad-option', `A direction is inbound or outbound, not ${String(direction)}`);
    }
    tests.push((session) => session.direction === direction);
  }
  if (service !== undefined) tests.push((session) => session.serviceId === service);
  for (const [key, wanted] of Object.entries(metadata ?? {})) {
    const text = String(wanted);
    tests.push((session) => textOf(session.metadata, key) === text);
  }
  if (olderThanMs !== undefined) {
    const before = now - notNegative('olderThanMs', olderThanMs);
    tests.push((session) => session.createdAt <= before);
  }
  if (idleForMs !== undefined) {
    const before = now - notNegative('idleForMs', idleForMs);
    tests.push((session) => session.openCalls === 0 && session.lastActivity <= before);
  }
  return (session) => tests.every((test) => test(session));
}

/** Whether a filter names nothing at all, and so fits every session. */
export function fitsAll(filter: SessionFilter): boolean {
  const { metadata, ...rest } = filter;
  return (
    Object.keys(metadata ?? {}).length === 0 && Object.values(rest).every((value) => value === undefined)
  );
}

function textOf(metadata: Readonly<Record<string, unknown>>, key: string): string | undefined {
  if (!Object.hasOwn(metadata, key)) return undefined;
  const value = metadata[key];
  const isText = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
  return isText ? String(value) : undefined;
}

function notNegative(name: string, value: number): number {
  if (Number.isFinite(value) && value >= 0) return value;
  throw new SessionError('bad-option', `${name} must not be negative, and is ${value}`);
}
