/**
 * Checks of a program's parts, in rounds.
 *
 * @module hauberk/health
 */

export type { CheckStatus, HealthState } from '../admin/healthcheck.ts';
export {
  type HealthChange,
  type HealthCheckOptions,
  HealthError,
  type HealthErrorCode,
  HealthMonitor,
  type HealthMonitorOptions,
  type HealthStatus,
} from '../admin/healthmonitor.ts';
export type { Clock, TimerHandle } from '../clock/clock.ts';
