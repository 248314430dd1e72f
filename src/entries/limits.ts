/**
 * Limits on use for keys of your own, in memory or shared in Redis.
 *
 * @module hauberk/limits
 */

export type { Clock, TimerHandle } from '../clock/clock.ts';
export { LimitError, type LimitErrorCode } from '../limit/errors.ts';
export { RateLimiter, type RateLimiterOptions, type RateLimitResult } from '../limit/ratelimiter.ts';
export type { StoreChange } from '../limit/ratelimits.ts';
