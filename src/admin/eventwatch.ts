import { AUDIT_EVENT_TYPES } from '../audit/catalogue.ts';
import type { AuditEventInput } from '../audit/event.ts';
import type { EventWatcher, WatchedEvent } from '../audit/recorder.ts';
import { AdminError } from './errors.ts';
import { timestamp, type WatchEventsRequest, type WatchEventsResponse } from './messages.ts';

const MAX_TYPES = 64;
const MAX_TEXT = 2048; // characters: a SPIFFE ID has at most so many

/** Messages that wait for a caller who does not read. */
const MAX_QUEUE = 1024;

/** Where a watch's messages go. */
export interface WatchStream {
  /** False asks for no more until `drained` is called. */
  write(message: WatchEventsResponse): boolean;
}

/**
 * One caller who watches events. Behind a caller who does not read, events wait, up to a bound; what comes then is
 * counted, and told where it is missing.
 */
export class EventWatch implements EventWatcher {
  readonly #types: ReadonlySet<string>;
  readonly #sessionId: string;
  readonly #peer: string;
  readonly #stream: WatchStream;
  readonly #queue: WatchEventsResponse[] = [];
  #dropped = 0;
  #blocked = false;

  /** Throws AdminError `INVALID_ARGUMENT`. */
  constructor(request: WatchEventsRequest, stream: WatchStream) {
    this.#types = typesOf(request.types);
    if (request.sessionId.length > MAX_TEXT || request.peer.length > MAX_TEXT) {
      throw new AdminError('INVALID_ARGUMENT', `session_id and peer have at most ${MAX_TEXT} characters`);
    }
    this.#sessionId = request.sessionId;
    this.#peer = request.peer;
    this.#stream = stream;
    this.#send({ watching: {} });
  }

  wants(event: AuditEventInput): boolean {
    if (!this.#types.has(event.type)) return false;
    const { sessionId, peer } = event as { sessionId?: unknown; peer?: unknown };
    return (
      (this.#sessionId === '' || sessionId === this.#sessionId) && (this.#peer === '' || peer === this.#peer)
    );
  }

  take({ type, timeMs, seq, line }: WatchedEvent): void {
    if (this.#blocked && this.#queue.length >= MAX_QUEUE) {
      this.#dropped++;
      return;
    }
    this.#tellDropped();
    this.#send({ event: { time: timestamp(timeMs), seq, type, json: line } });
  }

  /** The stream takes messages again. */
  drained(): void {
    this.#blocked = false;
    let sent = 0;
    while (sent < this.#queue.length && !this.#blocked) {
      this.#blocked = !this.#stream.write(this.#queue[sent++] as WatchEventsResponse);
    }
    this.#queue.splice(0, sent);
    if (this.#queue.length === 0) this.#tellDropped();
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    const dropped = this.#dropped;
    this.#dropped = 0;
    this.#send({ dropped });
  }

  #send(message: WatchEventsResponse): void {
    if (this.#blocked) this.#queue.push(message);
    else this.#blocked = !this.#stream.write(message);
  }
}

/** Types and groups of them; `session.*` is every type that begins with `session.`. */
function typesOf(wanted: readonly string[]): ReadonlySet<string> {
  if (wanted.length === 0) return new Set(AUDIT_EVENT_TYPES);
  if (wanted.length > MAX_TYPES) {
    throw new AdminError('INVALID_ARGUMENT', `types has more than ${MAX_TYPES} entries`);
  }
  const types = new Set<string>();
  for (const name of wanted) {
    const group = name.endsWith('.*') ? name.slice(0, -1) : undefined;
    const found = AUDIT_EVENT_TYPES.filter((type) =>
      group === undefined ? type === name : type.startsWith(group),
    );
    if (found.length === 0) {
      const groups = [...new Set(AUDIT_EVENT_TYPES.map((type) => `${type.split('.', 1)[0]}.*`))];
      throw new AdminError(
        'INVALID_ARGUMENT',
        `types: no event is called ${JSON.stringify(name.slice(0, 64))}; there are ${groups.join(', ')}, see docs/audit-events.md`,
      );
    }
    for (const type of found) types.add(type);
  }
  return types;
}
