import * as grpc from '@grpc/grpc-js';
import { loadAdminDefinition } from '../../src/admin/definition.ts';
import type { WatchEventsRequest } from '../../src/admin/messages.ts';

const { service } = await loadAdminDefinition();
type Method = grpc.MethodDefinition<unknown, unknown>;

/** What a watcher is sent, as the loader makes it. */
export interface WatchMessage {
  readonly what: 'watching' | 'event' | 'dropped';
  readonly event?: { readonly seq: number; readonly type: string; readonly json: string } | null;
  readonly dropped?: number;
}

/** A plain grpc-js client of the admin API, on a connection of its own. */
export class AdminClient {
  readonly #client: grpc.Client;
  readonly #metadata = new grpc.Metadata();

  constructor(address: string, authorization?: string) {
    this.#client = new grpc.Client(address, grpc.credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.default_authority': 'localhost',
      'grpc.max_send_message_length': -1,
    });
    if (authorization !== undefined) this.#metadata.set('authorization', authorization);
  }

  /** Rejects with the ServiceError. */
  call<Response>(name: string, request: object = {}): Promise<Response> {
    const { path, requestSerialize, responseDeserialize } = service[name] as Method;
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        this.#metadata,
        (error, response) => (error === null ? resolve(response as Response) : reject(error)),
      );
    });
  }

  /** The name of the status that a call ends with, `OK` or another. */
  status(name: string, request: object = {}): Promise<string> {
    return this.call(name, request).then(
      () => 'OK',
      (error: grpc.ServiceError) => grpc.status[error.code] as string,
    );
  }

  watch(request: Partial<WatchEventsRequest> = {}): grpc.ClientReadableStream<WatchMessage> {
    const { path, requestSerialize, responseDeserialize } = service.WatchEvents as Method;
    return this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize as (octets: Buffer) => WatchMessage,
      request,
      this.#metadata,
    );
  }

  close(): void {
    this.#client.close();
  }
}
