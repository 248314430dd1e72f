/**
 * The interop cases about compression, at the level of frames: gRPC libraries hide the flag of a message. Here are
 * a server that reads and sets it and a client that does; between them it must come through as it was sent.
 */
import type { ClientHttp2Stream, ServerHttp2Stream } from 'node:http2';
import { gunzipSync, gzipSync } from 'node:zlib';
import { type MethodDefinition, status } from '@grpc/grpc-js';
import { expect } from 'vitest';
import {
  type BoolValue,
  LARGE_REQUEST,
  LARGE_RESPONSE,
  StreamingInputCall,
  StreamingOutputCall,
  UnaryCall,
  zeros,
} from './interop-methods.ts';
import { answerOf, fieldOf, framed, RawApp, type RawClient, type RawRequest } from './rawh2.ts';

interface FlaggedMessage {
  readonly compressed: boolean;
  readonly octets: Buffer;
}

/** The messages of a body, unpacked. */
function messagesIn(body: Buffer): FlaggedMessage[] {
  const found: FlaggedMessage[] = [];
  for (let at = 0; at < body.length; ) {
    const compressed = body[at] === 1;
    const end = at + 5 + body.readUInt32BE(at + 1);
    const octets = body.subarray(at + 5, end);
    if (octets.length !== end - at - 5) throw new Error('the body ends within a message');
    found.push({ compressed, octets: compressed ? gunzipSync(octets) : octets });
    at = end;
  }
  return found;
}

const packed = (octets: Buffer, compressed: boolean): Buffer =>
  framed(compressed ? gzipSync(octets) : octets, compressed);

async function bodyOf(stream: ServerHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const wants = (value: BoolValue | null | undefined): boolean => value?.value === true;

/** Starts the server; returns where it listens. */
export async function startCompressingApp(): Promise<string> {
  const app = await RawApp.start();
  app.onRequest((request) => void serve(request));
  return app.address;
}

async function serve({ stream, headers }: RawRequest): Promise<void> {
  const messages = messagesIn(await bodyOf(stream));
  switch (fieldOf(headers, ':path')) {
    case UnaryCall.path: {
      const [message] = messages as [FlaggedMessage];
      const request = UnaryCall.requestDeserialize(message.octets);
      if (lies(message, request.expectCompressed)) return refuse(stream);
      const response = UnaryCall.responseSerialize({ payload: zeros(request.responseSize ?? 0) });
      return answer(stream, [packed(response, wants(request.responseCompressed))]);
    }
    case StreamingInputCall.path: {
      let aggregatedPayloadSize = 0;
      for (const message of messages) {
        const request = StreamingInputCall.requestDeserialize(message.octets);
        if (lies(message, request.expectCompressed)) return refuse(stream);
        aggregatedPayloadSize += request.payload?.body.length ?? 0;
      }
      return answer(stream, [packed(StreamingInputCall.responseSerialize({ aggregatedPayloadSize }), false)]);
    }
    default: {
      const [message] = messages as [FlaggedMessage];
      const { responseParameters = [] } = StreamingOutputCall.requestDeserialize(message.octets);
      const responses = responseParameters.map(({ size, compressed }) =>
        packed(StreamingOutputCall.responseSerialize({ payload: zeros(size) }), wants(compressed)),
      );
      return answer(stream, responses);
    }
  }
}

/** The request says that it is compressed, and is not. */
const lies = (message: FlaggedMessage, expected: BoolValue | null | undefined): boolean =>
  wants(expected) && !message.compressed;

function refuse(stream: ServerHttp2Stream): void {
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': `${status.INVALID_ARGUMENT}` },
    { endStream: true },
  );
}

function answer(stream: ServerHttp2Stream, messages: readonly Buffer[]): void {
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', 'grpc-encoding': 'gzip' },
    { waitForTrailers: true },
  );
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  for (const message of messages) stream.write(message);
  stream.end();
}

interface Outcome<Res> {
  readonly code: number;
  readonly responses: ReadonlyArray<{ compressed: boolean; message: Res }>;
}

/** Sends requests, compressed or not, and reads what comes with its flags. */
async function call<Req, Res>(
  client: RawClient,
  method: MethodDefinition<Req, Res>,
  requests: ReadonlyArray<{ compressed: boolean; message: Req }>,
): Promise<Outcome<Res>> {
  const stream: ClientHttp2Stream = client.grpc(method.path, {
    'grpc-encoding': 'gzip',
    'grpc-accept-encoding': 'identity,gzip',
  });
  const reading = answerOf(stream);
  for (const { compressed, message } of requests)
    stream.write(packed(method.requestSerialize(message), compressed));
  stream.end();
  const { headers, body, trailers } = await reading;
  return {
    code: Number(fieldOf(trailers, 'grpc-status') ?? fieldOf(headers, 'grpc-status')),
    responses: messagesIn(body).map(({ compressed, octets }) => ({
      compressed,
      message: method.responseDeserialize(octets),
    })),
  };
}

export interface CompressionCase {
  readonly name: string;
  /** Rejects where the case fails. */
  readonly run: (client: RawClient) => Promise<void>;
}

const YES: BoolValue = { value: true };
const NO: BoolValue = { value: false };
const REFUSED = { code: status.INVALID_ARGUMENT, responses: [] };

export const COMPRESSION_CASES: readonly CompressionCase[] = [
  {
    name: 'client_compressed_unary',
    async run(client) {
      const unary = async (expectCompressed: BoolValue, compressed: boolean) => {
        const { code, responses } = await call(client, UnaryCall, [
          { compressed, message: { ...LARGE_REQUEST, expectCompressed } },
        ]);
        return { code, responses: responses.map(({ message }) => message.payload?.body.length) };
      };
      expect(await unary(YES, false)).toEqual(REFUSED); // the probe
      expect(await unary(YES, true)).toEqual({ code: status.OK, responses: [LARGE_RESPONSE] });
      expect(await unary(NO, false)).toEqual({ code: status.OK, responses: [LARGE_RESPONSE] });
    },
  },
  {
    name: 'server_compressed_unary',
    async run(client) {
      for (const value of [true, false]) {
        const message = { ...LARGE_REQUEST, responseCompressed: { value } };
        const { code, responses } = await call(client, UnaryCall, [{ compressed: false, message }]);
        expect(code).toBe(status.OK);
        expect(responses.map((r) => [r.compressed, r.message.payload?.body.length])).toEqual([
          [value, LARGE_RESPONSE],
        ]);
      }
    },
  },
  {
    name: 'client_compressed_streaming',
    async run(client) {
      const first = { expectCompressed: YES, payload: zeros(27_182) };
      const second = { expectCompressed: NO, payload: zeros(45_904) };
      const probe = await call(client, StreamingInputCall, [{ compressed: false, message: first }]);
      expect(probe).toEqual(REFUSED);
      const { code, responses } = await call(client, StreamingInputCall, [
        { compressed: true, message: first },
        { compressed: false, message: second },
      ]);
      expect(code).toBe(status.OK);
      expect(responses.map(({ message }) => message.aggregatedPayloadSize)).toEqual([73_086]);
    },
  },
  {
    name: 'server_compressed_streaming',
    async run(client) {
      const responseParameters = [
        { size: 31_415, compressed: YES },
        { size: 92_653, compressed: NO },
      ];
      const { code, responses } = await call(client, StreamingOutputCall, [
        { compressed: false, message: { responseParameters } },
      ]);
      expect(code).toBe(status.OK);
      expect(responses.map((r) => [r.compressed, r.message.payload?.body.length])).toEqual([
        [true, 31_415],
        [false, 92_653],
      ]);
    },
  },
];
