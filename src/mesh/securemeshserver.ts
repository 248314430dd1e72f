import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import type { CallContext } from './callcontext.ts';
import { MeshError } from './errors.ts';
import type {
  BidiStreamHandler,
  ClientStreamHandler,
  Handler,
  ServerStreamHandler,
  UnaryHandler,
} from './handlers.ts';
import { isMethodName, methodPath } from './methodname.ts';
import { MethodServer } from './methodserver.ts';
import type { KeyFiles, RateLimit, SecureMeshOptions } from './options.ts';
import { SecureMesh } from './securemesh.ts';
import { serviceProblem } from './servedservice.ts';

// What a caller sends is whatever the program and its callers have agreed on.
// biome-ignore lint/suspicious/noExplicitAny: a handler without types gets no types
type Any = any;

/**
 * Serves methods to the peers of a mesh: handlers by name, whose requests and replies are any JSON value or octets, and
 * services with a definition of their own. It needs no port but the mesh port, where sessions begin with the handshake.
 *
 * Handlers may be added before the start and after it. A handler that throws a {@link CallError} answers the call with it;
 * after any other error the caller learns only that the handler failed, and `onError` or the log has the rest.
 */
export class SecureMeshServer implements AsyncDisposable {
  /**
   * Told of each error of a handler that its caller is not told, in place of the log. Errors of a handler that only say that
   * its call is over, once it is, are not among them.
   */
  onError: ((error: unknown, context: CallContext) => void) | undefined;
  readonly #mesh: SecureMesh;
  readonly #defaultPort: number;
  /** Each does what one registration did, on a server that is made when the mesh starts. */
  readonly #registrations: Array<(methods: MethodServer) => void> = [];
  readonly #paths = new Set<string>();
  #methods: MethodServer | undefined;
  #cleanup: Promise<void> | undefined;

  /**
   * `keys` and `rateLimit` are those of {@link SecureMeshOptions}; with other options, give all of them as an object.
   * Throws MeshError `bad-option` with everything that is wrong.
   */
  constructor(serviceId: string, keys?: string | KeyFiles, rateLimit?: RateLimit | readonly RateLimit[]);
  constructor(options: SecureMeshOptions);
  constructor(
    given: string | SecureMeshOptions,
    keys?: string | KeyFiles,
    rateLimit?: RateLimit | readonly RateLimit[],
  ) {
    const options: SecureMeshOptions =
      typeof given === 'string'
        ? {
            serviceId: given,
            ...(keys === undefined ? {} : { keys }),
            ...(rateLimit === undefined ? {} : { rateLimit }),
          }
        : given;
    this.#mesh = new SecureMesh(options);
    this.#defaultPort = options.port ?? 0;
    this.#mesh.serveApp(() => this.#open());
  }

  /** The mesh that it serves: its sessions, what it calls itself, its statistics. `start` and `cleanup` start and end it. */
  get mesh(): SecureMesh {
    return this.#mesh;
  }

  /** Has `handler` answer the calls of a method. Throws MeshError `bad-handler` or `ended`, as all that follow do. */
  handle<Request = Any, Reply = Any>(method: string, handler: UnaryHandler<Request, Reply>): this {
    return this.#handle(method, { kind: 'unary', run: handler as UnaryHandler<unknown, unknown> });
  }

  /** A method that takes a request and gives replies. */
  handleServerStream<Request = Any, Reply = Any>(
    method: string,
    handler: ServerStreamHandler<Request, Reply>,
  ): this {
    return this.#handle(method, {
      kind: 'serverStream',
      run: handler as ServerStreamHandler<unknown, unknown>,
    });
  }

  /**
   * A method that takes requests and gives a reply. Its requests end by throwing the signal's reason when the caller goes. A
   * caller with Node's own HTTP/2, as grpc-js has it, ends them in order before it cancels, which may be seen first: where
   * half of an upload must not be taken for the whole, let its last message say so. A MeshClient does not do that.
   */
  handleClientStream<Request = Any, Reply = Any>(
    method: string,
    handler: ClientStreamHandler<Request, Reply>,
  ): this {
    return this.#handle(method, {
      kind: 'clientStream',
      run: handler as ClientStreamHandler<unknown, unknown>,
    });
  }

  /** A method that takes requests and gives replies at the same time. */
  handleBidiStream<Request = Any, Reply = Any>(
    method: string,
    handler: BidiStreamHandler<Request, Reply>,
  ): this {
    return this.#handle(method, { kind: 'bidi', run: handler as BidiStreamHandler<unknown, unknown> });
  }

  #handle(method: string, handler: Handler): this {
    if (!isMethodName(method)) {
      throw new MeshError(
        'bad-handler',
        `${JSON.stringify(method)} is not a method's name: write letters, digits, _, . and -, at most 128, a letter or _ first`,
      );
    }
    if (typeof handler.run !== 'function') {
      throw new MeshError('bad-handler', `the handler of ${method} is not a function`);
    }
    const path = methodPath(this.#mesh.serviceId, method);
    this.#register([path], (methods) => methods.handle(path, handler));
    return this;
  }

  /**
   * Serves a service with a definition of its own, of proto-loader, ts-proto, or `hauberk/bufbuild`: `implementation` is what
   * grpc-js takes, and may have async functions. What of it is not implemented is answered UNIMPLEMENTED.
   */
  addService(definition: ServiceDefinition, implementation: UntypedServiceImplementation): this {
    const problem = serviceProblem(definition, implementation);
    if (problem !== undefined) throw new MeshError('bad-handler', problem);
    const paths = Object.values(definition).map(({ path }) => path);
    this.#register(paths, (methods) => methods.addService(definition, implementation));
    return this;
  }

  #register(paths: readonly string[], register: (methods: MethodServer) => void): void {
    if (this.#cleanup !== undefined) {
      throw new MeshError(
        'ended',
        `the server of ${this.#mesh.serviceId} has ended; make a new SecureMeshServer`,
      );
    }
    const taken = paths.find((path) => this.#paths.has(path));
    if (taken !== undefined) throw new MeshError('bad-handler', `${taken} has a handler already`);
    for (const path of paths) this.#paths.add(path);
    this.#registrations.push(register);
    if (this.#methods !== undefined) register(this.#methods);
  }

  /**
   * The context of a call that a handler of `addService` has been given. Throws MeshError `bad-handler` for anything else.
   */
  contextOf(call: object): CallContext {
    const served = this.#methods?.callOf(call);
    if (served !== undefined) return served;
    throw new MeshError('bad-handler', 'contextOf() wants the call that a handler of addService() was given');
  }

  /** Starts the mesh, and resolves with the mesh port, which is `port` unless that is 0. Rejects as SecureMesh's start. */
  async start(port: number = this.#defaultPort): Promise<number> {
    await this.#mesh.start(port);
    return this.#mesh.port as number;
  }

  async #open() {
    const grpc = await import('@grpc/grpc-js');
    const methods = new MethodServer({ grpc, onError: () => this.onError });
    for (const register of this.#registrations) register(methods);
    this.#methods = methods;
    return methods.app();
  }

  /**
   * Ends the server and its mesh as {@link SecureMesh.cleanup} does. A handler that still runs when the time is over is left
   * to its `signal`: its call has ended.
   */
  cleanup(timeoutMs?: number): Promise<void> {
    this.#cleanup ??= this.#end(timeoutMs);
    return this.#cleanup;
  }

  async #end(timeoutMs: number | undefined): Promise<void> {
    await this.#mesh.cleanup(timeoutMs);
    this.#methods?.close();
  }

  /** `cleanup`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.cleanup();
  }
}
