/** One gRPC call of a program, on a stream to the egress in its own process: grpc-js's Call, as its clients use it. */
import type { Metadata, StatusObject } from '@grpc/grpc-js';
import type { Clock } from '../clock/clock.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import { ErrorCode } from '../http2/errors.ts';
import type { Message } from '../http2/message.ts';
import type { ResetOrigin, Stream, StreamHandler } from '../http2/stream.ts';
import { GrpcStatus } from '../relay/errors.ts';
import { statusOfHttp, statusOfReset } from '../relay/statusmap.ts';
import { metadataOf, requestHeaders, takeStatusMessage } from './callmetadata.ts';
import { CallWriter } from './callwriter.ts';
import type {
  AuthContext,
  CallCredentials,
  CallListener,
  Grpc,
  GrpcCall,
  MessageContext,
  ParentCall,
} from './grpctypes.ts';
import { framed, MessageError, MessageReader } from './messagereader.ts';

/** What a call needs of its channel. */
export interface CallHost {
  readonly grpc: Grpc;
  readonly clock: Clock;
  /** What the calls are for, as `:authority`. */
  readonly service: string;
  readonly userAgent: string;
  /** Octets of a message, -1 for no limit. */
  readonly maxReceive: number;
  readonly maxSend: number;
  /** Opens a stream for it, now or when there is one: `opened`, `again` or `unavailable` follows. */
  open(call: MeshCall, list: HeaderList): void;
  /** A call begins. */
  started(): void;
  /** A call that had begun is over. */
  ended(call: MeshCall): void;
}

interface CallTerms {
  readonly path: string;
  /** Milliseconds since the epoch, or Infinity. */
  readonly deadline: number;
  /** The call by which this one is made, if it shall end with that. */
  readonly parent: ParentCall;
  readonly number: number;
}

/** So often a call is put on a stream, if none was seen by the other side. */
const MAX_TRIES = 3;

export class MeshCall implements GrpcCall, StreamHandler {
  readonly #host: CallHost;
  readonly #terms: CallTerms;
  readonly #reader: MessageReader;
  readonly #writer = new CallWriter();
  #credentials: CallCredentials | undefined;
  #listener: CallListener | undefined;
  #list: HeaderList | undefined;
  #tries = 0;
  #stream: Stream | undefined;
  #reads = 0;
  /** What ends the call once all that came before it has been read. */
  #status: StatusObject | undefined;
  /** What has ended it. */
  #final: StatusObject | undefined;
  /** Its channel counts it among the open ones, which keep the process alive. */
  #counted = false;
  #deadlineTimer: unknown;
  #leaveParent: (() => void) | undefined;

  constructor(host: CallHost, terms: CallTerms) {
    this.#host = host;
    this.#terms = terms;
    this.#reader = new MessageReader(host.maxReceive, this);
    this.#runDeadline();
    if (terms.parent !== null) this.#heed(terms.parent);
  }

  // ---- grpc-js's Call ------------------------------------------------------------------------------

  start(metadata: Metadata, listener: CallListener): void {
    this.#listener = listener;
    if (this.#final !== undefined) {
      this.#tellEnd(this.#final);
      return;
    }
    this.#host.started();
    this.#counted = true;
    if (this.#credentials === undefined) {
      this.#begin(metadata);
      return;
    }
    const { path } = this.#terms;
    const serviceUrl = `https://${this.#host.service}${path.slice(0, path.lastIndexOf('/'))}`;
    const all = metadata.clone();
    this.#credentials.generateMetadata({ method_name: path, service_url: serviceUrl }).then(
      (own) => {
        if (this.#final !== undefined) return;
        all.merge(own);
        this.#begin(all);
      },
      (error: { code?: unknown; message?: string }) => {
        const code = typeof error.code === 'number' ? error.code : GrpcStatus.UNAUTHENTICATED;
        this.cancelWithStatus(code, `Failed to retrieve auth metadata: ${error.message}`);
      },
    );
  }

  sendMessageWithContext(context: MessageContext, message: Buffer): void {
    const { maxSend } = this.#host;
    if (maxSend >= 0 && message.length > maxSend) {
      const what = `Attempted to send message with a size larger than ${maxSend}`;
      this.cancelWithStatus(GrpcStatus.RESOURCE_EXHAUSTED, what);
    }
    this.#writer.write(framed(message), context.callback && (() => context.callback?.()));
  }

  startRead(): void {
    this.#reads++;
    this.#read();
  }

  halfClose(): void {
    this.#writer.halfClose();
  }

  cancelWithStatus(code: number, details: string): void {
    this.#end(this.#statusOf(code, details));
  }

  getPeer(): string {
    return this.#host.service;
  }

  getCallNumber(): number {
    return this.#terms.number;
  }

  setCredentials(credentials: CallCredentials): void {
    this.#credentials =
      this.#credentials === undefined ? credentials : this.#credentials.compose(credentials);
  }

  getAuthContext(): AuthContext {
    return { transportSecurityType: 'hauberk' };
  }

  // ---- the stream ----------------------------------------------------------------------------------

  /** The channel has opened a stream for it. */
  opened(stream: Stream): void {
    this.#stream = stream;
    this.#writer.use(stream);
  }

