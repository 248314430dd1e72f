import type {
  ListSessionsRequest,
  ListSessionsResponse,
  SessionFilterMessage,
  SessionMessage,
  SetFrameLoggingResponse,
  Timestamp,
} from '../../admin/messages.ts';
import { systemClock } from '../../clock/clock.ts';
import { AdminConnection } from '../admin/connection.ts';
import { isoTime, json, millisecondsOf, octets, span } from '../admin/shown.ts';
import { table } from '../admin/table.ts';
import { adminTarget } from '../admin/target.ts';
import { columns, print } from '../terminal.ts';
import type { OutputOptions } from './status.ts';

export interface FilterOptions {
  readonly peer?: string;
  readonly service?: string;
  readonly direction?: 'inbound' | 'outbound';
  readonly state?: readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly olderThan?: number;
  readonly idleFor?: number;
}

export interface ListOptions extends OutputOptions, FilterOptions {
  readonly order: string;
  readonly reverse: boolean;
  readonly limit: number;
}

const PAGE = 500;

/** `hauberk sessions list`: every page, as it comes. */
export async function listSessions(options: ListOptions): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const found: SessionMessage[] = [];
  let pageToken = '';
  let total = 0;
  do {
    const request: ListSessionsRequest = {
      filter: filterOf(options),
      order: options.order.replaceAll('-', '_').toUpperCase() as ListSessionsRequest['order'],
      descending: options.reverse,
      pageSize: Math.min(PAGE, options.limit - found.length),
      pageToken,
    };
    const page = await connection.call<ListSessionsResponse>('ListSessions', request);
    found.push(...page.sessions);
    pageToken = page.nextPageToken;
    total = page.totalSize;
  } while (pageToken !== '' && found.length < options.limit);
  if (options.output === 'json') {
    print(json({ sessions: found, total }, 2));
    return;
  }
  print(tableOf(found));
  if (found.length < total) print(`${found.length} of ${total}; --limit shows more`);
}

export function filterOf(options: FilterOptions): SessionFilterMessage {
  const { olderThan, idleFor } = options;
  const direction = options.direction?.toUpperCase() as 'INBOUND' | 'OUTBOUND' | undefined;
  return {
    peer: options.peer ?? '',
    service: options.service ?? '',
    direction: direction ?? 'DIRECTION_UNSPECIFIED',
    states: options.state ?? [],
    metadata: options.metadata ?? {},
    ...(olderThan === undefined ? {} : { olderThanMs: olderThan }),
    ...(idleFor === undefined ? {} : { idleForMs: idleFor }),
  };
}

function tableOf(sessions: readonly SessionMessage[]): string {
  const now = systemClock.now();
  const head = [
    'ID',
    'PEER',
    'DIRECTION',
    'STATE',
    'AGE',
    'IDLE',
    'ENDS IN',
    'CALLS',
    'OPEN',
    'IN',
    'OUT',
    'FLAGS',
  ];
  const rows = sessions.map((session) => [
    session.id,
    session.peer,
    session.direction.toLowerCase(),
    session.state,
    span(now - millisecondsOf(session.createdAt)),
    span(now - millisecondsOf(session.lastActivity)),
    span(millisecondsOf(session.expiresAt) - now),
    String(session.counters.calls),
    String(session.openCalls),
    octets(session.counters.bytesIn),
    octets(session.counters.bytesOut),
    flagsOf(session),
  ]);
  return table([head, ...rows], { columns: columns(), elastic: head.indexOf('PEER') });
}

function flagsOf({ flags }: SessionMessage): string {
  const names = Object.entries(flags).filter(([, on]) => on === true);
  return names.map(([name]) => name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)).join(',');
}

/** `hauberk sessions show ID`. */
export async function showSession(id: string, options: OutputOptions): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const session = await connection.call<SessionMessage>('GetSession', { id });
  print(options.output === 'json' ? json(session, 2) : describe(session));
}

function describe(session: SessionMessage): string {
  const { counters, resumedAt } = session;
  const ago = (time: Timestamp): string => `${isoTime(time)}, ${span(now - millisecondsOf(time))} ago`;
  const now = systemClock.now();
  return table([
    ['id', session.id],
    ['peer', session.peer],
    ['service', session.service],
    ['direction', session.direction.toLowerCase()],
    ['state', session.state],
    ['flags', flagsOf(session)],
    ['created', ago(session.createdAt)],
    ['last activity', ago(session.lastActivity)],
    [
      'ends',
      `${isoTime(session.expiresAt)} at the latest, in ${span(millisecondsOf(session.expiresAt) - now)}`,
    ],
    ['resumed', resumedAt === null ? 'never' : `${times(counters.resumptions)}, last ${ago(resumedAt)}`],
    ['connections', String(session.connections)],
    ...session.openConnections.map(({ remote, state, since }) => [
      `connection ${remote}`,
      `${state} since ${isoTime(since)}, for ${span(now - millisecondsOf(since))}`,
    ]),
    ['calls', `${counters.calls}, ${session.openCalls} of them open`],
    [
      'bytes',
      `${octets(counters.bytesIn)} in, ${octets(counters.bytesOut)} out${session.openCalls > 0 ? ', in calls that have ended' : ''}`,
    ],
    ['records', `${counters.recordsIn} in, ${counters.recordsOut} out`],
    ['errors', `${counters.errors}; ${counters.limited} limited, ${counters.denied} denied`],
    ...Object.entries(session.metadata).map(([key, value]) => [`metadata ${key}`, value]),
  ]);
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

/** `hauberk sessions trace ID on|off`. */
export async function traceSession(id: string, state: 'on' | 'off', options: OutputOptions): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const request = { sessionId: id, enabled: state === 'on' };
  const answer = await connection.call<SetFrameLoggingResponse>('SetFrameLogging', request);
  if (options.output === 'json') {
    print(json(answer, 2));
    return;
  }
  const before = answer.wasEnabled === request.enabled ? ', as before' : '';
  print(
    `frames of ${id} are logged: ${state}${before}${request.enabled ? '; the lines are in the log of the sidecar' : ''}`,
  );
}
