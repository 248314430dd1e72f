import { type Viewed, viewed } from '../octets/view.ts';
import type { AuditEvent, AuditEventInput, AuditEventOf } from './event.ts';
import type { LineBuffer } from './linebuffer.ts';

/** The longest texts, in UTF-16 units. Most of them come from outside; SPIFFE IDs have the bound of their standard. */
const MAX_TEXT = 256;
const MAX_TEXT_OF: Readonly<Record<string, number>> = {
  peer: 2048,
  spiffeId: 2048,
  file: 1024,
  detail: 1024,
  error: 1024,
  cure: 1024,
  request: 65_536, // a change must be told from its event: the longest that is done has 1,000 ids
};
const MAX_LIST = 64;

/** Methods whose quoted names are remembered; their texts are bounded. The map is emptied when it is full. */
const MAX_CALL_NAMES = 512;

/**
 * What JSON.stringify leaves as it is but a terminal or a line-based tool may act upon: DEL and C1 controls,
 * line separators, bidirectional marks and overrides, the byte order mark.
 */
const HARMFUL = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
const HARMFUL_ALL = new RegExp(HARMFUL.source, 'g');

/** `value` as a JSON string in which nothing but printable text stands unescaped. */
function quote(value: string): string {
  const quoted = JSON.stringify(value);
  return HARMFUL.test(quoted)
    ? quoted.replace(HARMFUL_ALL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
    : quoted;
}

function json(value: string | number | boolean | readonly string[]): string {
  if (typeof value === 'string') return quote(value);
  return Array.isArray(value) ? `[${value.map(quote).join(',')}]` : JSON.stringify(value);
}

/**
 * An event as one line of JSON with its `\n`, as the `stdout` and `file` adapters write it: whatever stands in it, nothing
 * in the line acts upon a terminal or ends the line early.
 */
export function eventLine(event: AuditEvent): string {
  const fields = Object.entries(event).map(([key, value]) => `"${key}":${json(value)}`);
  return `{${fields.join(',')}}\n`;
}

function truncated(text: string, max: number): string {
  if (text.length <= max) return text;
  const end = text.charCodeAt(max - 2) >>> 10 === 0x36 ? max - 2 : max - 1; // not between two surrogates
  return `${text.slice(0, end)}…`;
}

/**
 * The event with every text and list bounded, ending what was cut with `…`: the same object when nothing was too
 * long, which is nearly always, else a copy.
 */
export function bounded(input: AuditEventInput): AuditEventInput {
  if (input.type === 'call.completed' && isShort(input)) return input;
  let copy: Record<string, unknown> | undefined;
  for (const key in input) {
    const value: unknown = input[key as keyof AuditEventInput];
    if (typeof value === 'string') {
      if (value.length <= MAX_TEXT) continue;
      const max = MAX_TEXT_OF[key] ?? MAX_TEXT;
      if (value.length <= max) continue;
      copy ??= { ...input };
      copy[key] = truncated(value, max);
    } else if (Array.isArray(value)) {
      copy ??= { ...input };
      copy[key] = value.slice(0, MAX_LIST).map((text: string) => truncated(text, MAX_TEXT));
    }
  }
  return (copy as AuditEventInput | undefined) ?? input;
}

/** Of the one event there is for every call: all of its texts are within any bound. */
function isShort({ service, method, peer, error }: AuditEventOfCall): boolean {
  return (
    service.length <= MAX_TEXT &&
    method.length <= MAX_TEXT &&
    (peer === undefined || peer.length <= MAX_TEXT) &&
    (error === undefined || error.length <= MAX_TEXT)
  );
}

const AFTER_CALL = viewed(Buffer.from('}\n'));
const GRPC_STATUS = viewed(Buffer.from(',"grpcStatus":'));
const HTTP_STATUS = viewed(Buffer.from(',"httpStatus":'));
const DURATION = viewed(Buffer.from(',"durationMs":'));
const REQUEST_BYTES = viewed(Buffer.from(',"requestBytes":'));
const RESPONSE_BYTES = viewed(Buffer.from(',"responseBytes":'));

/** Makes of a recorded event what adapters take: an object or a JSON line. */
export class EventFormat {
  readonly #sidecar: string;
  readonly #instance: string;
  readonly #source: string;
  readonly #callNames = new Map<string, CallNames>();
  #time = 0;
  #timeText = new Date(0).toISOString();
  /** How a line begins, up to its `seq`. */
  #start: Viewed;
  #startAt = 0;

  constructor(source: { readonly instance: string; readonly spiffeId: string }) {
    this.#sidecar = source.spiffeId;
    this.#instance = source.instance;
    this.#source = `,"sidecar":${quote(source.spiffeId)},"instance":${quote(source.instance)}`;
    this.#start = startOf(this.#timeText);
  }

  /** The event as an object of its own, frozen. */
  event(input: AuditEventInput, timeMs: number, seq: number): AuditEvent {
    const event: Record<string, unknown> = {
      time: this.#timestamp(timeMs),
      seq,
      type: input.type,
      sidecar: this.#sidecar,
      instance: this.#instance,
    };
    for (const [key, value] of Object.entries(input)) {
      if (value !== undefined) event[key] = Array.isArray(value) ? Object.freeze(value) : value;
    }
    return Object.freeze(event) as unknown as AuditEvent;
  }

  /** Writes the event as one line of JSON with `\n`, in the order `time seq type sidecar instance`, then its fields. */
  write(out: LineBuffer, input: AuditEventInput, timeMs: number, seq: number): void {
    if (input.type === 'call.completed') this.#writeCall(out, input, timeMs, seq);
    else out.text(this.plainLine(input, timeMs, seq));
  }

  /** What `write` writes, for any event: the plain twin that tests hold the fast path against. */
  plainLine(input: AuditEventInput, timeMs: number, seq: number): string {
    let line = this.#head(input.type, timeMs, seq);
    for (const [key, value] of Object.entries(input)) {
      if (key !== 'type' && value !== undefined) line += `,"${key}":${json(value)}`;
    }
    return `${line}}\n`;
  }

  /**
   * There is one of these for every call. What calls of one method over one session have in common is remembered by
   * method, as octets.
   */
  #writeCall(out: LineBuffer, e: AuditEventOfCall, timeMs: number, seq: number): void {
    let known = this.#callNames.get(e.method);
    if (
      known === undefined ||
      known.sessionId !== e.sessionId ||
      known.service !== e.service ||
      known.peer !== e.peer ||
      known.direction !== e.direction
    ) {
      known = this.#rememberNames(e);
    }
    if (timeMs !== this.#startAt) {
      this.#start = startOf(this.#timestamp(timeMs));
      this.#startAt = timeMs;
    }
    out.fixed(this.#start);
    out.number(seq);
    out.raw(known.octets);
    if (e.grpcStatus !== undefined) {
      out.fixed(GRPC_STATUS);
      out.number(e.grpcStatus);
    }
    if (e.httpStatus !== undefined) {
      out.fixed(HTTP_STATUS);
      out.number(e.httpStatus);
    }
    out.fixed(DURATION);
    out.thousandths(e.durationMs);
    out.fixed(REQUEST_BYTES);
    out.number(e.requestBytes);
    out.fixed(RESPONSE_BYTES);
    out.number(e.responseBytes);
    if (e.error !== undefined) out.text(`,"error":${quote(e.error)}`);
    out.fixed(AFTER_CALL);
  }

  #rememberNames(e: AuditEventOfCall): CallNames {
    const { method, direction, sessionId, peer, service } = e;
    let text = `,"type":"call.completed"${this.#source},"direction":${quote(direction)}`;
    if (sessionId !== undefined) text += `,"sessionId":${quote(sessionId)}`;
    if (peer !== undefined) text += `,"peer":${quote(peer)}`;
    text += `,"service":${quote(service)},"method":${quote(method)}`;
    const names = { direction, sessionId, peer, service, octets: Buffer.from(text) };
    if (this.#callNames.size >= MAX_CALL_NAMES) this.#callNames.clear();
    this.#callNames.set(method, names);
    return names;
  }

  #head(type: string, timeMs: number, seq: number): string {
    return `{"time":"${this.#timestamp(timeMs)}","seq":${seq},"type":"${type}"${this.#source}`;
  }

  #timestamp(timeMs: number): string {
    if (timeMs !== this.#time) {
      this.#time = timeMs;
      this.#timeText = new Date(timeMs).toISOString();
    }
    return this.#timeText;
  }
}

function startOf(timestamp: string): Viewed {
  return viewed(Buffer.from(`{"time":"${timestamp}","seq":`));
}

interface CallNames {
  readonly direction: string;
  readonly sessionId: string | undefined;
  readonly peer: string | undefined;
  readonly service: string;
  /** What stands between `seq` and the figures of a call. */
  readonly octets: Buffer;
}

type AuditEventOfCall = Omit<AuditEventOf<'call.completed'>, 'time' | 'seq' | 'sidecar' | 'instance'>;
