import type { Action } from './resource.ts';

/**
 * Why a request to the API server failed where the server did not say it: no answer came, or none that can be used.
 * Where it did, `reason` is that of its Status object (`NotFound`, `Conflict`, `Expired`, `Forbidden`, ...).
 */
export type LocalReason =
  | 'Unreachable' // no connection, or it broke
  | 'Untrusted' // its certificate was not accepted
  | 'DeadlineExceeded' // no answer in time
  | 'Silent' // a watch of which nothing was heard for too long
  | 'TooLarge' // an answer above the limit
  | 'Malformed' // not what the API promises
  | 'NoCredentials' // the token or CA file cannot be read
  | 'Aborted' // the caller gave up
  | 'Internal'; // a bug of ours

export interface KubeErrorDetails {
  /** HTTP status; 0 where none came. */
  readonly status?: number;
  readonly reason: string;
  /** When the server wants to be asked again. */
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** A request to the API server that failed. The message says what was tried, where, what went wrong and what to do. */
export class KubeError extends Error {
  override readonly name = 'KubeError';
  /** HTTP status; 0 where no answer came. */
  readonly status: number;
  /** Of the server's Status object, else a LocalReason. */
  readonly reason: string;
  /** When the server wants to be asked again, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, { status = 0, reason, retryAfterMs, cause }: KubeErrorDetails) {
    super(message, cause === undefined ? undefined : { cause });
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }

  /** The object, or what the request needs, does not exist. */
  get notFound(): boolean {
    return this.status === 404;
  }

  /** Somebody else has changed the object meanwhile, or it exists already. */
  get conflict(): boolean {
    return this.status === 409;
  }

  /** The resource version is too old: the collection is to be listed again. */
  get expired(): boolean {
    return this.status === 410;
  }
}

/** A Status object, as far as it is read. */
interface Status {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly retryAfterSeconds?: number };
}

const QUOTED_MAX = 512; // characters of a server's text in a message

/** A server's text for a message: one line, bounded, printable. */
export function quotable(text: string): string {
  const line = text.replace(/[\s\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
  return line.length > QUOTED_MAX ? `${line.slice(0, QUOTED_MAX)}…` : line;
}

/** What an answer other than 2xx, or the object of an ERROR event, comes to. */
export function refusal(
  action: Action,
  server: string,
  answer: { status: number; body: string; retryAfterMs?: number | undefined },
): KubeError {
  const said = statusIn(answer.body);
  const status = answer.status === 200 ? (said?.code ?? 500) : answer.status;
  const reason = quotable(said?.reason || REASONS[status] || `HTTP ${status}`);
  const message = quotable(said?.message ?? answer.body);
  const seconds = said?.details?.retryAfterSeconds;
  const retryAfterMs =
    answer.retryAfterMs ?? (typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : undefined);
  const cure = cureOf(status, action);
  return new KubeError(
    `the API server ${server} answered ${status} ${reason} when asked to ${action.text}` +
      (message === '' ? '' : `: ${message}`) +
      (cure === undefined ? '' : `; ${cure}`),
    { status, reason, retryAfterMs },
  );
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  410: 'Expired',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

function cureOf(status: number, action: Action): string | undefined {
  switch (status) {
    case 401:
      return 'the service account token was not accepted: does its file hold a token of this cluster, and does the service account still exist?';
    case 403:
      return `grant the controller's service account ${action.grant}`;
    case 404:
      return action.name === undefined ? `does this cluster serve ${action.group || 'v1'}?` : undefined;
    case 410:
      return 'the collection has to be listed again';
    case 429:
      return 'the server is overloaded or its priority level is full; it is asked again later';
    default:
      return status >= 500 ? 'see the log of the API server; it is asked again later' : undefined;
  }
}

function statusIn(body: string): Status | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value !== 'object' || value === null) return undefined;
    const { code, reason, message, details } = value as Record<string, unknown>;
    return {
      ...(typeof code === 'number' && { code }),
      ...(typeof reason === 'string' && { reason }),
      ...(typeof message === 'string' && { message }),
      ...(typeof details === 'object' && details !== null && { details }),
    };
  } catch {
    return undefined;
  }
}

/** Of errors of Node.js: those of TLS that say that the server is not who it should be. */
const UNTRUSTED = /^(ERR_TLS_CERT|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_|INVALID_CA|ERR_OSSL_X509)/;

/** What a failed connection comes to. */
export function connectionError(action: Action, server: string, cause: unknown): KubeError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const untrusted = code !== undefined && UNTRUSTED.test(code);
  const what = quotable(code === undefined || message.includes(code) ? message : `${message} (${code})`);
  return new KubeError(
    untrusted
      ? `the API server ${server} showed a certificate that is not trusted (${what}), when asked to ${action.text}; does the CA file hold the CA of this cluster?`
      : `the API server ${server} cannot be reached to ${action.text}: ${what}; is it running, and does a network policy let this pod reach it?`,
    { reason: untrusted ? 'Untrusted' : 'Unreachable', cause },
  );
}

export function localError(
  action: Action,
  server: string,
  reason: Exclude<LocalReason, 'Unreachable' | 'Untrusted'>,
  what: string,
  status = 0,
): KubeError {
  return new KubeError(`the API server ${server}, asked to ${action.text}: ${what}`, { status, reason });
}