  /** What it waited for, or was put on, has gone before the other side could see it. */
  again(): void {
    this.#stream = undefined;
    this.#writer.leave();
    if (this.#final !== undefined || this.#list === undefined) return;
    if (++this.#tries > MAX_TRIES) this.unavailable('the mesh refused the call again and again');
    else this.#host.open(this, this.#list);
  }

  /** The channel cannot open one, and will not. */
  unavailable(details: string): void {
    this.#end(this.#statusOf(GrpcStatus.UNAVAILABLE, details));
  }

  onHeaders(_stream: Stream, list: HeaderList, message: Message, fin: boolean): void {
    if (message.status < 200) return;
    this.#writer.commit();
    if (fin) {
      this.#trailers(list, message);
    } else if (message.status !== 200 || !message.contentType.startsWith('application/grpc')) {
      const { status } = message;
      this.#end(this.#statusOf(statusOfHttp(status), `Received HTTP status code ${status}`));
    } else {
      const metadata = metadataOf(this.#host.grpc, list);
      process.nextTick(() => this.#listener?.onReceiveMetadata(metadata));
    }
  }

  onTrailers(_stream: Stream, list: HeaderList, message: Message): void {
    this.#trailers(list, message);
  }

  onData(_stream: Stream, buf: Buffer, start: number, end: number, fin: boolean): void {
    this.#reader.push(buf.subarray(start, end));
    if (fin) this.#status ??= this.#statusOf(GrpcStatus.UNKNOWN, 'No status received');
    this.#read();
  }

  onTaken(stream: Stream, octets: number): void {
    if (stream === this.#stream) this.#writer.taken(octets);
  }

  onReset(stream: Stream, code: number, origin: ResetOrigin): void {
    if (stream !== this.#stream) return;
    if (origin === 'refused' && this.#writer.repeatable) {
      this.again();
    } else if (origin === 'refused') {
      this.unavailable('the mesh refused the call, of which too much was sent to send it again');
    } else if (origin === 'connection') {
      this.unavailable('the mesh ended while the call was under way');
    } else if (origin === 'oversize') {
      const what = 'the answer has more metadata than is allowed';
      this.#end(this.#statusOf(GrpcStatus.RESOURCE_EXHAUSTED, what));
    } else this.#end(this.#statusOf(statusOfReset(code), `Received RST_STREAM with code ${code}`));
  }

  /** For its reader: octets of the answer are part of a message that is read, and more may come. */
  credit(octets: number): void {
    this.#stream?.credit(octets);
  }

  // ---- parts ---------------------------------------------------------------------------------------

  #statusOf(code: number, details: string): StatusObject {
    return { code, details, metadata: new this.#host.grpc.Metadata() };
  }

  #begin(metadata: Metadata): void {
    const { service: authority, userAgent, clock } = this.#host;
    const { path, deadline } = this.#terms;
    try {
      this.#list = requestHeaders({ path, authority, userAgent, leftMs: deadline - clock.now() }, metadata);
    } catch (error) {
      const what = `The metadata cannot be sent: ${(error as Error).message}`;
      this.cancelWithStatus(GrpcStatus.INTERNAL, what);
      return;
    }
    // A unary request follows at once: headers, message and end go out together then.
    process.nextTick(() => this.again());
  }

  #heed(parent: NonNullable<ParentCall>): void {
    const onCancelled = (): void => this.cancelWithStatus(GrpcStatus.CANCELLED, 'Cancelled by parent call');
    const leave = (): void => void parent.off('cancelled', onCancelled);
    this.#leaveParent = leave;
    if (parent.cancelled) onCancelled();
    else parent.on('cancelled', onCancelled);
  }

  #runDeadline(): void {
    const { deadline } = this.#terms;
    if (deadline === Number.POSITIVE_INFINITY) return;
    const { clock } = this.#host;
    const tooLate = (): void => {
      // The wall clock may have been put back, and no timer is as long as a deadline may be.
      if (deadline > clock.now()) this.#runDeadline();
      else this.cancelWithStatus(GrpcStatus.DEADLINE_EXCEEDED, 'Deadline exceeded');
    };
    this.#deadlineTimer = clock.after(deadline - clock.now(), tooLate);
  }

  #read(): void {
    try {
      while (this.#reads > 0 && this.#final === undefined) {
        const message = this.#reader.next();
        if (message === undefined) break;
        this.#reads--;
        process.nextTick(() => this.#listener?.onReceiveMessage(message));
      }
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      this.cancelWithStatus(error.code, error.message);
      return;
    }
    this.#endIfRead();
  }

  #trailers(list: HeaderList, message: Message): void {
    const metadata = metadataOf(this.#host.grpc, list);
    const details = takeStatusMessage(metadata);
    const { grpcStatus, status } = message;
    if (grpcStatus >= 0) this.#status ??= { code: grpcStatus, details, metadata };
    else if (status > 0 && status !== 200) {
      this.#status ??= {
        code: statusOfHttp(status),
        details: `Received HTTP status code ${status}`,
        metadata,
      };
    } else this.#status ??= { code: GrpcStatus.UNKNOWN, details: 'No status received', metadata };
    this.#endIfRead();
  }

  /** An orderly end waits for its reader. */
  #endIfRead(): void {
    const status = this.#status;
    if (status === undefined || this.#final !== undefined) return;
    this.#leave(); // all of the answer is here, and may never be read
    if (this.#reader.empty) this.#end(status);
    else if (this.#reads > 0) {
      // What is left is less than a message.
      const details = 'the answer ended in the middle of a message';
      this.#end(status.code === GrpcStatus.OK ? { ...status, code: GrpcStatus.INTERNAL, details } : status);
    }
  }

  #end(status: StatusObject): void {
    if (this.#final !== undefined) return;
    this.#final = status;
    this.#host.clock.clear(this.#deadlineTimer);
    this.#leaveParent?.();
    this.#stream?.reset(ErrorCode.CANCEL);
    this.#writer.end();
    if (this.#listener === undefined) return; // start() tells it
    this.#leave();
    this.#tellEnd(status);
  }

  #leave(): void {
    if (!this.#counted) return;
    this.#counted = false;
    this.#host.ended(this);
  }

  #tellEnd(status: StatusObject): void {
    process.nextTick(() => this.#listener?.onReceiveStatus(status));
  }
}
