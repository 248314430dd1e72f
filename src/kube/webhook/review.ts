// AdmissionReview of admission.k8s.io/v1: what the API server asks of a webhook, and the answer. No sockets here.
import { quote } from '../../config/pointer.ts';
import type { InjectionResult } from '../injector/inject.ts';

const VERSION = 'admission.k8s.io/v1';
const KIND = 'AdmissionReview';
const MAX_UID = 128;
/** API servers cut longer warnings. */
const MAX_WARNING = 256;
const MAX_MESSAGE = 4096;

/** A request that gets an HTTP status instead of an answer: what came was no question of an API server. */
export class ReviewError extends Error {
  override readonly name = 'ReviewError';
  /** HTTP status. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** What is asked: may this object be created? */
export interface AdmissionRequest {
  readonly uid: string;
  readonly namespace: string;
  readonly operation: string;
  /** `group/version/resource/subresource` of what is asked about, as far as they are there. */
  readonly resource: string;
  readonly object: unknown;
  readonly dryRun: boolean;
  /** Who creates it. */
  readonly user: string;
  /** Where the request came from: address and port. */
  readonly remote: string;
}

type Mapping = Readonly<Record<string, unknown>>;
const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Reads a body. Throws ReviewError. */
export function readReview(body: Buffer, remote: string): AdmissionRequest {
  let review: unknown;
  try {
    review = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new ReviewError(400, 'the body is not JSON in UTF-8');
  }
  if (!isMapping(review) || review.kind !== KIND) throw new ReviewError(400, `the body is not an ${KIND}`);
  if (review.apiVersion !== VERSION) {
    const found = quote(textOf(review.apiVersion));
    throw new ReviewError(
      400,
      `the ${KIND} is of version ${found}, and only ${VERSION} is known: set admissionReviewVersions: ["v1"] in the webhook configuration`,
    );
  }
  const { request } = review;
  if (!isMapping(request)) throw new ReviewError(400, `the ${KIND} holds no request`);
  const uid = textOf(request.uid);
  if (uid === '' || uid.length > MAX_UID) throw new ReviewError(400, 'the request has no uid');
  const resource = isMapping(request.resource) ? request.resource : {};
  const parts = [resource.group, resource.version, resource.resource, request.subResource].map(textOf);
  return {
    uid,
    namespace: textOf(request.namespace),
    operation: textOf(request.operation),
    resource: parts.filter((part) => part !== '').join('/'),
    object: request.object,
    dryRun: request.dryRun === true,
    remote,
    user: isMapping(request.userInfo) ? textOf(request.userInfo.username) : '',
  };
}

/** Whether this is about a new pod; whatever else a rule of the webhook brings is let pass as it is. */
export function isNewPod({ operation, resource }: AdmissionRequest): boolean {
  return operation === 'CREATE' && resource === 'v1/pods';
}

/** The body of the answer. */
export function writeReview(uid: string, result: InjectionResult): string {
  return JSON.stringify({ apiVersion: VERSION, kind: KIND, response: { uid, ...responseOf(result) } });
}

function responseOf(result: InjectionResult): Mapping {
  if ('refused' in result) {
    const message = result.refused.slice(0, MAX_MESSAGE);
    return { allowed: false, status: { status: 'Failure', reason: 'Forbidden', code: 403, message } };
  }
  const warnings = (result.warnings ?? []).map((warning) => warning.slice(0, MAX_WARNING));
  const patch = 'skipped' in result ? [] : result.patch;
  return {
    allowed: true,
    ...(patch.length === 0
      ? {}
      : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') }),
    ...(warnings.length === 0 ? {} : { warnings }),
  };
}
