/** A child process of the routing test: one call by a plain grpc-js client, whose environment names a proxy. */
import * as grpc from '@grpc/grpc-js';
import { SayHello } from './greeter-methods.ts';

const client = new grpc.Client(process.argv[2] as string, grpc.credentials.createInsecure());
client.makeUnaryRequest(
  SayHello.path,
  SayHello.requestSerialize,
  SayHello.responseDeserialize,
  { name: 'proxy' },
  { deadline: Date.now() + 20_000 },
  (error, message) => {
    process.stdout.write(JSON.stringify({ code: error?.code ?? 0, details: error?.details, message }));
    client.close();
  },
);
