/** The server of the interop cases, by grpc-js. */
import { setTimeout as pause } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import {
  ECHO_INITIAL,
  ECHO_TRAILING,
  type Empty,
  type SimpleRequest,
  type SimpleResponse,
  type StreamingInputCallRequest,
  type StreamingInputCallResponse,
  type StreamingOutputCallRequest,
  type StreamingOutputCallResponse,
  testService,
  zeros,
} from './interop-methods.ts';
import { atEnd } from './sidecars.ts';

/** Starts it on a free port of 127.0.0.1; returns where it listens. It ends with the test file. */
export async function startInteropApp(options: grpc.ServerOptions = {}): Promise<string> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': -1, ...options });
  server.addService(testService(), IMPLEMENTATION);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  atEnd(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

const IMPLEMENTATION: grpc.UntypedServiceImplementation = {
  EmptyCall(_call: grpc.ServerUnaryCall<Empty, Empty>, callback: grpc.sendUnaryData<Empty>): void {
    callback(null, {});
  },

  UnaryCall(
    call: grpc.ServerUnaryCall<SimpleRequest, SimpleResponse>,
    callback: grpc.sendUnaryData<SimpleResponse>,
  ): void {
    const { responseStatus, responseSize = 0, fillServerId } = call.request;
    const { initial, trailing } = echoes(call.metadata);
    call.sendMetadata(initial);
    if (responseStatus) {
      callback({ code: responseStatus.code, details: responseStatus.message, metadata: trailing });
    } else {
      const serverId = fillServerId === true ? 'grpc-js' : '';
      callback(null, { payload: zeros(responseSize), serverId }, trailing);
    }
  },

  StreamingInputCall(
    call: grpc.ServerReadableStream<StreamingInputCallRequest, StreamingInputCallResponse>,
    callback: grpc.sendUnaryData<StreamingInputCallResponse>,
  ): void {
    let aggregatedPayloadSize = 0;
    call.on('data', ({ payload }: StreamingInputCallRequest) => {
      aggregatedPayloadSize += payload?.body.length ?? 0;
    });
    call.on('end', () => callback(null, { aggregatedPayloadSize }));
  },

  async StreamingOutputCall(
    call: grpc.ServerWritableStream<StreamingOutputCallRequest, StreamingOutputCallResponse>,
  ): Promise<void> {
    const { initial, trailing } = echoes(call.metadata);
    call.sendMetadata(initial);
    await respond(call, call.request);
    call.end(trailing);
  },

  FullDuplexCall(
    call: grpc.ServerDuplexStream<StreamingOutputCallRequest, StreamingOutputCallResponse>,
  ): void {
    const { initial, trailing } = echoes(call.metadata);
    call.sendMetadata(initial);
    let answered = Promise.resolve();
    let failed = false;
    const next = async (request: StreamingOutputCallRequest): Promise<void> => {
      const { responseStatus } = request;
      if (failed) return;
      if (!responseStatus) return respond(call, request);
      failed = true;
      call.emit('error', { code: responseStatus.code, details: responseStatus.message });
    };
    call.on('data', (request: StreamingOutputCallRequest) => {
      answered = answered.then(() => next(request));
    });
    call.on('end', () => {
      answered.then(() => {
        if (!failed) call.end(trailing);
      });
    });
  },
};

function echoes(metadata: grpc.Metadata): { initial: grpc.Metadata; trailing: grpc.Metadata } {
  const pick = (key: string): grpc.Metadata => {
    const picked = new grpc.Metadata();
    for (const value of metadata.get(key)) picked.add(key, value);
    return picked;
  };
  return { initial: pick(ECHO_INITIAL), trailing: pick(ECHO_TRAILING) };
}

interface Responding {
  readonly cancelled: boolean;
  write(response: StreamingOutputCallResponse): boolean;
}

async function respond(call: Responding, request: StreamingOutputCallRequest): Promise<void> {
  for (const { size, intervalUs = 0 } of request.responseParameters ?? []) {
    if (intervalUs > 0) await pause(intervalUs / 1000, undefined, { ref: false });
    if (call.cancelled) return;
    call.write({ payload: zeros(size) });
  }
}
