/**
 * The admin API on gRPC: who may call, and how calls become methods. Loaded with grpc-js and the definition by the
 * first connection, and not before: together they are about 25 MB.
 */
import type { Socket } from 'node:net';
import type {
  Metadata,
  ServerInterceptor,
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
  UntypedHandleCall,
} from '@grpc/grpc-js';
import type { Clock } from '../clock/clock.ts';
import type { Logger } from '../telemetry/log.ts';
import { RefusalTally } from '../transport/refusaltally.ts';
import type { AdminControl } from './admincontrol.ts';
import { type AdminMethod, METHODS } from './adminmethods.ts';
import type { AdminToken } from './admintoken.ts';
import { loadAdminDefinition } from './definition.ts';
import { AdminError } from './errors.ts';
import { EventWatch } from './eventwatch.ts';
import type { WatchEventsRequest, WatchEventsResponse } from './messages.ts';

const MAX_STREAMS = 64; // of a connection
const MAX_REQUEST = 64 * 1024; // octets
const MAX_WATCHES = 16;
/** A connection that holds more gets no new streams; grpc-js has no bound of its own. */
const MAX_CONNECTION_MB = 16;

const OBJECTIONS = {
  'no-token': 'this listener wants the token of admin.token, as `authorization: Bearer TOKEN`',
  'wrong-token': 'the token is not that of admin.token',
} as const;
const MAX_REFUSED = 1024; // characters that the audit keeps of a request that was malformed

export interface AdminServiceOptions {
  readonly control: AdminControl;
  readonly clock: Clock;
  readonly log: Logger;
  /** What callers over TCP present. */
  readonly token: AdminToken | undefined;
}

/** What all listeners of the API share. */
export class AdminService {
  readonly #options: AdminServiceOptions;
  readonly #grpc: typeof import('@grpc/grpc-js');
  readonly #service: import('@grpc/grpc-js').ServiceDefinition;
  readonly #watches = new Set<ServerWritableStream<WatchEventsRequest, WatchEventsResponse>>();
  readonly #servers: Array<import('@grpc/grpc-js').Server> = [];
  readonly #refusals: RefusalTally;

  private constructor(
    options: AdminServiceOptions,
    grpc: typeof import('@grpc/grpc-js'),
    service: import('@grpc/grpc-js').ServiceDefinition,
  ) {
    this.#options = options;
    this.#grpc = grpc;
    this.#service = service;
    this.#refusals = new RefusalTally(options.clock);
  }

  static async load(options: AdminServiceOptions): Promise<AdminService> {
    const [grpc, { service }] = await Promise.all([import('@grpc/grpc-js'), loadAdminDefinition()]);
    // It prints what clients send, as it came; our log bounds and escapes it.
    const tell = (...parts: unknown[]): void => options.log.debug({ detail: parts.join(' ') }, 'grpc-js');
    grpc.setLogger({ error: tell, info: tell, debug: tell });
    return new AdminService(options, grpc, service as import('@grpc/grpc-js').ServiceDefinition);
  }

