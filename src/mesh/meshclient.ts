import type {
  ChannelInterface,
  Client,
  ClientDuplexStream,
  ClientReadableStream,
  ClientUnaryCall,
  ClientWritableStream,
  CallOptions as GrpcCallOptions,
  Metadata,
} from '@grpc/grpc-js';
import {
  abortable,
  type Boxed,
  box,
  onlyReply,
  type Requests,
  replies,
  settle,
  unbox,
  write,
} from './clientcall.ts';
import { durationMs } from './duration.ts';
import { MeshError } from './errors.ts';
import type { Grpc } from './grpctypes.ts';
import { isMethodName, methodPath } from './methodname.ts';
import type { Duration } from './options.ts';

/** Metadata of a call by name; names that end in `-bin` have Buffers, all others strings. */
export type MetadataRecord = Readonly<Record<string, string | Buffer | readonly (string | Buffer)[]>>;

/** What a call may be given besides its request. */
export interface CallOptions {
  /** The deadline, from now on; none by default, unless the service's options have one. */
  readonly timeout?: Duration;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  readonly metadata?: Metadata | MetadataRecord;
}

/**
 * Calls methods of another program's {@link SecureMeshServer} by their names: what JSON can have goes through, and a
 * Uint8Array as it is. `mesh.connect(service)` makes one; all clients of a service share its sessions.
 *
 * A call that fails rejects with {@link CallError}. What is no method name, no timeout or no metadata is MeshError
 * `bad-option`, a client that was closed `ended`: where a promise is returned it rejects, else it is thrown.
 */
export class MeshClient {
  /** The service that it calls. */
  readonly service: string;
  readonly #grpc: Grpc;
  readonly #client: Client;
  #closed = false;

  /** Made by `mesh.connect()`. @internal */
  constructor(grpc: Grpc, service: string, channel: ChannelInterface) {
    this.service = service;
    this.#grpc = grpc;
    this.#client = new grpc.Client(service, grpc.credentials.createInsecure(), {
      channelOverride: channel as never,
    });
  }

  /** One request, one reply. */
  call<Request = unknown, Reply = unknown>(
    method: string,
    request: Request,
    options: CallOptions = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms(method, options);
      const call: ClientUnaryCall = this.#client.makeUnaryRequest<Boxed, Boxed>(
        terms.path,
        unbox,
        onlyReply(() => call),
        { value: request },
        terms.metadata,
        terms.callOptions,
        settle(resolve as (reply: unknown) => void, reject, options.signal),
      );
      abortable(call, options.signal);
    });
  }

  /** One request, a stream of replies. It begins when it is first read from, and is cancelled when reading stops. */
  serverStream<Request = unknown, Reply = unknown>(
    method: string,
    request: Request,
    options: CallOptions = {},
  ): AsyncGenerator<Reply, void, void> {
    const terms = this.#terms(method, options);
    const begin = (): ClientReadableStream<Boxed> =>
      this.#client.makeServerStreamRequest<Boxed, Boxed>(
        ...this.#codec(terms.path),
        { value: request },
        terms.metadata,
        terms.callOptions,
      );
    return replies(begin, options.signal, () => {}) as AsyncGenerator<Reply, void, void>;
  }

  /** A stream of requests, one reply; requests that are not needed any more are not asked for. */
  clientStream<Request = unknown, Reply = unknown>(
    method: string,
    requests: Requests<Request>,
    options: CallOptions = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const terms = this.#terms(method, options);
      let stop = (): void => {};
      const answer = settle(resolve as (reply: unknown) => void, reject, options.signal);
      const call: ClientWritableStream<Boxed> = this.#client.makeClientStreamRequest<Boxed, Boxed>(
        terms.path,
        unbox,
        onlyReply(() => call),
        terms.metadata,
        terms.callOptions,
        (error, reply) => {
          stop();
          answer(error, reply);
        },
      );
      abortable(call, options.signal);
      stop = write(call, requests, reject);
    });
  }

  /** Streams both ways. It begins when it is first read from, and is cancelled when reading stops. */
  bidiStream<Request = unknown, Reply = unknown>(
    method: string,
    requests: Requests<Request>,
    options: CallOptions = {},
  ): AsyncGenerator<Reply, void, void> {
    const terms = this.#terms(method, options);
    let failure: { readonly error: unknown } | undefined;
    let stop = (): void => {};
    const begin = (): ClientDuplexStream<Boxed, Boxed> => {
      const call = this.#client.makeBidiStreamRequest<Boxed, Boxed>(
        ...this.#codec(terms.path),
        terms.metadata,
        terms.callOptions,
      );
      stop = write(call, requests, (error) => {
        failure = { error };
      });
      return call;
    };
    return replies(
      begin,
      options.signal,
      () => stop(),
      () => failure,
    ) as AsyncGenerator<Reply, void, void>;
  }

  /** Takes no more calls; those under way go on. Sessions stay: they are the mesh's. */
  close(): void {
    this.#closed = true;
    this.#client.close();
  }

  /** `close`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #codec(path: string): [string, (boxed: Boxed) => Buffer, (octets: Buffer) => Boxed] {
    return [path, unbox, box];
  }

  #terms(method: string, { timeout, metadata }: CallOptions): Terms {
    if (this.#closed) {
      throw new MeshError(
        'ended',
        `this client of ${this.service} was closed; have another of mesh.connect()`,
      );
    }
    if (!isMethodName(method)) {
      throw new MeshError(
        'bad-option',
        `${JSON.stringify(method)} is not the name of a method: it has letters, digits, _, . and -, and begins with a letter or _`,
      );
    }
    const ms = durationMs(timeout);
    if (timeout !== undefined && !(ms !== undefined && ms > 0)) {
      throw new MeshError(
        'bad-option',
        `timeout: expected milliseconds above 0, or a duration such as '5s', found ${JSON.stringify(timeout)}`,
      );
    }
    return {
      path: methodPath(this.service, method),
      metadata: this.#metadata(metadata),
      callOptions: ms === undefined ? {} : { deadline: Date.now() + ms },
    };
  }

  #metadata(given: Metadata | MetadataRecord | undefined): Metadata {
    if (given instanceof this.#grpc.Metadata) return given;
    const metadata = new this.#grpc.Metadata();
    for (const [name, values] of Object.entries((given ?? {}) as MetadataRecord)) {
      try {
        for (const value of Array.isArray(values) ? values : [values]) metadata.add(name, value);
      } catch (cause) {
        throw new MeshError('bad-option', `metadata: ${(cause as Error).message}`, { cause });
      }
    }
    return metadata;
  }
}

interface Terms {
  readonly path: string;
  readonly metadata: Metadata;
  readonly callOptions: GrpcCallOptions;
}
