/**
 * What happened, as events, and adapters that take them.
 *
 * @module hauberk/monitoring
 */

export type { MonitoringAdapter } from '../audit/adapter.ts';
export { openFileAdapter, streamAdapter } from '../audit/adapters/programs.ts';
export { AuditError, type AuditErrorCode } from '../audit/errors.ts';
export type {
  AuditEvent,
  AuditEventFields,
  AuditEventInput,
  AuditEventOf,
  AuditEventType,
  AuditStamp,
} from '../audit/event.ts';
export { eventLine } from '../audit/line.ts';
