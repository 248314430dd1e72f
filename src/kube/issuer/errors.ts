/** Why a request for a certificate was refused. Stable: the audit, the metrics and docs/kubernetes-controller.md name them. */
export type RefusalCode =
  | 'bad-request'
  | 'unsupported-key'
  | 'bad-signature'
  | 'no-proof'
  | 'bad-token'
  | 'wrong-audience'
  | 'not-a-service-account'
  | 'not-bound'
  | 'address-limit'
  | 'pod-limit'
  | 'busy'
  | 'kubernetes-unavailable'
  | 'ca-ended'
  | 'stopping'
  | 'internal';

type Status =
  | 'INVALID_ARGUMENT'
  | 'UNAUTHENTICATED'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAVAILABLE'
  | 'INTERNAL';

/** The gRPC status of each. */
export const REFUSAL_STATUS: Readonly<Record<RefusalCode, Status>> = {
  'bad-request': 'INVALID_ARGUMENT',
  'unsupported-key': 'INVALID_ARGUMENT',
  'bad-signature': 'INVALID_ARGUMENT',
  'no-proof': 'UNAUTHENTICATED',
  'bad-token': 'UNAUTHENTICATED',
  'wrong-audience': 'UNAUTHENTICATED',
  'not-a-service-account': 'PERMISSION_DENIED',
  'not-bound': 'PERMISSION_DENIED',
  'address-limit': 'RESOURCE_EXHAUSTED',
  'pod-limit': 'RESOURCE_EXHAUSTED',
  busy: 'RESOURCE_EXHAUSTED',
  'kubernetes-unavailable': 'UNAVAILABLE',
  'ca-ended': 'UNAVAILABLE',
  stopping: 'UNAVAILABLE',
  internal: 'INTERNAL',
};

/** A request that was refused. The message is for whoever asked: it says nothing of the cluster that they do not know. */
export class CertifyRefusal extends Error {
  override readonly name = 'CertifyRefusal';
  readonly code: RefusalCode;
  /** When to come again, in milliseconds. */
  readonly retryMs: number | undefined;

  constructor(code: RefusalCode, message: string, details: { retryMs?: number; cause?: unknown } = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.retryMs = details.retryMs;
  }
}
