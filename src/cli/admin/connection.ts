/** Calls of the admin API, with complaints that say what to do. */
import { createConnection } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { loadAdminDefinition } from '../../admin/definition.ts';
import { formatAddress } from '../../config/address.ts';
import type { ListenAddress } from '../../config/config.ts';
import { printable } from '../../config/pointer.ts';
import { AdminCallError } from './errors.ts';
import type { AdminTarget } from './target.ts';

/** Pages have up to 500 sessions. */
const MAX_RESPONSE = 16 * 1024 * 1024;

type Unary = (
  request: object,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  done: grpc.requestCallback<unknown>,
) => grpc.ClientUnaryCall;
type Streaming = (request: object, metadata: grpc.Metadata) => grpc.ClientReadableStream<unknown>;

export class AdminConnection implements Disposable {
  readonly #client: grpc.Client;
  readonly #target: AdminTarget;
  readonly #metadata = new grpc.Metadata();

  private constructor(client: grpc.Client, target: AdminTarget) {
    this.#client = client;
    this.#target = target;
    if (target.token !== undefined) this.#metadata.set('authorization', `Bearer ${target.token}`);
  }

  /** Rejects with AdminCallError if nobody listens there who can be reached. */
  static async open(target: AdminTarget): Promise<AdminConnection> {
    await tryAddress(target.address, target.timeoutMs);
    const { all } = await loadAdminDefinition();
    const loaded = grpc.loadPackageDefinition(all) as unknown as {
      hauberk: { admin: { v1: { Admin: grpc.ServiceClientConstructor } } };
    };
    const client = new loaded.hauberk.admin.v1.Admin(
      formatAddress(target.address),
      grpc.credentials.createInsecure(),
      {
        'grpc.max_receive_message_length': MAX_RESPONSE,
        'grpc.enable_http_proxy': 0,
        'grpc.default_authority': 'localhost',
      },
    );
    return new AdminConnection(client, target);
  }

  /** Calls a unary method. Rejects with AdminCallError. */
  call<Response>(method: string, request: object): Promise<Response> {
    const deadline = Date.now() + this.#target.timeoutMs;
    return new Promise((resolve, reject) => {
      this.#method<Unary>(method)(request, this.#metadata, { deadline }, (error, response) => {
        if (error === null) resolve(response as Response);
        else reject(this.#complaint(error));
      });
    });
  }

  /** The messages of a server stream, until it ends or `signal` says that nobody wants more. Throws AdminCallError. */
  async *stream<Response>(method: string, request: object, signal: AbortSignal): AsyncGenerator<Response> {
    const call = this.#method<Streaming>(method)(request, this.#metadata);
    signal.addEventListener('abort', () => call.cancel(), { once: true });
    try {
      for await (const message of call) yield message as Response;
    } catch (error) {
      if (signal.aborted) return;
      throw this.#complaint(error as grpc.ServiceError);
    } finally {
      call.cancel();
    }
  }

  #method<F extends (...args: never[]) => unknown>(name: string): F {
    const found = (this.#client as unknown as Record<string, F>)[name] as F;
    return found.bind(this.#client) as F;
  }

  #complaint(error: grpc.ServiceError): AdminCallError {
    const at = formatAddress(this.#target.address);
    const details = printable(error.details ?? error.message);
    switch (error.code) {
      case grpc.status.UNAUTHENTICATED:
        return new AdminCallError(
          this.#target.token === undefined
            ? `the sidecar at ${at} wants its token: --token FILE, the file of admin.token (or -c with its configuration)`
            : `the sidecar at ${at} has another token: give the file that its admin.token names`,
        );
      case grpc.status.UNIMPLEMENTED:
        return new AdminCallError(
          `${at} does not know this command: it is a sidecar of another version, or something else that speaks gRPC`,
        );
      case grpc.status.DEADLINE_EXCEEDED:
        return new AdminCallError(
          `${at} did not answer within ${this.#target.timeoutMs} ms: is it an admin listener? (--timeout waits longer)`,
        );
      case grpc.status.UNAVAILABLE:
        return new AdminCallError(
          `the connection to ${at} was lost: the sidecar has stopped, or this is no admin listener (${details})`,
        );
      default:
        return new AdminCallError(`${details} (${grpc.status[error.code] ?? error.code})`);
    }
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

/** Whether somebody listens there, with a better complaint than gRPC has. */
function tryAddress(address: ListenAddress, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(
      address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
    );
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error('no answer')));
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.destroy();
      reject(new AdminCallError(unreachable(address, error.code ?? error.message)));
    });
  });
}

function unreachable(address: ListenAddress, code: string): string {
  const at = formatAddress(address);
  switch (code) {
    case 'ENOENT':
      return `there is no socket ${at}: does the sidecar run, and has its configuration \`admin: { listen: ${at} }\`? --address or -c names another`;
    case 'EACCES':
    case 'EPERM':
      return `this user may not connect to ${at}: run the command as the sidecar's user, or set admin.groupAccess and join its group`;
    case 'ECONNREFUSED':
      return `nobody listens at ${at}: does the sidecar run, and has its configuration \`admin: { listen: ${at} }\`? The ready line names what is bound`;
    case 'ENOTSOCK':
      return `${at} is no socket: give the path that admin.listen names`;
    default:
      return `${at} cannot be reached (${code})`;
  }
}
