import type {
  handleUnaryCall,
  Metadata,
  Server,
  ServiceDefinition,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Clock } from '../clock/clock.ts';
import type { LimitStatus } from '../limit/ratelimits.ts';
import { GrpcStatus } from '../relay/errors.ts';
import type { Session } from '../session/session.ts';
import type { LocalApp, LocalAppHost } from '../sidecar/options.ts';
import type { CallContext } from './callcontext.ts';
import { CallError } from './callerror.ts';
import type { Handler } from './handlers.ts';
import { localApp } from './localapp.ts';
import { type CallHost, type GrpcServerCall, ServedCall } from './servedcall.ts';
import { grpcHandler, type Serving } from './servedmethods.ts';
import { serviceHandler } from './servedservice.ts';

export interface MethodServerOptions {
  readonly grpc: typeof import('@grpc/grpc-js');
  /** Octets of one request; -1 for no limit. */
  readonly maxRequest?: number | undefined;
  /** Who is told when a handler has failed with something that its caller is not told; by default the log is. */
  readonly onError: () => ((error: unknown, call: CallContext) => void) | undefined;
}

const SESSION = 'hauberk-session';

const octets = (message: Buffer): Buffer => message;

/** A program's methods on a grpc-js server that has no port: calls come from the ingress of the same process only. */
export class MethodServer implements CallHost, Serving {
  readonly makeMetadata: () => Metadata;
  readonly #options: MethodServerOptions;
  readonly #server: Server;
  readonly #calls = new WeakMap<object, ServedCall>();
  #host: LocalAppHost | undefined;

  constructor(options: MethodServerOptions) {
    const { grpc, maxRequest } = options;
    this.#options = options;
    this.makeMetadata = () => new grpc.Metadata();
    this.#server = new grpc.Server(
      maxRequest === undefined ? {} : { 'grpc.max_receive_message_length': maxRequest },
    );
  }

  /** What the sidecar calls. */
  async app(): Promise<LocalApp> {
    const app = await localApp(this.#server);
    return (host) => {
      this.#host = host;
      return app(host);
    };
  }

  /** Ends what is left of its connections. */
  close(): void {
    this.#server.forceShutdown();
  }

  /** `path` is not registered yet. */
  handle(path: string, handler: Handler): void {
    const run = grpcHandler(this, handler) as handleUnaryCall<Buffer, Buffer>;
    this.#server.register(path, run, octets, octets, handler.kind);
  }

  /** None of its paths is registered yet. */
  addService(definition: ServiceDefinition, implementation: UntypedServiceImplementation): void {
    const wrapped: UntypedServiceImplementation = {};
    for (const [name, method] of Object.entries(definition)) {
      const run = implementation[name] ?? implementation[method.originalName ?? name];
      if (typeof run !== 'function') continue;
      const bound = run.bind(implementation) as UntypedHandleCall;
      wrapped[name] = serviceHandler(this, method, bound) as UntypedHandleCall;
    }
    this.#server.addService(definition, wrapped);
  }

  begin(call: GrpcServerCall): ServedCall {
    const [id] = call.metadata.get(SESSION);
    const session = this.#of.sessions.peek(String(id));
    if (session === undefined) {
      throw new CallError(GrpcStatus.UNAVAILABLE, 'the session with the caller has ended');
    }
    return new ServedCall(this, call, session);
  }

  keep(call: object, served: ServedCall): void {
    this.#calls.set(call, served);
  }

  /** A call that was kept. */
  callOf(call: object): ServedCall | undefined {
    return this.#calls.get(call);
  }

  get clock(): Clock {
    return this.#of.clock;
  }

  limitsOf(session: Session): readonly LimitStatus[] {
    return this.#of.limitsOf(session);
  }

  failed(error: unknown, call: ServedCall): void {
    const onError = this.#options.onError();
    try {
      if (onError !== undefined) {
        onError(error, call);
        return;
      }
    } catch (ownError) {
      this.#log(ownError, call, 'onError of the server threw');
    }
    this.#log(error, call, 'a handler failed');
  }

  #log(error: unknown, { method, peer, session }: ServedCall, message: string): void {
    const told = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#of.log.error({ method, peer, sessionId: session.id, error: told }, message);
  }

  /** No call comes before the first connection. */
  get #of(): LocalAppHost {
    return this.#host as LocalAppHost;
  }
}
