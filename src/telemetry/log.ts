import { KeyObject } from 'node:crypto';
import type { DestinationStream, Logger as PinoLogger } from 'pino';
import type { Clock } from '../clock/clock.ts';
import { Secret } from '../crypto/secret.ts';

/** The least severe line that is written; `silent` writes none. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';
/** What varies of a line of the log, by name. */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * What the sidecar says about itself to its operator. (What peers and calls did goes to the audit.) Messages are
 * constant texts; whatever varies, above all what came from outside, goes into the fields, where it is bounded and escaped.
 */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** A logger whose every line has these fields too. */
  child(fields: LogFields): Logger;
  /** Resolves when everything is written, or a second has passed: for the end of the process. Never rejects. */
  flush(): Promise<void>;
}

/** A logger of a program that embeds a sidecar; pino's is one. */
export interface LogSink {
  /** For whoever looks for a fault. */
  debug(fields: LogFields, message: string): void;
  /** What goes as it should. */
  info(fields: LogFields, message: string): void;
  /** What somebody should look at. */
  warn(fields: LogFields, message: string): void;
  /** What does not work. */
  error(fields: LogFields, message: string): void;
}

export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
  flush: async () => {},
};

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly clock: Clock;
  /** Fields of every line. */
  readonly fields?: LogFields;
  /** Where lines go; standard error unless a test wants to read them. */
  readonly destination?: DestinationStream;
}

const STDERR = 2;
/** Lines that wait while standard error is blocked; further ones are lost, for a log never holds up a call. */
const MAX_BUFFERED_BYTES = 1 << 20;
const FLUSH_MS = 1000;

/** A logger that writes JSON lines to standard error through pino, which is loaded unless the level is `silent`. */
export async function openLogger(options: LoggerOptions): Promise<Logger> {
  if (options.level === 'silent') return silentLogger;
  const { default: pino } = await import('pino');
  let destination = options.destination;
  let flush = async (): Promise<void> => {};
  if (destination === undefined) {
    const stderr = new StandardError(
      pino.destination({ dest: STDERR, sync: false, maxLength: MAX_BUFFERED_BYTES }),
      options.clock,
    );
    destination = stderr;
    flush = () => stderr.flush();
  }
  const logger = pino(
    {
      level: options.level,
      base: null,
      messageKey: 'message',
      timestamp: () => `,"time":"${new Date(options.clock.now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }), log: printableFields },
    },
    destination,
  );
  return wrap(logger, flush).child(options.fields ?? {});
}

/** A program's own logger, which gets fields as ours are: bounded, printable, without secrets. */
export function adoptLogger(own: LogSink): Logger {
  const withFields = (base: LogFields): Logger => ({
    debug: (fields, message) => own.debug(printableFields({ ...base, ...fields }), message),
    info: (fields, message) => own.info(printableFields({ ...base, ...fields }), message),
    warn: (fields, message) => own.warn(printableFields({ ...base, ...fields }), message),
    error: (fields, message) => own.error(printableFields({ ...base, ...fields }), message),
    child: (fields) => withFields({ ...base, ...fields }),
    flush: async () => {},
  });
  return withFields({});
}

type Output = ReturnType<typeof import('pino')['default']['destination']>;

/** Standard error, written to without blocking. `flushSync` would overtake the line that is being written. */
class StandardError implements DestinationStream {
  readonly #output: Output;
  readonly #clock: Clock;
  #written = true;

  constructor(output: Output, clock: Clock) {
    this.#output = output;
    this.#clock = clock;
    output.on('drain', () => {
      this.#written = true;
    });
    output.on('error', () => {
      this.#written = true; // standard error is gone: nobody to tell
    });
  }

  write(line: string): void {
    this.#written = false;
    this.#output.write(line);
  }

  flush(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#clock.clear(timer);
        resolve();
      };
      const timer = this.#clock.after(FLUSH_MS, done);
      if (this.#written) done();
      else this.#output.once('drain', done).once('error', done);
    });
  }
}

function wrap(pino: PinoLogger, flush: () => Promise<void>): Logger {
  return {
    debug: (fields, message) => pino.debug(fields, message),
    info: (fields, message) => pino.info(fields, message),
    warn: (fields, message) => pino.warn(fields, message),
    error: (fields, message) => pino.error(fields, message),
    child: (fields) => wrap(pino.child(printableFields(fields)), flush),
    flush,
  };
}

const MAX_DEPTH = 4;
const MAX_ITEMS = 64;
const MAX_TEXT = 4096;
const SECRET = '[secret]';
/** Fields that are not printed whatever they hold. */
const SECRET_NAME =
  /^(?:authorization|cookie|set-cookie)$|private_?key|session_?key|secret|password|token|psk/i;
/** What JSON leaves as it is but a terminal may act upon. */
const HARMFUL = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

function printableFields(fields: LogFields): Record<string, unknown> {
  return printableObject(fields, 0);
}

function printableObject(fields: object, depth: number): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields).slice(0, MAX_ITEMS)) {
    out[name] = SECRET_NAME.test(name) && value !== undefined ? SECRET : printable(value, depth + 1);
  }
  return out;
}

/** `value` as something that may be written: no secrets, no raw bytes, bounded in depth, width and length. */
function printable(value: unknown, depth: number): unknown {
  if (typeof value === 'string') {
    const text = value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT - 1)}…` : value;
    return text.replace(HARMFUL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
  }
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'function' || typeof value === 'symbol') return undefined;
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Secret || value instanceof KeyObject) return SECRET;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (depth > MAX_DEPTH) return '[...]';
  if (value instanceof Error) return printableError(value, depth);
  if (Array.isArray(value)) return value.slice(0, MAX_ITEMS).map((item) => printable(item, depth + 1));
  if (value instanceof Map) return printableObject(Object.fromEntries(value), depth);
  if (value instanceof Set) return printable([...value], depth);
  return printableObject(value, depth);
}

/** Name, code, message, stack and causes; other properties of an error may hold anything and are left out. */
function printableError(error: Error, depth: number): Record<string, unknown> {
  const { name, message, stack, cause } = error;
  const code = (error as { code?: unknown }).code;
  return {
    name: printable(name, depth + 1),
    ...(code === undefined ? {} : { code: printable(code, depth + 1) }),
    message: printable(message, depth + 1),
    ...(stack === undefined ? {} : { stack: printable(stack, depth + 1) }),
    ...(cause === undefined ? {} : { cause: printable(cause, depth + 1) }),
  };
}
