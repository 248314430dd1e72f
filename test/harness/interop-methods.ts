import { fileURLToPath } from 'node:url';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** The methods of grpc.testing, typed. What a request leaves out has its default. */

const definitions = loadSync(fileURLToPath(new URL('interop.proto', import.meta.url)), {
  longs: Number,
  defaults: true,
});

export type Empty = Record<string, never>;
export interface BoolValue {
  value: boolean;
}
export interface Payload {
  body: Buffer;
}
export interface EchoStatus {
  code: number;
  message: string;
}
export interface SimpleRequest {
  responseSize?: number;
  payload?: Payload | null;
  responseCompressed?: BoolValue | null;
  responseStatus?: EchoStatus | null;
  expectCompressed?: BoolValue | null;
  fillServerId?: boolean;
}
export interface SimpleResponse {
  payload?: Payload | null;
  serverId?: string;
}
export interface StreamingInputCallRequest {
  payload?: Payload | null;
  expectCompressed?: BoolValue | null;
}
export interface StreamingInputCallResponse {
  aggregatedPayloadSize: number;
}
export interface ResponseParameters {
  size: number;
  intervalUs?: number;
  compressed?: BoolValue | null;
}
export interface StreamingOutputCallRequest {
  responseParameters?: ResponseParameters[];
  payload?: Payload | null;
  responseStatus?: EchoStatus | null;
}
export interface StreamingOutputCallResponse {
  payload?: Payload | null;
}

export const TEST_SERVICE = 'grpc.testing.TestService';

export function testService(): ServiceDefinition {
  return definitions[TEST_SERVICE] as unknown as ServiceDefinition;
}

function method<Req, Res>(name: string, service = TEST_SERVICE): MethodDefinition<Req, Res> {
  const found = (definitions[service] as unknown as ServiceDefinition)[name];
  if (found === undefined) throw new Error(`interop.proto has no ${service}/${name}`);
  return found as MethodDefinition<Req, Res>;
}

export const EmptyCall = method<Empty, Empty>('EmptyCall');
export const UnaryCall = method<SimpleRequest, SimpleResponse>('UnaryCall');
export const StreamingInputCall = method<StreamingInputCallRequest, StreamingInputCallResponse>(
  'StreamingInputCall',
);
export const StreamingOutputCall = method<StreamingOutputCallRequest, StreamingOutputCallResponse>(
  'StreamingOutputCall',
);
export const FullDuplexCall = method<StreamingOutputCallRequest, StreamingOutputCallResponse>(
  'FullDuplexCall',
);
export const UnimplementedCall = method<Empty, Empty>('UnimplementedCall');
export const UnimplementedServiceCall = method<Empty, Empty>(
  'UnimplementedCall',
  'grpc.testing.UnimplementedService',
);

/** A payload of zeros. */
export const zeros = (size: number): Payload => ({ body: Buffer.alloc(size) });

/** The request of large_unary. */
export const LARGE_RESPONSE = 314_159;
export const LARGE_REQUEST: SimpleRequest = { responseSize: LARGE_RESPONSE, payload: zeros(271_828) };

/** Metadata that the server sends back, in its headers and in its trailers. */
export const ECHO_INITIAL = 'x-grpc-test-echo-initial';
export const ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin';
