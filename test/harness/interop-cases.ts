/**
 * The published gRPC interop cases ("Interoperability Test Case Descriptions") as a grpc-js client does them: data,
 * each a name and what is to be done and found. Those about compression are in interop-compression.ts.
 */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { expect } from 'vitest';
import type { Answer, TestClient } from './greeter-client.ts';
import {
  ECHO_INITIAL,
  ECHO_TRAILING,
  EmptyCall,
  FullDuplexCall,
  LARGE_REQUEST,
  LARGE_RESPONSE,
  type SimpleResponse,
  StreamingInputCall,
  StreamingOutputCall,
  type StreamingOutputCallRequest,
  type StreamingOutputCallResponse,
  UnaryCall,
  UnimplementedCall,
  UnimplementedServiceCall,
  zeros,
} from './interop-methods.ts';

export interface InteropClient {
  readonly client: TestClient;
  /** Another channel to the same server. */
  newClient(): TestClient;
}

export interface InteropCase {
  readonly name: string;
  /** Rejects where the case fails. */
  readonly run: (from: InteropClient) => Promise<void>;
}

/** Rows of a table, such as vitest prints with the name first. */
export function named<Case extends { readonly name: string }>(cases: readonly Case[]): Array<[string, Case]> {
  return cases.map((one) => [one.name, one]);
}

const REQUEST_SIZES = [27_182, 8, 1828, 45_904];
const RESPONSE_SIZES = [31_415, 9, 2653, 58_979];

const SOAK_CALLS = 50; // of 271,828 octets there and 314,159 back
const SOAK_CHANNELS = 20;
const LONG_LIVED_CALLS = 5;
const LONG_LIVED_PAUSE_MS = 300;
const CONCURRENT = 1000;

const ok = (answer: Answer<unknown>): void => {
  expect(answer.code, answer.details).toBe(status.OK);
};

const isLarge = (answer: Answer<SimpleResponse>): void => {
  ok(answer);
  const { length } = answer.message?.payload?.body ?? { length: -1 };
  expect(length).toBe(LARGE_RESPONSE);
};

const largeUnary = async (client: TestClient): Promise<void> =>
  isLarge(await client.unary(UnaryCall, LARGE_REQUEST));

const sizesOf = (answer: Answer<StreamingOutputCallResponse>): Array<number | undefined> =>
  answer.messages.map(({ payload }) => payload?.body.length);

const duplexRequest = (at: number): StreamingOutputCallRequest => ({
  responseParameters: [{ size: RESPONSE_SIZES[at] as number }],
  payload: zeros(REQUEST_SIZES[at] as number),
});

