import type { Writable } from 'node:stream';
import { systemClock } from '../../clock/clock.ts';
import type { AuditLineAdapter, MonitoringAdapter } from '../adapter.ts';
import type { AuditEvent } from '../event.ts';
import { eventLine } from '../line.ts';
import { FileAdapter } from './file.ts';
import { StdoutAdapter } from './stdout.ts';

/**
 * An adapter that appends events to a file as JSON lines: created for its owner only if it is not there, opened anew when
 * it was moved or removed (log rotation), made durable by `flush` and `close`.
 *
 * Rejects with AuditError `file-unusable`. Two adapters must not write to one file.
 */
export async function openFileAdapter(path: string): Promise<MonitoringAdapter> {
  return adapterOf(await FileAdapter.open(path, systemClock));
}

/**
 * An adapter that writes events to a stream as JSON lines, such as `process.stderr` or one of your own, which stays open.
 * While the stream has not taken what came before, further events wait, up to the bound of the queue; what does not fit
 * is counted.
 *
 * `name` appears in metrics and in audit events about the adapter; default `stream`.
 */
export function streamAdapter(stream: Writable, name = 'stream'): MonitoringAdapter {
  return adapterOf(new StdoutAdapter(stream, name));
}

function adapterOf(lines: AuditLineAdapter): MonitoringAdapter {
  return {
    name: lines.name,
    write: (events: readonly AuditEvent[]) => lines.writeLines(Buffer.from(events.map(eventLine).join(''))),
    flush: () => lines.flush?.(),
    reopen: () => lines.reopen?.(),
    close: () => lines.close?.(),
  };
}
