/**
 * The published negative HTTP/2 interop cases ("Negative HTTP/2 Interop Test Case Descriptions"): a server that
 * misbehaves, or is strange, frame by frame, and what a client makes of it. Each runs with a server of its own.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { expect } from 'vitest';
import type { Announced, DataShape, FramedApp, FramedConnection, FrameScript } from './framed-app.ts';
import type { TestClient } from './greeter-client.ts';
import { block, E, END_HEADERS, END_STREAM, goaway, headers, RESPONSE, rst, TRAILERS } from './http2-peer.ts';
import { LARGE_REQUEST, LARGE_RESPONSE, UnaryCall, zeros } from './interop-methods.ts';
import { framed } from './rawh2.ts';

export interface NegativeCase {
  readonly name: string;
  readonly script: FrameScript;
  readonly announced?: Announced;
  /** Rejects where the case fails. */
  readonly run: (client: TestClient, app: FramedApp) => Promise<void>;
}

const ANSWER = framed(UnaryCall.responseSerialize({ payload: zeros(LARGE_RESPONSE) }));
const REQUEST = framed(UnaryCall.requestSerialize(LARGE_REQUEST));
const FRAMES: DataShape = { frameSize: 16_384 };
const MAX_CONCURRENT_STREAMS = 3;
const CALLS_AT_ONCE = 10;
const TINY_FRAME = 16;
const LARGEST_PADDING = 255;

const start = (connection: FramedConnection, id: number): void =>
  connection.write(headers(id, block(RESPONSE)));

function end(connection: FramedConnection, id: number): void {
  connection.write(headers(id, block(TRAILERS), END_HEADERS | END_STREAM));
  connection.ended(id);
}

async function answer(connection: FramedConnection, id: number, shape = FRAMES): Promise<void> {
  start(connection, id);
  await connection.send(id, ANSWER, shape);
  end(connection, id);
}

/** A server that sends so many octets of its answer, and then ends the stream by RST_STREAM with code 0. */
const resetAfter =
  (octets: number): FrameScript =>
  async ({ connection, id }) => {
    start(connection, id);
    await connection.send(id, ANSWER.subarray(0, octets), FRAMES);
    connection.write(rst(id, E.NO_ERROR));
    connection.ended(id);
  };

async function succeeds(client: TestClient): Promise<void> {
  const { code, details, message } = await client.unary(UnaryCall, LARGE_REQUEST);
  expect(code, details).toBe(status.OK);
  expect(message?.payload?.body.length).toBe(LARGE_RESPONSE);
}

/** A reset without error before the end is an internal error ("gRPC over HTTP/2", HTTP/2 transport mapping). */
async function fails(client: TestClient): Promise<void> {
  const { code, message, hauberkError } = await client.unary(UnaryCall, LARGE_REQUEST);
  expect({ code, message, hauberkError }).toEqual({
    code: status.INTERNAL,
    message: undefined,
    hauberkError: undefined,
  });
}

export const NEGATIVE_CASES: readonly NegativeCase[] = [
  {
    name: 'goaway',
    script: ({ connection, id }) => {
      if (connection.requests === 1) connection.write(goaway(id, E.NO_ERROR));
      return answer(connection, id);
    },
    async run(client, app) {
      await succeeds(client);
      await succeeds(client);
      expect(app.connections.map(({ requests }) => requests)).toEqual([1, 1]);
    },
  },
  { name: 'rst_after_header', script: resetAfter(0), run: fails },
  { name: 'rst_during_data', script: resetAfter(ANSWER.length >> 1), run: fails },
  { name: 'rst_after_data', script: resetAfter(ANSWER.length), run: fails },
  {
    name: 'ping',
    async script({ connection, id }) {
      connection.ping();
      start(connection, id);
      connection.ping();
      await connection.send(id, ANSWER, FRAMES);
      connection.ping();
      end(connection, id);
      connection.ping();
    },
    async run(client, app) {
      await succeeds(client);
      const [connection] = app.connections as [FramedConnection];
      await connection.pingsDone();
      expect(connection.pingsAnswered).toBe(4);
    },
  },
  {
    name: 'max_streams',
    announced: [[MAX_CONCURRENT_STREAMS, 1]],
    async script({ connection, id }) {
      await turn(); // whoever would send another had the time
      await answer(connection, id);
    },
    async run(client, app) {
      await succeeds(client);
      await Promise.all(Array.from({ length: CALLS_AT_ONCE }, () => succeeds(client)));
      const requests = app.connections.reduce((sum, connection) => sum + connection.requests, 0);
      expect(requests).toBe(1 + CALLS_AT_ONCE);
      for (const { mostOpen } of app.connections) expect(mostOpen).toBe(1);
    },
  },
  {
    name: 'data_frame_padding',
    script: ({ connection, id, body }) => {
      expectRequest(body);
      return answer(connection, id, { frameSize: TINY_FRAME, padding: LARGEST_PADDING });
    },
    run: succeeds,
  },
  {
    name: 'no_df_padding_sanity_test',
    script: ({ connection, id, body }) => {
      expectRequest(body);
      return answer(connection, id, { frameSize: TINY_FRAME });
    },
    run: succeeds,
  },
];

function expectRequest(body: Buffer): void {
  if (!body.equals(REQUEST)) throw new Error('the request is not the one that was sent');
}