export const INTEROP_CASES: readonly InteropCase[] = [
  {
    name: 'empty_unary',
    async run({ client }) {
      const answer = await client.unary(EmptyCall, {});
      ok(answer);
      expect(answer.message).toEqual({});
    },
  },
  { name: 'large_unary', run: ({ client }) => largeUnary(client) },
  {
    name: 'client_streaming',
    async run({ client }) {
      const { call, answer } = client.clientStream(StreamingInputCall);
      for (const size of REQUEST_SIZES) call.write({ payload: zeros(size) });
      call.end();
      ok(await answer);
      expect((await answer).message?.aggregatedPayloadSize).toBe(74_922);
    },
  },
  {
    name: 'server_streaming',
    async run({ client }) {
      const responseParameters = RESPONSE_SIZES.map((size) => ({ size }));
      const answer = await client.serverStream(StreamingOutputCall, { responseParameters }).answer;
      ok(answer);
      expect(sizesOf(answer)).toEqual(RESPONSE_SIZES);
    },
  },
  {
    name: 'ping_pong',
    async run({ client }) {
      const { call, answer } = client.bidi(FullDuplexCall);
      for (let at = 0; at < REQUEST_SIZES.length; at++) {
        const reply = once(call, 'data');
        call.write(duplexRequest(at));
        await reply;
      }
      call.end();
      ok(await answer);
      expect(sizesOf(await answer)).toEqual(RESPONSE_SIZES);
    },
  },
  {
    name: 'empty_stream',
    async run({ client }) {
      const { call, answer } = client.bidi(FullDuplexCall);
      call.end();
      ok(await answer);
      expect((await answer).messages).toEqual([]);
    },
  },
  {
    name: 'custom_metadata',
    async run({ client }) {
      const metadata = {
        [ECHO_INITIAL]: 'test_initial_metadata_value',
        [ECHO_TRAILING]: Buffer.from([0xab, 0xab, 0xab]),
      };
      const unary = await client.unary(UnaryCall, LARGE_REQUEST, { metadata });
      isLarge(unary);
      const { call, answer } = client.bidi(FullDuplexCall, { metadata });
      call.write({ responseParameters: [{ size: LARGE_RESPONSE }], payload: zeros(271_828) });
      call.end();
      const duplex = await answer;
      ok(duplex);
      expect(sizesOf(duplex)).toEqual([LARGE_RESPONSE]);
      for (const { headers, trailers } of [unary, duplex]) {
        expect(headers?.get(ECHO_INITIAL)).toEqual([metadata[ECHO_INITIAL]]);
        expect(trailers.get(ECHO_TRAILING)).toEqual([metadata[ECHO_TRAILING]]);
      }
    },
  },
  {
    name: 'status_code_and_message',
    async run({ client }) {
      const responseStatus = { code: 2, message: 'test status message' };
      const unary = await client.unary(UnaryCall, { responseStatus });
      const { call, answer } = client.bidi(FullDuplexCall);
      call.write({ responseStatus });
      call.end();
      for (const { code, details } of [unary, await answer])
        expect({ code, message: details }).toEqual(responseStatus);
    },
  },
  {
    name: 'special_status_message',
    async run({ client }) {
      const message = '\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \u{1f608}\t\n';
      const { code, details } = await client.unary(UnaryCall, { responseStatus: { code: 2, message } });
      expect({ code, details }).toEqual({ code: 2, details: message });
    },
  },
  {
    name: 'unimplemented_method',
    async run({ client }) {
      const { code, hauberkError } = await client.unary(UnimplementedCall, {});
      expect({ code, hauberkError }).toEqual({ code: status.UNIMPLEMENTED, hauberkError: undefined });
    },
  },
  {
    name: 'unimplemented_service',
    async run({ client }) {
      const { code, hauberkError } = await client.unary(UnimplementedServiceCall, {});
      expect({ code, hauberkError }).toEqual({ code: status.UNIMPLEMENTED, hauberkError: undefined });
    },
  },
  {
    name: 'cancel_after_begin',
    async run({ client }) {
      const { call, answer } = client.clientStream(StreamingInputCall);
      call.cancel();
      expect((await answer).code).toBe(status.CANCELLED);
    },
  },
  {
    name: 'cancel_after_first_response',
    async run({ client }) {
      const { call, answer } = client.bidi(FullDuplexCall);
      const reply = once(call, 'data');
      call.write(duplexRequest(0));
      await reply;
      call.cancel();
      expect((await answer).code).toBe(status.CANCELLED);
      expect(sizesOf(await answer)).toEqual([RESPONSE_SIZES[0]]);
    },
  },
  {
    name: 'timeout_on_sleeping_server',
    async run({ client }) {
      const { call, answer } = client.bidi(FullDuplexCall, { deadlineMs: 1 });
      call.write({ payload: zeros(27_182) });
      expect((await answer).code).toBe(status.DEADLINE_EXCEEDED);
    },
  },
  {
    name: 'rpc_soak',
    async run({ client }) {
      for (let i = 0; i < SOAK_CALLS; i++) await largeUnary(client);
    },
  },
  {
    name: 'channel_soak',
    async run({ newClient }) {
      for (let i = 0; i < SOAK_CHANNELS; i++) {
        const client = newClient();
        await largeUnary(client);
        client.close();
      }
    },
  },
  {
    name: 'concurrent_large_unary',
    async run({ client }) {
      await Promise.all(Array.from({ length: CONCURRENT }, () => largeUnary(client)));
    },
  },
  {
    name: 'long_lived_channel',
    async run({ client }) {
      for (let i = 0; i < LONG_LIVED_CALLS; i++) {
        await largeUnary(client);
        await pause(LONG_LIVED_PAUSE_MS);
      }
    },
  },
];
