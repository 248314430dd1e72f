/**
 * What can go wrong with limits. All of these are met at start-up; a limit that cannot be asked at run time falls
 * back to memory instead (`onStoreChange`). No message or cause ever holds the store's password.
 *
 * - `bad-limit`: a limit that cannot work
 * - `bad-store-url`: not a Redis address
 * - `redis-client-missing`: the optional package ioredis is not installed
 * - `store-unavailable`: why a store counts as lost
 */
export type LimitErrorCode = 'bad-limit' | 'bad-store-url' | 'redis-client-missing' | 'store-unavailable';

export class LimitError extends Error {
  override readonly name = 'LimitError';
  readonly code: LimitErrorCode;

  constructor(code: LimitErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
