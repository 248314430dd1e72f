import { inspect } from 'node:util';
import type { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../clock/clock.ts';
import type { LimitStatus } from '../limit/ratelimits.ts';
import { GrpcStatus } from '../relay/errors.ts';
import type { Session } from '../session/session.ts';
import type { SessionCounters } from '../session/sessionowner.ts';
import type { CallContext, CallSession } from './callcontext.ts';
import { CallError } from './callerror.ts';

/** What grpc-js gives to handlers of every kind. */
export interface GrpcServerCall {
  readonly metadata: Metadata;
  cancelled: boolean;
  getPath(): string;
  getDeadline(): Date | number;
  sendMetadata(metadata: Metadata): void;
  on(event: 'cancelled', listener: () => void): unknown;
}

/** What served calls need of where they are served. */
export interface CallHost {
  readonly clock: Clock;
  readonly makeMetadata: () => Metadata;
  readonly limitsOf: (session: Session) => readonly LimitStatus[];
}

/** A call that a handler of this program answers. */
export class ServedCall implements CallContext {
  readonly #host: CallHost;
  readonly #call: GrpcServerCall;
  readonly #session: Session;
  #view: CallSession | undefined;
  #trailers: Metadata | undefined;
  #controller: AbortController | undefined;
  #over = false;
  /** Why nobody waits for the answer; undefined if it was given. */
  #reason: CallError | undefined;
  #heeds = false;
  #endings: Array<(reason: CallError) => void> = [];
  #stopListening: (() => void) | undefined;

  constructor(host: CallHost, call: GrpcServerCall, session: Session) {
    this.#host = host;
    this.#call = call;
    this.#session = session;
  }

  get session(): CallSession {
    this.#view ??= new SessionView(this.#session, this.#host);
    return this.#view;
  }

  get peer(): string {
    return this.#session.peer;
  }

  get service(): string {
    const path = this.#call.getPath();
    return path.slice(1, path.lastIndexOf('/'));
  }

  get method(): string {
    const path = this.#call.getPath();
    return path.slice(path.lastIndexOf('/') + 1);
  }

  get metadata(): Metadata {
    return this.#call.metadata;
  }

  get deadline(): Date | undefined {
    const at = Number(this.#call.getDeadline());
    return Number.isFinite(at) ? new Date(at) : undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      this.onEnd((reason) => controller.abort(reason));
    }
    return this.#controller.signal;
  }

  get trailers(): Metadata {
    this.#trailers ??= this.#host.makeMetadata();
    return this.#trailers;
  }

  sendMetadata(given: Metadata | Readonly<Record<string, string | Buffer>>): void {
    this.#call.sendMetadata(isMetadata(given) ? given : this.#metadataOf(given));
  }

  #metadataOf(given: Readonly<Record<string, string | Buffer>>): Metadata {
    const metadata = this.#host.makeMetadata();
    for (const [key, value] of Object.entries(given)) metadata.set(key, value);
    return metadata;
  }

  // ---- for those who run the handler ---------------------------------------------------------------

  /** The answer has been given, or nobody waits for it. */
  get over(): boolean {
    return this.#over;
  }

  /** Why nobody waits for the answer. */
  get reason(): CallError | undefined {
    return this.#reason;
  }

  /** The trailers, if the handler has any. */
  get ownTrailers(): Metadata | undefined {
    return this.#trailers;
  }

  /** Calls `listener` when nobody waits for the answer any more: at once, if that is so. */
  onEnd(listener: (reason: CallError) => void): void {
    this.#heed();
    if (this.#reason !== undefined) listener(this.#reason);
    else if (!this.#over) this.#endings.push(listener);
  }

  /** The handler has ended, and its answer goes out. */
  answered(): void {
    this.#over = true;
    this.#endings = [];
    this.#stopListening?.();
  }

  /** Most unary calls end without anybody listening for their end. */
  #heed(): void {
    if (this.#heeds || this.#over) return;
    this.#heeds = true;
    if (this.#call.cancelled) {
      this.#cancelled();
      return;
    }
    this.#call.on('cancelled', () => this.#cancelled());
    // A cut session has its calls reset one after the other, at the pace that their server bears.
    this.#stopListening = this.#session.listen({ disposed: () => this.#cancelled() });
    if (this.#over) this.#stopListening();
  }

  #cancelled(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stopListening?.();
    const reason = this.#whyCancelled();
    this.#reason = reason;
    const endings = this.#endings;
    this.#endings = [];
    for (const tell of endings) tell(reason);
  }

  #whyCancelled(): CallError {
    const { endReason } = this.#session;
    if (endReason !== undefined) {
      return new CallError(GrpcStatus.UNAVAILABLE, `the session with the caller has ended (${endReason})`);
    }
    const { deadline } = this;
    return deadline !== undefined && this.#host.clock.now() >= deadline.getTime()
      ? new CallError(GrpcStatus.DEADLINE_EXCEEDED, 'the deadline of the call is over')
      : new CallError(GrpcStatus.CANCELLED, 'the caller does not wait for the answer any more');
  }
}

function isMetadata(given: object): given is Metadata {
  return typeof (given as Metadata).toHttp2Headers === 'function';
}

class SessionView implements CallSession {
  readonly #session: Session;
  readonly #host: CallHost;
  #endedAt: number | undefined;

  constructor(session: Session, host: CallHost) {
    this.#session = session;
    this.#host = host;
  }

  get id(): string {
    return this.#session.id;
  }

  get peer(): string {
    return this.#session.peer;
  }

  get createdAt(): Date {
    return new Date(this.#session.createdAt);
  }

  get expiresAt(): Date {
    if (!this.ended) return new Date(this.#session.expiresAt);
    this.#endedAt ??= Math.min(this.#host.clock.now(), this.#session.expiresAt);
    return new Date(this.#endedAt);
  }

  get ended(): boolean {
    return this.#session.isDisposed;
  }

  get metadata(): Record<string, unknown> {
    return this.#session.metadata;
  }

  get counters(): Readonly<SessionCounters> {
    return this.#session.counters;
  }

  get limits(): readonly LimitStatus[] {
    return this.ended ? [] : this.#host.limitsOf(this.#session);
  }

  toJSON(): Record<string, unknown> {
    const { id, peer, createdAt, expiresAt, ended, metadata, counters, limits } = this;
    return { id, peer, createdAt, expiresAt, ended, metadata, counters, limits };
  }

  [inspect.custom](): Record<string, unknown> {
    return this.toJSON();
  }
}
