/** What each method of the admin API does, without gRPC: messages in, messages out, AdminError for what cannot be. */
import type { RevokeSelection } from '../relay/revocation.ts';
import { BlockError, type BlockErrorCode } from '../session/errors.ts';
import type { Session } from '../session/session.ts';
import type { AdminControl } from './admincontrol.ts';
import { AdminError, type AdminStatus } from './errors.ts';
import type {
  AllowPeerRequest,
  AllowPeerResponse,
  BlockPeerRequest,
  DrainRequest,
  DrainResponse,
  GetSessionRequest,
  ListBlockedPeersResponse,
  ListSessionsRequest,
  ListSessionsResponse,
  RevokeResponse,
  RevokeSessionsRequest,
  SessionMessage,
  SetFrameLoggingRequest,
  SetFrameLoggingResponse,
  StatusMessage,
} from './messages.ts';
import { allowResponse, revokeDetail, revokeResponse } from './receipts.ts';
import { namesNothing, sessionPredicate } from './sessionfilter.ts';
import { sessionMessage } from './sessionmessage.ts';
import { sessionPage } from './sessionpage.ts';

const SESSION_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const MAX_DEADLINE_MS = 3_600_000;
const MAX_IDS = 1000;

/** The answer, and for methods that change something what the audit says of it. */
interface Done<Response> {
  readonly response: Response;
  readonly detail?: string;
}

export interface AdminMethod<Request, Response> {
  /** Each call is an audit event, also one that fails. */
  readonly writes: boolean;
  readonly run: (
    control: AdminControl,
    request: Request,
    caller: string,
  ) => Done<Response> | Promise<Done<Response>>;
}

function method<Request, Response>(
  run: AdminMethod<Request, Response>['run'],
  options: { writes: boolean } = { writes: false },
): AdminMethod<Request, Response> {
  return { ...options, run };
}

const WRITES = { writes: true };

export const METHODS = {
  GetStatus: method<unknown, StatusMessage>((control) => ({ response: control.status() })),

  ListSessions: method<ListSessionsRequest, ListSessionsResponse>((control, request) => {
    const { sessions, nextPageToken, total } = sessionPage(
      control.sessions.getSessionsByLastUsed(),
      request,
      control.now(),
    );
    const messages = sessions.map((session) => shown(control, session));
    return { response: { sessions: messages, nextPageToken, totalSize: total } };
  }),

  GetSession: method<GetSessionRequest, SessionMessage>((control, { id }) => ({
    response: shown(control, sessionOf(control, 'id', id)),
  })),

  RevokeSessions: method<RevokeSessionsRequest, RevokeResponse>(async (control, request) => {
    const { blockPeers, reason } = request;
    const which = selectionOf(request, control.now());
    const receipt = await blocking(() =>
      control.revocation.revoke(which, { mayReturn: !blockPeers, reason }),
    );
    return { response: revokeResponse(receipt), detail: revokeDetail(receipt) };
  }, WRITES),

  BlockPeer: method<BlockPeerRequest, RevokeResponse>(async (control, { peer, reason }) => {
    const receipt = await blocking(() => control.revocation.block(peer, reason));
    return { response: revokeResponse(receipt), detail: revokeDetail(receipt) };
  }, WRITES),

  AllowPeer: method<AllowPeerRequest, AllowPeerResponse>(async (control, { peer }) => {
    const receipt = await blocking(() => control.revocation.allow(peer));
    const detail = receipt.was === undefined ? 'it was not blocked' : `blocked since ${receipt.was.since}`;
    return { response: allowResponse(receipt), detail };
  }, WRITES),

  ListBlockedPeers: method<unknown, ListBlockedPeersResponse>((control) => ({
    response: { blocked: control.revocation.blocked() },
  })),

  SetFrameLogging: method<SetFrameLoggingRequest, SetFrameLoggingResponse>(
    (control, { sessionId, enabled }) => {
      const { frameLogging, frameLogHidden } = control;
      const session = sessionOf(control, 'session_id', sessionId);
      if (enabled && frameLogHidden !== undefined) {
        throw new AdminError('FAILED_PRECONDITION', frameLogHidden);
      }
      const changed = frameLogging.set(session, enabled);
      const state = enabled ? 'on' : 'off';
      return {
        response: { wasEnabled: changed ? !enabled : enabled },
        detail: changed ? `frames of session ${session.id} are logged: ${state}` : `it was ${state} already`,
      };
    },
    WRITES,
  ),

  Drain: method<DrainRequest, DrainResponse>((control, { deadlineMs }, caller) => {
    if (deadlineMs !== undefined && !(deadlineMs >= 0 && deadlineMs <= MAX_DEADLINE_MS)) {
      throw new AdminError('INVALID_ARGUMENT', `deadline_ms is 0 to ${MAX_DEADLINE_MS}`);
    }
    const callsOpen = control.callsOpen;
    const begun = control.drain(`asked by ${caller}`, deadlineMs);
    return {
      response: { wasDraining: !begun, callsOpen },
      detail: begun ? `the end has begun; ${callsOpen} calls are under way` : 'it was draining already',
    };
  }, WRITES),
} as const;

function selectionOf({ ids, filter, all }: RevokeSessionsRequest, now: number): RevokeSelection {
  const given = [ids.length > 0, filter !== null, all].filter((yes) => yes).length;
  if (given !== 1) {
    throw new AdminError('INVALID_ARGUMENT', 'name the sessions by one of ids, filter and all');
  }
  if (all) return { all: true };
  if (ids.length > MAX_IDS) throw new AdminError('INVALID_ARGUMENT', `ids has more than ${MAX_IDS} entries`);
  if (ids.length > 0) return { ids: ids.map((id) => checkedId('ids', id)) };
  if (namesNothing(filter)) {
    throw new AdminError('INVALID_ARGUMENT', 'the filter names nothing; `all` says every session by name');
  }
  return { where: sessionPredicate(filter, now) };
}

const STATUS_OF: Partial<Record<BlockErrorCode, AdminStatus>> = {
  'bad-peer': 'INVALID_ARGUMENT',
  'bad-reason': 'INVALID_ARGUMENT',
  'too-many': 'RESOURCE_EXHAUSTED',
};

async function blocking<T>(command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    throw new AdminError(STATUS_OF[error.code] ?? 'FAILED_PRECONDITION', error.message);
  }
}

function shown(control: AdminControl, session: Session): SessionMessage {
  return sessionMessage(session, control.frameLogging.isOn(session), control.connectionsOf(session));
}

function sessionOf({ sessions }: AdminControl, field: string, id: string): Session {
  const session = sessions.peek(checkedId(field, id));
  if (session !== undefined) return session;
  throw new AdminError('NOT_FOUND', `there is no session ${id}, or it has ended`);
}

function checkedId(field: string, id: string): string {
  const lower = id.toLowerCase();
  if (SESSION_ID.test(lower)) return lower;
  throw new AdminError(
    'INVALID_ARGUMENT',
    `${field}: a session is named by its whole UUID, as \`hauberk sessions list\` and ListSessions show it`,
  );
}
