/**
 * Connections that were opened to us: from an app (egress) or from a peer, inside a session (ingress). Each
 * request becomes a Call, as the connection's Router says.
 */
import type { HeaderField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';
import { Connection, type ConnectionHandler } from '../http2/connection.ts';
import { ConnectionError, ErrorCode, type StreamError } from '../http2/errors.ts';
import type { Message } from '../http2/message.ts';
import type { Stream } from '../http2/stream.ts';
import type { Session } from '../session/session.ts';
import type { Series } from '../telemetry/series.ts';
import type { RecordFlood } from '../transport/errors.ts';
import { reportBug } from './bugreport.ts';
import { Call, type CallPlan } from './call.ts';
import type { RelayContext } from './context.ts';
import { RelayError } from './errors.ts';
import { FloodReport } from './floodreport.ts';
import type { MemoryHolder, MemoryShare, PeerMemory } from './peermemory.ts';
import { grpcErrorHeaders } from './reply.ts';
import type { Router } from './router.ts';
import { closedAfter, MeteredSink, PEER_GOAWAY, type Wire } from './wire.ts';

export interface DownstreamOptions {
  readonly wire: Wire;
  /** The other end, for logs. */
  readonly remote: string;
  readonly router: Router;
  /** The session that the connection belongs to; without one it is an app's. */
  readonly session?: Session;
  /** What the session's peer may have us keep. */
  readonly memory?: PeerMemory;
  readonly onClosed: (connection: DownstreamConnection, reason: string, detail: string) => void;
}

/** How long the PING of a graceful GOAWAY may take before the second step is taken without it. */
const DRAIN_PING_MS = 1000;

export class DownstreamConnection implements ConnectionHandler, MemoryHolder {
  readonly connection: Connection;
  readonly wire: Wire;
  readonly remote: string;
  readonly session: Session | undefined;
  readonly #context: RelayContext;
  readonly #router: Router;
  readonly #floods: FloodReport;
  readonly #bytesIn: Series;
  readonly #recordsIn: Series | undefined;
  readonly #memory: MemoryShare | undefined;
  #goaway: string | undefined;
  #endDetail: string | undefined;
  #endReason: string | undefined;

  constructor(context: RelayContext, options: DownstreamOptions) {
    this.#context = context;
    this.#router = options.router;
    this.wire = options.wire;
    this.remote = options.remote;
    this.session = options.session;
    const side = options.session === undefined ? 'app' : 'peer';
    const records = side === 'peer' ? context.metrics.records : undefined;
    this.#floods = new FloodReport(context, side, options.remote, options.session);
    const sink = new MeteredSink(options.wire, context.metrics.bytes.of(side, 'out'), records?.of('out'));
    this.#bytesIn = context.metrics.bytes.of(side, 'in');
    this.#recordsIn = records?.of('in');
    this.connection = new Connection({
      role: 'server',
      sink,
      handler: this,
      monotonic: context.monotonic,
      schedule: context.turn.schedule,
      ...context.http2For(options.session === undefined ? 'app' : 'session', 'server'),
    });
    const { wire, connection } = this;
    const leaveLog =
      options.session && context.frameLogging.join(options.session, connection, options.remote);
    const memory = options.session && options.memory?.join(options.session.peer, this);
    this.#memory = memory;
    const onDrain = (): void => connection.drained();
    const onClose = (reason: string, detail: string, flood?: RecordFlood): void => {
      if (flood !== undefined) this.#floods.connection(flood, detail);
      memory?.leave();
      leaveLog?.();
      connection.transportClosed();
      options.onClosed(this, this.#endReason ?? reason, this.#endDetail ?? closedAfter(this.#goaway, detail));
    };
    const onData = (octets: Buffer): void => this.receive(octets);
    wire.onDrain = onDrain;
    wire.onClose = onClose;
    wire.onData = onData;
  }

  /** Takes what came: from the wire, or before there was one. */
  receive(octets: Buffer): void {
    this.#bytesIn.value += octets.length;
    if (this.#recordsIn !== undefined) this.#recordsIn.value++;
    this.#context.replays.newRead();
    this.#context.turn.receive(this.connection, octets);
    this.#memory?.update();
  }

  onRequest(stream: Stream, list: HeaderList, message: Message, fin: boolean): void {
    if (this.session?.takesCalls === false) {
      this.#refuseLate(stream, this.session);
      return;
    }
    const plan = this.#planOf(list, message);
    const call = new Call(this.#context, plan, stream, fin, this.session);
    if (plan.refusal !== undefined) {
      this.#router.refused(plan);
      call.fail(plan.refusal);
      return;
    }
    const verdict = this.#router.admit(plan);
    if (verdict === undefined) call.start();
    else if (verdict instanceof RelayError) call.fail(verdict);
    else this.#admitLater(call, verdict);
  }

  /**
   * The session's time is over, and the sweep has not come to it. Behind a GOAWAY the other side sends the refused call
   * once more, in another session.
   */
  #refuseLate(stream: Stream, session: Session): void {
    session.drainIfOver();
    stream.reset(ErrorCode.REFUSED_STREAM);
    // Not now: a connection does not expect its end while it reads.
    this.#context.clock.after(0, () => session.endIfOver());
  }

  /** A Message belongs to one connection, and stands for all requests of a kind: what is routed once is kept there. */
  #planOf(list: HeaderList, message: Message): CallPlan {
    const known = message.plan as CallPlan | undefined;
    if (known !== undefined) {
      return known.source === list ? known : this.#router.planLike(known, list, message);
    }
    const plan = this.#router.plan(list, message);
    // Credentials are not kept for longer than their call.
    message.plan = list.fields.some(isSensitive) ? { ...plan, source: NO_FIELDS, list: NO_FIELDS } : plan;
    return plan;
  }

  #admitLater(call: Call, verdict: Promise<RelayError | undefined>): void {
    call.delayed = true;
    verdict.then(
      (error) => {
        if (error === undefined) call.start();
        else call.fail(error);
      },
      (error) => {
        this.#context.log.error({ error: String(error) }, 'admission failed');
        call.fail(
          new RelayError('internal', 'the sidecar could not decide about its limits; its log says why', {
            cause: error,
          }),
        );
      },
    );
  }

  onOversizeRequest(stream: Stream): void {
    const { headerListSize, headerFields } = this.#context.http2;
    const message = `the request's metadata is above ${headerListSize} bytes or ${headerFields} fields; send less, or raise http2.headerListSize`;
    stream.sendHeaders(grpcErrorHeaders(new RelayError('headers-too-large', message)), true);
    this.#context.metrics.errors.of('headers-too-large').inc();
  }

  onStreamError(streamId: number, error: StreamError): void {
    this.#floods.stream(error);
    this.#context.log.debug({ remote: this.remote, streamId, error: error.message }, 'stream error');
  }

  onEnd(error: ConnectionError | undefined): void {
    if (error !== undefined) {
      this.#endReason = error.kind === undefined ? 'protocol-error' : 'flood';
      this.#endDetail = error.message;
      reportBug(this.#context.log, this.remote, error);
      if (error.kind !== undefined) this.#floods.connection(error.kind, error.message);
      this.wire.draining(this.#endReason);
    }
    this.wire.close();
  }

  onReady(): void {}

  onRoom(): void {}

  onGoaway(_last: number, _code: number, debug: string): void {
    this.wire.draining(PEER_GOAWAY);
    if (debug !== '') this.#goaway = `GOAWAY: ${debug}`;
    this.session?.announced(debug);
  }

  /** Octets that are kept for the other end: what it sent, what it is sent. */
  get octets(): number {
    return this.connection.held + this.connection.queued + this.wire.backlog;
  }

  /** All connections of the peer together hold too much, and this one most. */
  cut(limit: number): void {
    const message = `the connections of this peer hold more than ${limit} octets`;
    this.connection.fail(new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, message, { kind: 'peer-memory' }));
  }

  /** To be called about once a second. */
  sweep(): void {
    this.connection.sweep();
    this.#memory?.update();
  }

  /** Takes no new calls, lets those under way finish, then ends. */
  drain(why: string): void {
    this.wire.draining(why);
    this.connection.drain(why);
    this.#context.clock.after(DRAIN_PING_MS, () => this.connection.finishDrain());
  }

  /** Ends now: calls under way are told, and the other side why. */
  end(why?: string): void {
    this.wire.draining(this.session?.endReason ?? 'shutdown');
    this.connection.shutDown(why);
  }
}

const NO_FIELDS = HeaderList.of([]);

function isSensitive({ sensitive }: HeaderField): boolean {
  return sensitive;
}
