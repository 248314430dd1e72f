/**
 * One call: the stream it came on (`down`) and the stream it goes on by (`up`). Frames pass through here
 * without being rebuilt; what is read of them is headers, lengths and the end.
 *
 *   waiting (no `up`; octets that come are kept, bounded by the stream's window)
 *     -> open (both streams; each side's octets give credit to the other's)
 *       -> waiting again, if the other side refused it unprocessed and all of it can be sent once more
 *       -> done (both sides ended, or either reset, or the sidecar answered itself)
 */
import type { WheelEntry } from '../clock/wheel.ts';
import { headerField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';
import { ChunkQueue } from '../http2/chunkqueue.ts';
import { ErrorCode } from '../http2/errors.ts';
import type { Message } from '../http2/message.ts';
import type { ResetOrigin, Stream, StreamHandler } from '../http2/stream.ts';
import type { Decision } from '../policy/accesspolicy.ts';
import type { Session } from '../session/session.ts';
import type { CallSeries } from '../telemetry/metrics.ts';
import type { CallSpan } from '../telemetry/tracing.ts';
import { withCaller } from './callerfields.ts';
import type { RelayContext } from './context.ts';
import { GrpcStatus, RELAY_ERRORS, RelayError } from './errors.ts';
import type { Forwarding } from './forwarding.ts';
import { SentOctets } from './replaylog.ts';
import {
  grpcErrorHeaders,
  grpcErrorTrailers,
  httpErrorHeaders,
  saysUndelivered,
  withoutError,
} from './reply.ts';
import { revokedError } from './revokederror.ts';
import { errorOfCaller, statusOfHttp, statusOfReset } from './statusmap.ts';
import { formatTimeout } from './timeout.ts';
import type { Upstream } from './upstream.ts';
import type { UpstreamConnection } from './upstreamconnection.ts';

/** What routing made of a request; kept with a memoised header list and used by every call that repeats it. */
export interface CallPlan {
  /** What it was made of. */
  readonly source: HeaderList;
  readonly direction: 'egress' | 'ingress';
  readonly service: string;
  readonly method: string;
  /** The headers to send on. */
  readonly list: HeaderList;
  readonly grpc: boolean;
  /** From grpc-timeout, in ms. Egress holds it; ingress only shortens what it passes on. */
  readonly timeoutMs: number | undefined;
  readonly series: CallSeries;
  readonly target: CallTarget;
  /** Set if every such call is refused. */
  readonly refusal: RelayError | undefined;
  /** Ingress: what the policy said. */
  readonly decision?: Decision | undefined;
  /** What it became at the endpoint that calls went to last, if that was discovered: made once, not for every call. */
  forwarded?: { readonly by: Forwarding; readonly plan: CallPlan } | undefined;
}

/** Where calls go: it calls `call.ready` or `call.fail`, now or later. */
export interface CallTarget {
  assign(call: Call): void;
  /** One of the target's upstreams could not take the call; nothing of it was sent. */
  reassign(call: Call, error: RelayError): void;
  /** The other side of `from` has refused the call unprocessed: may it be assigned once more? */
  mayRetry(call: Call, from: UpstreamConnection): boolean;
  /** For errors that name where a call was going. */
  readonly lostCode: 'session-lost' | 'app-lost';
  readonly name: string;
}

/** Where calls wait for an address, a connection or a stream. */
export interface WaitingPlace {
  /** The call is over. */
  leave(call: Call): void;
}

/** Header lists above this are not kept for as long as their call lasts: a peer may have thousands of calls open. */
const KEPT_LIST = 4096; // octets, RFC 9113 section 6.5.2
/** Who opens streams only to reset them waits less for an answer. */
const LONG_WAIT_MS = 1000;
const NOTHING = Buffer.alloc(0);
const NO_FIELDS = HeaderList.of([]);
/** How often a call is sent at most, if it is refused unprocessed. */
const MAX_SENDS = 3;

export class Call implements StreamHandler, WheelEntry {
  plan: CallPlan;
  /** The target's upstreams that this call has been to and not got through. */
  tried: Upstream[] | undefined;
  /** Where the call waits, if it does ... */
  waitingAt: WaitingPlace | undefined;
  /** ... and since when, there and elsewhere: monotonic milliseconds. */
  waitsSince: number | undefined;
  /** It has waited: the deadline that is sent on must be shortened. */
  delayed = false;

  wheelSlot: WheelEntry[] | undefined = undefined;
  wheelIndex = 0;
  wheelTurns = 0;

  readonly #context: RelayContext;
  readonly #down: Stream;
  #up: Stream | undefined;
  #upConnection: UpstreamConnection | undefined;
  #session: Session | undefined;
  /** What came before `up` was there. */
  #body: ChunkQueue | undefined;
  #requestFin: boolean;
  /** There is no DATA at all. A half-close in DATA stays there: gRPC servers wait for it ("gRPC over HTTP/2", Requests). */
  readonly #endedByHeaders: boolean;
  #requestTrailers: HeaderList | undefined;
  /** What could be sent again; null if that is not whole any more. */
  #sent: SentOctets | null | undefined;
  /** Octets of `#body`, or queued at `up`, that are sent again: credit for them has been returned. */
  #replayed = 0;
  #refusals = 0;
  #responseStarted = false;
  #done = false;
  readonly #startedAt: number;
  #requestBytes = 0;
  #responseBytes = 0;
  #grpcStatus = -1;
  #httpStatus = 0;
  #error: string | undefined;
  readonly #span: CallSpan | undefined;

  constructor(context: RelayContext, plan: CallPlan, down: Stream, fin: boolean, session?: Session) {
    this.#context = context;
    this.plan = plan;
    this.#down = down;
    this.#requestFin = fin;
    this.#endedByHeaders = fin;
    this.#session = session;
    this.#startedAt = context.clock.monotonic();
    session?.callStarted();
    context.callStarted(plan.direction);
    down.handler = this;
    if (context.tracing.enabled) this.#span = this.#startSpan();
  }

  #startSpan(): CallSpan {
    const { direction, service, method, list } = this.plan;
    return this.#context.tracing.startCall({
      direction,
      path: method,
      service,
      peer: this.#session?.peer,
      sessionId: this.#session?.id,
      traceparent: list.get('traceparent'),
      tracestate: list.get('tracestate'),
    });
  }

  /** What its headers hold (RFC 9113, 6.5.2). */
  get headerOctets(): number {
    return this.plan.list.size;
  }

  get done(): boolean {
    return this.#done;
  }

  /** Sends the call to its target. */
  start(): void {
    if (this.#done) return;
    const { timeoutMs, direction } = this.plan;
    if (timeoutMs !== undefined && direction === 'egress') this.#context.wheel.add(this, timeoutMs);
    this.plan.target.assign(this);
  }

  /** A connection has a stream free for this call. */
  ready(to: UpstreamConnection): void {
    if (this.#done) return;
    const { forwarding } = to.upstream;
    if (forwarding !== undefined) this.plan = forwarding.apply(this.plan);
    this.waitsSince = undefined;
    this.#upConnection = to;
    to.calls++;
    if (to.session !== undefined) {
      this.#session = to.session;
      to.session.callStarted();
    }
    const body = this.#body;
    this.#body = undefined;
    const trailers = this.#requestTrailers;
    const fin = this.#requestFin && trailers === undefined;
    const endApart = fin && !this.#endedByHeaders && (body === undefined || body.length === 0);
    const up = to.connection.open(this.#listToSend(), fin && !endApart, this, body);
    this.#up = up;
    if (trailers !== undefined) up.sendTrailers(trailers);
    else if (endApart) up.send(NOTHING, 0, 0, true);
    if (this.plan.list.size > KEPT_LIST) this.plan = { ...this.plan, source: NO_FIELDS, list: NO_FIELDS };
  }

  /** The headers to send on, with the deadline shortened by the time the call has waited. */
  #listToSend(): HeaderList {
    const { list, timeoutMs } = this.plan;
    if (timeoutMs === undefined || !this.delayed) return list;
    const left = timeoutMs - (this.#context.clock.monotonic() - this.#startedAt);
    const timeout = headerField('grpc-timeout', formatTimeout(left));
    return HeaderList.of(list.fields.map((field) => (field.name === 'grpc-timeout' ? timeout : field)));
  }

  // ---- from either side ----------------------------------------------------------------------------

  onData(stream: Stream, buf: Buffer, start: number, end: number, fin: boolean): void {
    if (stream === this.#down) {
      this.#requestBytes += end - start;
      if (fin) this.#requestFin = true;
      if (!this.#responseStarted && this.#sent !== null) this.#keep(buf, start, end);
      const up = this.#up;
      if (up !== undefined) stream.credit(up.send(buf, start, end, fin));
      else if (end > start) this.#park(buf, start, end);
      return;
    }
    this.#responseBytes += end - start;
    stream.credit(this.#down.send(buf, start, end, fin));
    if (fin) this.#complete();
  }

  /** Copies what is sent, as long as the call could be sent again. */
  #keep(buf: Buffer, start: number, end: number): void {
    if (end === start) return;
    const sent = this.#sent as SentOctets | undefined;
    if (sent === undefined) this.#sent = SentOctets.of(this.#context.replays, buf, start, end) ?? null;
    else if (!sent.add(buf, start, end)) this.#sent = null;
  }

  #park(buf: Buffer, start: number, end: number): void {
    this.#body ??= new ChunkQueue();
    this.#body.push(buf, start, end);
  }

  onTaken(stream: Stream, n: number): void {
    if (stream === this.#down) this.#up?.credit(n);
    else this.#down.credit(n - this.#takeReplayed(n));
  }

  /** How many of `n` octets that went on had gone on before. */
  #takeReplayed(n: number): number {
    const again = Math.min(n, this.#replayed);
    this.#replayed -= again;
    return again;
  }

  onHeaders(_stream: Stream, given: HeaderList, message: Message, fin: boolean): void {
    let list = given;
    if (fin && message.grpcStatus === GrpcStatus.UNAVAILABLE && saysUndelivered(given)) {
      if (this.plan.direction === 'ingress') list = withoutError(given);
      else if (this.#goElsewhere()) return;
    }
    if (message.status >= 200) {
      this.#responseStarted = true;
      this.#httpStatus = message.status;
      if (message.grpcStatus >= 0) this.#grpcStatus = message.grpcStatus;
    }
    this.#down.sendHeaders(list, fin);
    if (fin) this.#complete();
  }

  onTrailers(stream: Stream, list: HeaderList, message: Message): void {
    if (stream === this.#down) {
      this.#requestFin = true;
      const trailers = this.plan.direction === 'ingress' ? withCaller(list, []) : list;
      this.#requestTrailers = trailers;
      this.#up?.sendTrailers(trailers);
      return;
    }
    this.#grpcStatus = message.grpcStatus;
    this.#down.sendTrailers(list);
    this.#complete();
  }

  onShutDown(stream: Stream): void {
    if (stream !== this.#down) return;
    const { name } = this.plan.target;
    const revoked = this.plan.direction === 'ingress' ? revokedError(this.#session) : undefined;
    if (revoked !== undefined) {
      this.fail(revoked);
    } else if (this.#up === undefined) {
      this.fail(new RelayError('draining', `the sidecar shut down before the call to ${name} was sent`));
    } else if (this.#session?.isDisposed === true && this.plan.direction === 'ingress') {
      this.fail(new RelayError('session-lost', `the session ended while the call to ${name} was under way`));
    } else {
      this.fail(
        new RelayError(
          'draining',
          `the sidecar shut down before ${name} had answered; it may have done its work`,
        ),
      );
    }
  }

  onReset(stream: Stream, code: number, origin: ResetOrigin): void {
    if (stream === this.#down && this.#mayBeGivenUp()) stream.excuse();
    if (this.#done) {
      // What still waits for a side that is gone, or does not take it, is given up.
      if (stream === this.#down) this.#up?.reset(ErrorCode.CANCEL);
      else if (origin === 'stalled') this.#down.reset(ErrorCode.CANCEL);
      return;
    }
    if (stream === this.#down) {
      this.#grpcStatus = GrpcStatus.CANCELLED;
      this.#error = errorOfCaller(origin);
      this.#up?.reset(origin === 'remote' && code !== ErrorCode.NO_ERROR ? code : ErrorCode.CANCEL);
      this.#finish();
      return;
    }
    this.#onUpReset(code, origin);
  }

  /**
   * An app that gives up this call is no attacker: it has had its answer, or waited for it, or the deadline has come.
   * Inside a session every reset counts, and the sidecar that sends them keeps to that.
   */
  #mayBeGivenUp(): boolean {
    if (this.plan.direction === 'ingress') return false;
    if (this.#done || this.#responseStarted) return true;
    const age = this.#context.clock.monotonic() - this.#startedAt;
    const { timeoutMs } = this.plan;
    // The app's clock began earlier, and its octets may have waited for us: half of the time will do.
    return age >= LONG_WAIT_MS || (timeoutMs !== undefined && age * 2 >= timeoutMs);
  }

  #onUpReset(code: number, origin: ResetOrigin): void {
    switch (origin) {
      case 'connection':
        this.fail(this.#lost());
        break;
      case 'stalled':
        this.fail(
          new RelayError(
            'stalled',
            `${this.plan.target.name} took nothing of the request for too long while others waited behind it`,
          ),
        );
        break;
      case 'oversize':
        this.fail(this.#oversize());
        break;
      case 'local':
        this.fail(
          new RelayError(
            'app-protocol-error',
            `${this.plan.target.name} answered in a way that breaks HTTP/2`,
          ),
        );
        break;
      case 'refused':
        if (!this.#sendAgain()) this.#resetDown(code);
        break;
      default:
        this.#resetDown(code);
    }
  }

  #lost(): RelayError {
    const revoked = revokedError(this.#upConnection?.session);
    if (revoked !== undefined) return revoked;
    const { name, lostCode } = this.plan.target;
    const what = lostCode === 'session-lost' ? `the session with ${name}` : `the connection to ${name}`;
    const why = this.#upConnection?.endReason ?? 'closed';
    return new RelayError(
      lostCode,
      `${what} ended while the call was under way (${why}); try again if the call may be repeated`,
    );
  }

  #oversize(): RelayError {
    const { name } = this.plan.target;
    const { headerListSize, headerFields } = this.#context.http2;
    return new RelayError(
      'headers-too-large',
      `the metadata that ${name} answered with is above ${headerListSize} bytes or ${headerFields} fields; answer with less, or raise http2.headerListSize`,
    );
  }

  /** The caller's own HTTP/2 knows what each code means, REFUSED_STREAM above all (safe to repeat). */
  #resetDown(code: number): void {
    this.#grpcStatus = statusOfReset(code);
    this.#down.reset(code);
    this.#finish();
  }

  /** Sends a call once more that was refused unprocessed; false if it has been answered, or is not whole any more. */
  #sendAgain(): boolean {
    const from = this.#upConnection as UpstreamConnection;
    if (++this.#refusals >= MAX_SENDS || this.#responseStarted || this.plan.list === NO_FIELDS) return false;
    const sent = this.#sent;
    const body = sent?.restore();
    if (sent !== undefined && body === undefined) return false;
    if (!this.plan.target.mayRetry(this, from)) return false;
    this.#body = body;
    this.#replayed = body === undefined ? 0 : body.length;
    this.#up = undefined;
    this.#leaveConnection();
    if (from.session !== undefined) this.#session = undefined;
    this.delayed = true;
    this.#context.metrics.retries.of(this.plan.direction).inc();
    this.plan.target.assign(this);
    return true;
  }

  /** The sidecar at the other end has no app: another endpoint may have one. */
  #goElsewhere(): boolean {
    const from = this.#upConnection as UpstreamConnection;
    from.upstream.appGone();
    const up = this.#up as Stream;
    if (!up.localClosed) up.reset(ErrorCode.NO_ERROR);
    return this.#sendAgain();
  }

  #leaveConnection(): void {
    const from = this.#upConnection;
    if (from === undefined) return;
    this.#upConnection = undefined;
    from.calls--;
    from.session?.callEnded();
  }

  // ---- the end -------------------------------------------------------------------------------------

  onTimeout(): void {
    const { target, timeoutMs } = this.plan;
    this.fail(
      new RelayError(
        'deadline-exceeded',
        `the call to ${target.name} was not answered within its ${timeoutMs} ms`,
      ),
    );
  }

  /** Answers the call in the sidecar's own name. */
  fail(error: RelayError): void {
    if (this.#done) return;
    this.#error = error.code;
    if (this.#refusals > 0 && this.#up === undefined && error.code !== 'deadline-exceeded') {
      // Refused before and not sent since: the caller shall know that it was not processed.
      this.#resetDown(ErrorCode.REFUSED_STREAM);
      return;
    }
    this.#context.metrics.errors.of(error.code).inc();
    this.#grpcStatus = RELAY_ERRORS[error.code].grpc;
    this.#up?.reset(ErrorCode.CANCEL);
    const down = this.#down;
    if (!this.plan.grpc) {
      if (this.#responseStarted) down.reset(ErrorCode.INTERNAL_ERROR);
      else {
        const body = Buffer.from(`${error.message}\n`);
        down.sendHeaders(httpErrorHeaders(error, body.length), false);
        down.send(body, 0, body.length, true);
      }
    } else if (this.#responseStarted) down.sendTrailers(grpcErrorTrailers(error));
    else down.sendHeaders(grpcErrorHeaders(error), true);
    this.#finish();
  }

  /** The answer is complete; what the caller still sends has nowhere to go. */
  #complete(): void {
    const up = this.#up;
    if (up !== undefined && !up.localClosed && !this.#requestFin) up.reset(ErrorCode.NO_ERROR);
    this.#finish();
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    const context = this.#context;
    if (this.wheelSlot !== undefined) context.wheel.remove(this);
    this.waitingAt?.leave(this);
    if (this.#body !== undefined) {
      this.#down.credit(this.#body.length - this.#replayed);
      this.#body = undefined;
    }
    this.#leaveConnection();
    const session = this.#session;
    if (session !== undefined) {
      if (this.plan.direction === 'ingress') session.callEnded();
      session.counters.bytesIn += this.plan.direction === 'egress' ? this.#responseBytes : this.#requestBytes;
      session.counters.bytesOut +=
        this.plan.direction === 'egress' ? this.#requestBytes : this.#responseBytes;
      if (this.#error !== undefined) session.counters.errors++;
    }
    const status = this.#status();
    const duration = context.clock.monotonic() - this.#startedAt;
    this.plan.series.record(status, duration / 1000);
    this.#span?.end(status, this.#error);
    context.callEnded(this.plan.direction);
    if (context.auditsCall(status)) this.#audit(status, duration);
  }

  #status(): number {
    if (this.#grpcStatus >= 0) return this.#grpcStatus;
    if (this.plan.grpc) return statusOfHttp(this.#httpStatus);
    return this.#httpStatus < 400 ? GrpcStatus.OK : GrpcStatus.UNKNOWN;
  }

  #audit(grpcStatus: number, durationMs: number): void {
    const { direction, service, method } = this.plan;
    this.#context.recorder.record({
      type: 'call.completed',
      direction,
      sessionId: this.#session?.id,
      peer: this.#session?.peer,
      service,
      method,
      grpcStatus: this.plan.grpc ? grpcStatus : undefined,
      httpStatus: this.#httpStatus === 0 ? undefined : this.#httpStatus,
      durationMs: Math.round(durationMs * 1000) / 1000,
      requestBytes: this.#requestBytes,
      responseBytes: this.#responseBytes,
      error: this.#error,
    });
  }
}
