import type { AuditEvent } from './event.ts';

interface AdapterLifecycle {
  /** Makes durable what was written. A rejection counts as a failure of the adapter. */
  flush?(): void | PromiseLike<void>;
  /** Opens its output anew, after a log file was rotated. */
  reopen?(): void | PromiseLike<void>;
  /** The last call. What it does not finish by the deadline of the shutdown is abandoned. */
  close?(): void | PromiseLike<void>;
}

/**
 * What a user's own module gives the recorder (`monitoring.adapters: [{ module: ./my-adapter.mjs }]`).
 *
 * `write` is called with one batch at a time, oldest event first, and not again before the promise it returned
 * has settled or its deadline has passed. When it throws, rejects or misses the deadline, the same events come again
 * later: delivery is at least once, and `instance` + `seq` tell a repetition. It runs on the sidecar's only thread:
 * work that takes long belongs behind the promise. Events are frozen and shared between adapters.
 */
export interface MonitoringAdapter extends AdapterLifecycle {
  /** Appears in metrics and in audit events about the adapter; else the name of the module's file. */
  readonly name?: string;
  /** Takes a batch, oldest event first. The events are frozen. */
  write(events: readonly AuditEvent[]): void | PromiseLike<void>;
}

/** An adapter that takes events as objects. */
export interface AuditAdapter extends MonitoringAdapter {
  readonly name: string;
}

/**
 * An adapter that takes events as JSON lines, each ending in `\n`, all of a batch in one piece, which is the adapter's
 * until what it returned has settled. Otherwise as {@link MonitoringAdapter}.
 */
export interface AuditLineAdapter extends AdapterLifecycle {
  readonly name: string;
  writeLines(lines: Buffer): void | PromiseLike<void>;
}

export type AnyAuditAdapter = AuditAdapter | AuditLineAdapter;

const MAX_NAME = 64;

/** A user's adapter under a name. Its object may be an instance with private state, so it is called, not copied. */
export function namedAdapter(adapter: MonitoringAdapter, fallback: string): AuditAdapter {
  const name = typeof adapter.name === 'string' && adapter.name !== '' ? adapter.name : fallback;
  return {
    name: name.slice(0, MAX_NAME),
    write: (events) => adapter.write(events),
    flush: () => adapter.flush?.(),
    reopen: () => adapter.reopen?.(),
    close: () => adapter.close?.(),
  };
}
