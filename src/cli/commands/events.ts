import type { WatchEventsRequest } from '../../admin/messages.ts';
import { printable } from '../../config/pointer.ts';
import { AdminConnection } from '../admin/connection.ts';
import { adminTarget } from '../admin/target.ts';
import { printError, printPaced, readerGone } from '../terminal.ts';
import type { OutputOptions } from './status.ts';

export interface EventOptions extends OutputOptions {
  readonly type?: readonly string[];
  readonly session?: string;
  readonly peer?: string;
  readonly count?: number;
}

/** What a message of the stream holds, as the loader makes it. */
interface Message {
  readonly what: 'event' | 'dropped' | 'watching';
  readonly event?: { readonly json: string } | null;
  readonly dropped?: number;
}

/** `hauberk events` and `hauberk sessions watch`: until the sidecar stops, so many have come, nobody reads, or a signal. */
export async function events(
  options: EventOptions,
  types: readonly string[] = options.type ?? [],
): Promise<void> {
  using connection = await AdminConnection.open(await adminTarget(options));
  const request: WatchEventsRequest = { types, sessionId: options.session ?? '', peer: options.peer ?? '' };
  let left = options.count ?? Number.POSITIVE_INFINITY;
  for await (const message of connection.stream<Message>('WatchEvents', request, readerGone)) {
    if (message.what === 'dropped') {
      printError(`hauberk: ${message.dropped} events are missing here: what reads this is too slow`);
    } else if (message.what === 'watching') {
      printError('hauberk: watching');
    } else if (message.event) {
      await printPaced(options.output === 'json' ? message.event.json : lineOf(message.event.json));
      if (--left <= 0) return;
    }
  }
}

/** `time type key=value ...`. */
function lineOf(text: string): string {
  const {
    time,
    seq: _seq,
    type,
    sidecar: _sidecar,
    instance: _instance,
    ...fields
  } = JSON.parse(text) as Record<string, unknown>;
  const shown = Object.entries(fields).map(([key, value]) => {
    const written = typeof value === 'string' && /^[\w./:@%+-]+$/.test(value) ? value : JSON.stringify(value);
    return `${key}=${written}`;
  });
  return printable([time, type, ...shown].join(' '));
}
