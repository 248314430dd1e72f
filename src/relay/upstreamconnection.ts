import { Connection, type ConnectionHandler } from '../http2/connection.ts';
import { type ConnectionError, ErrorCode, errorName, type StreamError } from '../http2/errors.ts';
import type { Session } from '../session/session.ts';
import type { RecordFlood } from '../transport/errors.ts';
import { reportBug } from './bugreport.ts';
import type { RelayContext } from './context.ts';
import { FloodReport } from './floodreport.ts';
import type { Upstream, UpstreamOptions } from './upstream.ts';
import { closedAfter, MeteredSink, PEER_GOAWAY, type Wire } from './wire.ts';

/** A wire that has been dialled, and for a peer the session on it. */
export interface Dialled {
  readonly wire: Wire;
  readonly session: Session | undefined;
  /** The other end, for the audit. */
  readonly remote: string;
}

/**
 * While a connection has so many octets still to send, no further call is put on it: headers know no flow control,
 * and a wire whose backlog grows on and on is cut off with everybody's calls.
 */
const OPEN_BACKLOG = 4 * 1024 * 1024;

/** One connection of an Upstream: HTTP/2 over a wire, on which calls have their streams. */
export class UpstreamConnection implements ConnectionHandler {
  readonly connection: Connection;
  readonly wire: Wire;
  readonly session: Session | undefined;
  /** Calls that have a stream here. */
  calls = 0;
  /** The peer's SETTINGS have come. */
  isReady = false;
  readonly upstream: Upstream;
  readonly #context: RelayContext;
  readonly #remote: string;
  readonly #floods: FloodReport;
  #goaway: string | undefined;
  #wireClosed: string | undefined;
  #drainDue: string | undefined;

  constructor(upstream: Upstream, context: RelayContext, dialled: Dialled, options: UpstreamOptions) {
    const { kind, firstStreamId } = options;
    this.upstream = upstream;
    this.#context = context;
    this.#remote = dialled.remote;
    this.wire = dialled.wire;
    this.session = dialled.session;
    const side = kind === 'app' ? 'local-app' : 'peer';
    const records = side === 'peer' ? context.metrics.records : undefined;
    this.#floods = new FloodReport(context, side, dialled.remote, dialled.session);
    const sink = new MeteredSink(dialled.wire, context.metrics.bytes.of(side, 'out'), records?.of('out'));
    const bytesIn = context.metrics.bytes.of(side, 'in');
    const recordsIn = records?.of('in');
    this.connection = new Connection({
      role: 'client',
      sink,
      handler: this,
      monotonic: context.monotonic,
      schedule: context.turn.schedule,
      firstStreamId,
      ...context.http2For(kind, 'client'),
    });
    const { wire, connection } = this;
    const leaveLog =
      dialled.session && context.frameLogging.join(dialled.session, connection, dialled.remote);
    const onDrain = (): void => {
      connection.drained();
      upstream.room();
    };
    const onClose = (reason: string, detail: string, flood?: RecordFlood): void => {
      if (flood !== undefined) this.#floods.connection(flood, detail);
      leaveLog?.();
      this.#closed(reason, detail);
    };
    const onData = (octets: Buffer): void => {
      bytesIn.value += octets.length;
      if (recordsIn !== undefined) recordsIn.value++;
      context.turn.receive(connection, octets);
    };
    wire.onDrain = onDrain;
    wire.onClose = onClose;
    wire.onData = onData;
  }

  #closed(reason: string, detail: string): void {
    const { error } = this.connection;
    this.#wireClosed = detail === '' ? reason : `${reason}: ${detail}`;
    this.connection.transportClosed();
    const { upstream } = this;
    if (error !== undefined) {
      upstream.closed(this, error.kind === undefined ? 'protocol-error' : 'flood', error.message);
    } else if (reason === 'local-closed' && this.#goaway !== undefined) {
      // We closed it because the other side had asked us to.
      upstream.closed(this, 'peer-closed', this.#goaway);
    } else upstream.closed(this, reason, closedAfter(this.#goaway, detail));
  }

  /** What it takes a place as, together with the other connections of its session. */
  get place(): object {
    return this.session ?? this;
  }

  /** Why it ended, for the calls that it takes along. */
  get endReason(): string {
    const { error } = this.connection;
    if (error !== undefined) return error.message;
    return [this.#goaway, this.#wireClosed].filter((text) => text !== undefined).join(', then ') || 'closed';
  }

  /** Takes no new calls, lets those under way finish, then ends. */
  drain(why: string): void {
    this.wire.draining(why);
    this.connection.drain(why);
  }

  /** The same, once it is open: calls may wait for that. */
  drainOnceReady(why: string): void {
    if (this.isReady) this.drain(why);
    else this.#drainDue = why;
  }

  /** Ends now, with its session: calls under way are told, and the other side why. */
  end(session: Session): void {
    this.close(session.endReason ?? 'shutdown', session.farewell);
  }

  /** Ends now; `farewell` is what the other side is told. */
  close(why: string, farewell = why): void {
    this.wire.draining(why);
    this.connection.shutDown(farewell);
  }

  /** A call that was refused here may be sent again: always if the connection ends, else within a budget. */
  mayRetry(): boolean {
    return this.connection.draining || this.upstream.takeRetry();
  }

  /** A call may be put on it now. */
  get hasRoom(): boolean {
    // The connection counts up to its own end what it wrote until the wire is empty, however much of it has gone.
    return this.canOpen && Math.max(this.wire.backlog, this.connection.backlog) < OPEN_BACKLOG;
  }

  /** It has streams free, its session's time is not over, and its other end has not fallen silent. */
  get canOpen(): boolean {
    return this.connection.canOpen && !this.wire.silent && this.session?.takesCalls !== false;
  }

  onRequest(): void {
    throw new Error('a client-role connection has no requests');
  }

  onOversizeRequest(): void {
    this.onRequest();
  }

  onReady(): void {
    this.isReady = true;
    this.upstream.opened(this);
    if (this.#drainDue !== undefined) this.drain(this.#drainDue);
  }

  onRoom(): void {
    this.upstream.room();
  }

  onGoaway(_last: number, code: number, debug: string): void {
    this.wire.draining(PEER_GOAWAY);
    const what = code === ErrorCode.NO_ERROR ? 'GOAWAY' : `GOAWAY ${errorName(code)}`;
    // The second step of a graceful end often does not repeat the reason.
    if (debug !== '' || this.#goaway === undefined) this.#goaway = debug === '' ? what : `${what}: ${debug}`;
    this.session?.announced(debug);
    this.upstream.retire(this);
    if (code === ErrorCode.ENHANCE_YOUR_CALM) this.upstream.calm(this.#goaway);
    this.upstream.room();
  }

  onStreamError(streamId: number, error: StreamError): void {
    this.#floods.stream(error);
    this.upstream.streamError(streamId, error);
  }

  onEnd(error: ConnectionError | undefined): void {
    if (error !== undefined) {
      reportBug(this.#context.log, this.#remote, error);
      if (error.kind !== undefined) this.#floods.connection(error.kind, error.message);
      this.wire.draining(error.kind === undefined ? 'protocol-error' : 'flood');
    }
    this.wire.close();
    this.upstream.retire(this);
    if (error !== undefined) this.upstream.neverReady(this);
  }
}