  /**
   * A server for one listener. `socketPath` names a Unix socket, whose mode admits callers; others present the token, and
   * `onAdmitted` is told of each call that did, by its `address:port`.
   */
  server(
    socketPath: string | undefined,
    onAdmitted: (peer: string) => void,
  ): { inject(socket: Socket): void } {
    const server = new this.#grpc.Server({
      'grpc.max_concurrent_streams': MAX_STREAMS,
      'grpc.max_receive_message_length': MAX_REQUEST,
      'grpc-node.max_session_memory': MAX_CONNECTION_MB,
      ...(socketPath === undefined ? { interceptors: [this.#gate(onAdmitted)] } : {}),
    });
    server.addService(this.#service, this.#handlers(socketPath));
    this.#servers.push(server);
    const injector = server.createConnectionInjector(this.#grpc.ServerCredentials.createInsecure());
    return { inject: (socket) => injector.injectConnection(socket) };
  }

  #handlers(socketPath: string | undefined): Record<string, UntypedHandleCall> {
    const handlers: Record<string, UntypedHandleCall> = {
      WatchEvents: (call: ServerWritableStream<WatchEventsRequest, WatchEventsResponse>) => this.#watch(call),
    };
    for (const [name, method] of Object.entries(METHODS)) {
      handlers[name] = (call: ServerUnaryCall<unknown, unknown>, answer: sendUnaryData<unknown>) =>
        this.#answer(name, method as AdminMethod<unknown, unknown>, call, socketPath, answer);
    }
    return handlers;
  }

  async #answer(
    name: string,
    { writes, run }: AdminMethod<unknown, unknown>,
    call: ServerUnaryCall<unknown, unknown>,
    socketPath: string | undefined,
    answer: sendUnaryData<unknown>,
  ): Promise<void> {
    const { recorder } = this.#options.control;
    const caller = callerOf(call, socketPath);
    const command = {
      type: 'admin.command',
      method: name,
      caller,
      request: JSON.stringify(call.request),
    } as const;
    try {
      const { response, detail } = await run(this.#options.control, call.request, caller);
      if (writes) recorder.record({ ...command, outcome: 'OK', detail });
      answer(null, response);
    } catch (error) {
      const status = this.#status(error);
      const outcome = this.#grpc.status[status.code] as string;
      if (writes) {
        // Nothing was done: the beginning is enough, whatever a caller sends.
        const refused = status.code === this.#grpc.status.INVALID_ARGUMENT;
        const request = refused ? shortened(command.request) : command.request;
        recorder.record({ ...command, request, outcome, detail: status.details });
      }
      answer(status);
    }
  }

  #watch(call: ServerWritableStream<WatchEventsRequest, WatchEventsResponse>): void {
    let watch: EventWatch;
    try {
      if (this.#watches.size >= MAX_WATCHES) {
        throw new AdminError(
          'RESOURCE_EXHAUSTED',
          `${MAX_WATCHES} callers watch events already: end one, or let an adapter of monitoring.adapters take them`,
        );
      }
      watch = new EventWatch(call.request, { write: (message) => call.write(message) });
    } catch (error) {
      call.emit('error', this.#status(error));
      return;
    }
    const unwatch = this.#options.control.recorder.watch(watch);
    this.#watches.add(call);
    const over = (): void => {
      unwatch();
      this.#watches.delete(call);
    };
    call.on('drain', () => watch.drained());
    call.on('cancelled', over);
    call.on('close', over);
    call.on('error', over);
  }

  /**
   * Before every method of a TCP listener: whoever does not present the token is answered before anything of the request is
   * read. Fails closed: without a token to compare with nobody is admitted.
   */
  #gate(onAdmitted: (peer: string) => void): ServerInterceptor {
    return ({ path }, call) =>
      new this.#grpc.ServerInterceptingCall(call, {
        start: (next) =>
          next({
            onReceiveMetadata: (metadata, goOn) => {
              const reason = this.#objection(metadata);
              const peer = call.getPeer();
              if (reason !== undefined) {
                call.sendStatus(this.#refused(path.slice(path.lastIndexOf('/') + 1), peer, reason));
                return;
              }
              onAdmitted(peer);
              goOn(metadata);
            },
          }),
      });
  }

  #objection(metadata: Metadata): keyof typeof OBJECTIONS | undefined {
    const [given, ...more] = metadata.get('authorization');
    if (more.length === 0 && this.#options.token?.admits(given) === true) return undefined;
    return given === undefined ? 'no-token' : 'wrong-token';
  }

  #refused(
    method: string,
    caller: string,
    reason: keyof typeof OBJECTIONS,
  ): { code: number; details: string } {
    this.#refusals.add('tcp', (count) =>
      this.#options.control.recorder.record({ type: 'admin.refused', method, caller, reason, count }),
    );
    return this.#status(new AdminError('UNAUTHENTICATED', OBJECTIONS[reason]));
  }

  #status(error: unknown): { code: import('@grpc/grpc-js').status; details: string } {
    if (error instanceof AdminError) return { code: this.#grpc.status[error.code], details: error.message };
    this.#options.log.error({ error }, 'the admin API failed');
    return { code: this.#grpc.status.INTERNAL, details: "a bug of Hauberk; the sidecar's log has it" };
  }

  /** Ends the watches in order. */
  endWatches(): void {
    for (const call of this.#watches) call.end();
  }

  close(): void {
    for (const server of this.#servers) server.forceShutdown();
  }
}

function callerOf(call: { getPeer(): string }, socketPath: string | undefined): string {
  return socketPath === undefined ? call.getPeer() : `unix:${socketPath}`;
}

function shortened(request: string): string {
  return request.length > MAX_REFUSED ? `${request.slice(0, MAX_REFUSED - 1)}…` : request;
}
