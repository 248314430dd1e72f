/**
 * What can go wrong with limits. A store that cannot be asked at run time is no error: counting falls back to memory
 * (`onStoreChange`). No message or cause ever holds the store's password.
 *
 * - `bad-limit`: a limit, or another option, that cannot work
 * - `bad-store-url`: not a Redis address
 * - `redis-client-missing`: the optional package ioredis is not installed
 * - `store-unavailable`: why a store counts as lost
 * - `bad-request`: a key or cost that a RateLimiter cannot count
 * - `closed`: a RateLimiter was used after its end
 */
export type LimitErrorCode =
  | 'bad-limit'
  | 'bad-store-url'
  | 'redis-client-missing'
  | 'store-unavailable'
  | 'bad-request'
  | 'closed';

/** A limit that cannot work, or was used wrongly; `code` says which, the message what to do. */
export class LimitError extends Error {
  override readonly name = 'LimitError';
  readonly code: LimitErrorCode;

  constructor(code: LimitErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
