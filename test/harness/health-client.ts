import * as grpc from '@grpc/grpc-js';
import { service } from 'grpc-health-check';

export type HealthStatus = 'UNKNOWN' | 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';

const definition = service as unknown as grpc.ServiceDefinition;
const method = (name: string): grpc.MethodDefinition<unknown, unknown> =>
  definition[name] as grpc.MethodDefinition<unknown, unknown>;
const CHECK = method('Check');
const WATCH = method('Watch');
const LIST = method('List');

/** A grpc-js client of `grpc.health.v1.Health`. */
export class HealthClient {
  readonly #client: grpc.Client;

  constructor(address: string) {
    this.#client = new grpc.Client(address, grpc.credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  #unary(of: grpc.MethodDefinition<unknown, unknown>, request: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        of.path,
        of.requestSerialize,
        of.responseDeserialize,
        request,
        (error, reply) => (error === null ? resolve(reply) : reject(error)),
      );
    });
  }

  /** Rejects with NOT_FOUND for a service that nobody knows. */
  async check(name = ''): Promise<HealthStatus> {
    return ((await this.#unary(CHECK, { service: name })) as { status: HealthStatus }).status;
  }

  /** Every service and its status. */
  async list(): Promise<Record<string, HealthStatus>> {
    const { statuses } = (await this.#unary(LIST, {})) as {
      statuses: Record<string, { status: HealthStatus }>;
    };
    return Object.fromEntries(Object.entries(statuses).map(([name, { status }]) => [name, status]));
  }

  /** What a watcher of the service has been told. `until(n)` waits for n answers. */
  watch(name = ''): {
    readonly seen: HealthStatus[];
    until(n: number): Promise<HealthStatus[]>;
    end(): void;
  } {
    const call = this.#client.makeServerStreamRequest(
      WATCH.path,
      WATCH.requestSerialize,
      WATCH.responseDeserialize,
      { service: name },
    );
    const seen: HealthStatus[] = [];
    const listeners = new Set<() => void>();
    call.on('data', (reply: { status: HealthStatus }) => {
      seen.push(reply.status);
      for (const listener of listeners) listener();
    });
    call.on('error', () => {}); // how it ends is not what a watcher is about
    const until = (n: number): Promise<HealthStatus[]> =>
      new Promise((resolve) => {
        const look = (): void => {
          if (seen.length < n) return;
          listeners.delete(look);
          resolve([...seen]);
        };
        listeners.add(look);
        look();
      });
    return { seen, until, end: () => call.cancel() };
  }

  close(): void {
    this.#client.close();
  }
}
