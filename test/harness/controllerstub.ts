import * as grpc from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { toPem } from '../../src/identity/pem.ts';
import { type Forged, privateKeyOf } from '../identity/forge.ts';

/** What a stub answers a unary call with, or throws: an Error with the `code` of a status. */
export type Answer = (request: never, metadata: grpc.Metadata) => object | Promise<object>;
/** What a stub does with a call whose answer is a stream. */
export type Streamer = (call: grpc.ServerWritableStream<never, object>) => void;

/** A failure with a status of gRPC. */
export const failure = (code: grpc.status, details: string, pushbackMs?: number): Error => {
  const metadata = new grpc.Metadata();
  if (pushbackMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(pushbackMs));
  return Object.assign(new Error(details), { code, details, metadata });
};

/** A stub of the controller: gRPC over TLS with forged certificates, and whatever answers a test wants. */
export class ControllerStub {
  readonly #server: grpc.Server;
  readonly port: number;

  private constructor(server: grpc.Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  /** `chain` is leaf first; `handlers` by service and method. */
  static async start(
    chain: readonly Forged[],
    handlers: ReadonlyArray<readonly [ServiceDefinition, Record<string, Answer | Streamer>]>,
    port = 0,
  ): Promise<ControllerStub> {
    const server = new grpc.Server();
    for (const [definition, methods] of handlers) {
      const implementation: grpc.UntypedServiceImplementation = {};
      for (const [name, handler] of Object.entries(methods)) {
        implementation[name] = (
          definition[name]?.responseStream ? handler : unary(handler as Answer)
        ) as grpc.UntypedHandleCall;
      }
      server.addService(definition as grpc.ServiceDefinition, implementation);
    }
    const key = (await privateKeyOf(chain[0] as Forged)).export({ type: 'pkcs8', format: 'pem' }) as string;
    const credentials = grpc.ServerCredentials.createSsl(null, [
      {
        private_key: Buffer.from(key),
        cert_chain: Buffer.from(chain.map(({ der }) => toPem('CERTIFICATE', der)).join('')),
      },
    ]);
    const bound = await new Promise<number>((resolve, reject) =>
      server.bindAsync(`127.0.0.1:${port}`, credentials, (error, found) =>
        error === null ? resolve(found) : reject(error),
      ),
    );
    return new ControllerStub(server, bound);
  }

  stop(): void {
    this.#server.forceShutdown();
  }
}

function unary(answer: Answer): grpc.handleUnaryCall<never, object> {
  return (call, done) => {
    (async () => await answer(call.request, call.metadata))().then(
      (response) => done(null, response),
      (error) => done(error),
    );
  };
}
