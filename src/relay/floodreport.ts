import type { StreamError } from '../http2/errors.ts';
import type { Session } from '../session/session.ts';
import type { RelayContext } from './context.ts';

/** Tells audit and metrics which limits against abuse the other end of one connection has crossed. */
export class FloodReport {
  readonly #context: RelayContext;
  readonly #side: 'app' | 'peer' | 'local-app';
  readonly #remote: string;
  readonly #session: Session | undefined;
  /** Limits of streams, which are crossed again and again: each is an event once. */
  readonly #told = new Set<string>();

  constructor(
    context: RelayContext,
    side: 'app' | 'peer' | 'local-app',
    remote: string,
    session: Session | undefined,
  ) {
    this.#context = context;
    this.#side = side;
    this.#remote = remote;
    this.#session = session;
  }

  /** The connection ends for it. */
  connection(kind: string, detail: string): void {
    this.#context.metrics.floods.of(this.#side, kind).inc();
    this.#record(kind, detail);
  }

  /** One of its streams ended for it. */
  stream({ kind, message }: StreamError): void {
    this.#context.metrics.floods.of(this.#side, kind).inc();
    if (this.#told.has(kind)) return;
    this.#told.add(kind);
    this.#record(kind, message);
  }

  #record(kind: string, detail: string): void {
    this.#context.recorder.record({
      type: 'flood.detected',
      side: this.#side,
      remote: this.#remote,
      sessionId: this.#session?.id,
      peer: this.#session?.peer,
      kind,
      detail,
    });
  }
}
