/** Who calls by `authorization: Bearer <service account token>`, and how a call is refused. */
import type { Metadata, StatusObject } from '@grpc/grpc-js';
import { callerOf } from './callerof.ts';
import { KubeError } from './client/errors.ts';
import {
  ReviewPostponed,
  type TokenOwner,
  type TokenRefusalReason,
  type TokenReviewer,
} from './tokenreview.ts';

/** A status of gRPC by its name, a code that is also sent as `hauberk-error`, and what is told. */
export interface CallRefusal {
  readonly status:
    | 'INVALID_ARGUMENT'
    | 'UNAUTHENTICATED'
    | 'PERMISSION_DENIED'
    | 'RESOURCE_EXHAUSTED'
    | 'UNAVAILABLE';
  readonly reason: string;
  readonly detail: string;
  readonly retryMs?: number | undefined;
}

/** A call as grpc-js gives it to a server. */
interface BearerCall {
  readonly metadata: Metadata;
  getPeer(): string;
}

const TOKEN_STATUS: Readonly<Record<TokenRefusalReason, CallRefusal['status']>> = {
  'no-token': 'UNAUTHENTICATED',
  'not-authenticated': 'UNAUTHENTICATED',
  'wrong-audience': 'UNAUTHENTICATED',
  'not-a-service-account': 'PERMISSION_DENIED',
};

const UNCHECKED = {
  status: 'UNAVAILABLE',
  reason: 'kubernetes-unavailable',
  detail: 'the API server cannot be asked about the token now: come again later',
  retryMs: 1000,
} as const;

/** Whose token the call has, or why it is refused. */
export async function bearerOf(
  call: BearerCall,
  tokens: Pick<TokenReviewer, 'review'>,
): Promise<TokenOwner | CallRefusal> {
  const [given] = call.metadata.get('authorization');
  const token = typeof given === 'string' && given.startsWith('Bearer ') ? given.slice('Bearer '.length) : '';
  if (token === '') {
    const detail = 'send a service account token: authorization: Bearer ...';
    return { status: 'UNAUTHENTICATED', reason: 'no-token', detail };
  }
  try {
    const review = await tokens.review(token, callerOf(call.getPeer()));
    if (review.accepted) return review;
    const { reason, message: detail } = review;
    return { status: TOKEN_STATUS[reason], reason, detail };
  } catch (error) {
    if (error instanceof ReviewPostponed) {
      const { code: reason, message: detail, retryMs } = error;
      return { status: 'RESOURCE_EXHAUSTED', reason, detail, retryMs };
    }
    if (!(error instanceof KubeError)) throw error;
    return { ...UNCHECKED, retryMs: error.retryAfterMs ?? UNCHECKED.retryMs };
  }
}

export function statusOf(
  { status, reason, detail, retryMs }: CallRefusal,
  grpc: Pick<typeof import('@grpc/grpc-js'), 'Metadata' | 'status'>,
): StatusObject {
  const metadata = new grpc.Metadata();
  metadata.set('hauberk-error', reason);
  if (retryMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(Math.ceil(retryMs)));
  return { code: grpc.status[status], details: detail, metadata };
}
