import type { ConnectionError } from '../http2/errors.ts';
import type { Logger } from '../telemetry/log.ts';

/** Logs the error that ended an HTTP/2 connection, if the fault was ours. */
export function reportBug(log: Logger, remote: string, error: ConnectionError): void {
  if (error.side !== 'local') return;
  const { cause } = error;
  const stack = cause instanceof Error && cause.stack !== undefined ? cause.stack : String(cause);
  log.error({ remote, error: stack }, 'a bug ended a connection');
}
