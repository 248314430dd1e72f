import { createHash } from 'node:crypto';
import type { Session } from '../session/session.ts';
import { AdminError } from './errors.ts';
import type { ListSessionsRequest, OrderName } from './messages.ts';
import { sessionPredicate } from './sessionfilter.ts';

const DEFAULT_SIZE = 100;
/** A page stays below the 4 MiB that gRPC clients take by default. */
const MAX_SIZE = 500;
const MAX_TOKEN = 256; // characters

const KEYS: Readonly<Record<OrderName, (session: Session) => number>> = {
  // Those with calls are in use.
  LAST_USED: ({ openCalls, usedAt }) => (openCalls > 0 ? Number.MAX_SAFE_INTEGER : usedAt),
  CREATED: (session) => session.createdAt,
  EXPIRES: (session) => session.expiresAt,
  CALLS: ({ counters }) => counters.calls,
  OPEN_CALLS: (session) => session.openCalls,
  BYTES: ({ counters }) => counters.bytesIn + counters.bytesOut,
};

interface Place {
  readonly key: number;
  readonly id: string;
}

interface Placed extends Place {
  readonly session: Session;
}

export interface SessionPage {
  readonly sessions: readonly Session[];
  readonly nextPageToken: string;
  readonly total: number;
}

/**
 * The sessions that a request asks for. What is kept and sorted at a time are two pages, not all sessions: with 100,000
 * of them calls would wait for the sort. Throws AdminError `INVALID_ARGUMENT`.
 */
export function sessionPage(
  sessions: Iterable<Session>,
  request: ListSessionsRequest,
  now: number,
): SessionPage {
  const { order, descending, pageToken } = request;
  const keyOf = Object.hasOwn(KEYS, order) ? KEYS[order] : undefined;
  if (keyOf === undefined) throw new AdminError('INVALID_ARGUMENT', 'order is none of those there are');
  const size = pageSizeOf(request.pageSize);
  const matches = sessionPredicate(request.filter, now);
  const digest = digestOf(request);
  const after = pageToken === '' ? undefined : parseToken(pageToken, digest);
  const sign = descending ? -1 : 1;
  let total = 0;
  let left = 0;
  let kept: Placed[] = [];
  for (const session of sessions) {
    if (!matches(session)) continue;
    total++;
    const placed = { key: sign * keyOf(session), id: session.id, session };
    if (after !== undefined && compare(placed, after) <= 0) continue;
    left++;
    kept.push(placed);
    if (kept.length >= 2 * MAX_SIZE) kept = kept.sort(compare).slice(0, size);
  }
  kept = kept.sort(compare).slice(0, size);
  const last = kept.at(-1);
  const nextPageToken = last === undefined || left <= kept.length ? '' : tokenOf(last, digest);
  return { sessions: kept.map(({ session }) => session), nextPageToken, total };
}

function compare(a: Place, b: Place): number {
  if (a.key !== b.key) return a.key - b.key;
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

function pageSizeOf(wanted: number): number {
  if (wanted < 0) throw new AdminError('INVALID_ARGUMENT', `page_size is 1 to ${MAX_SIZE}`);
  return wanted === 0 ? DEFAULT_SIZE : Math.min(wanted, MAX_SIZE);
}

/** Names filter and order, so that a token is of use for the request only that it came of. */
function digestOf({ filter, order, descending }: ListSessionsRequest): string {
  return createHash('sha256')
    .update(JSON.stringify([filter, order, descending]))
    .digest('base64url')
    .slice(0, 12);
}

function tokenOf({ key, id }: Place, digest: string): string {
  return Buffer.from(JSON.stringify([digest, key, id])).toString('base64url');
}

/** Tokens are no secrets: whoever makes one up begins at another place of a list that is theirs to see anyway. */
function parseToken(token: string, digest: string): Place {
  let parts: unknown;
  try {
    parts = token.length > MAX_TOKEN ? undefined : JSON.parse(Buffer.from(token, 'base64url').toString());
  } catch {
    parts = undefined;
  }
  if (Array.isArray(parts) && parts.length === 3) {
    const [of, key, id] = parts as unknown[];
    if (of === digest && typeof key === 'number' && typeof id === 'string') return { key, id };
  }
  throw new AdminError(
    'INVALID_ARGUMENT',
    'page_token is none that came with this filter and order: begin again without it',
  );
}
