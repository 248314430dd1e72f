/** A healthy, busy grpc-js client of the interop app: streams, cancellations, deadlines that expire, half-closes ... */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import type { Answer, TestClient } from './greeter-client.ts';
import {
  EmptyCall,
  FullDuplexCall,
  StreamingInputCall,
  StreamingOutputCall,
  type StreamingOutputCallRequest,
  UnaryCall,
  zeros,
} from './interop-methods.ts';

/** What came of a client's calls. */
export interface Tally {
  /** Calls by what was done and how they ended. */
  readonly counts: Readonly<Record<string, number>>;
  /** Ends that the client did not bring about. */
  readonly unexpected: readonly string[] | null;
}

/** Options of its channel: keepalive as often as grpc-js lets one, also without calls. */
export const KEEPALIVE = {
  'grpc.keepalive_time_ms': 100,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.keepalive_permit_without_calls': 1,
};

const AT_ONCE = 64;
const HALF_AN_HOUR_US = 1_800_000_000;
const SLEEPY: StreamingOutputCallRequest = { responseParameters: [{ size: 1, intervalUs: HALF_AN_HOUR_US }] };

export async function beHealthy(client: TestClient): Promise<Tally> {
  const counts: Record<string, number> = {};
  const unexpected: string[] = [];
  const end = (phase: string, { code, details }: Answer<unknown>, ...allowed: status[]): void => {
    const key = `${phase} ${status[code]}`;
    counts[key] = (counts[key] ?? 0) + 1;
    if (!allowed.includes(code)) unexpected.push(`${key}: ${details}`);
  };

  // Every second call is taken back, at any time from before it is sent to after it is answered.
  await each(2000, async (i) => {
    const answer = client.unary(UnaryCall, { responseSize: 100, payload: zeros(100) });
    if (i % 2 === 0) {
      if (i % 4 === 0) await pause(i % 7);
      answer.call.cancel();
    }
    end('half cancelled', await answer, status.OK, ...(i % 2 === 0 ? [status.CANCELLED] : []));
  });

  // A server that does not answer: every call meets its deadline.
  await each(1200, async () => {
    const { answer } = client.serverStream(StreamingOutputCall, SLEEPY, { deadlineMs: 20 });
    end('deadlines', await answer, status.DEADLINE_EXCEEDED);
  });

  // Watches: the first message is enough.
  await each(1000, async () => {
    const { call, answer } = client.bidi(FullDuplexCall);
    const first = once(call, 'data');
    call.write({ responseParameters: [{ size: 10 }] });
    await Promise.race([first, answer]);
    call.cancel();
    end('first message', await answer, status.CANCELLED);
  });

  await each(500, async (i) => {
    const { call, answer } = client.clientStream(StreamingInputCall);
    for (let n = 0; n < i % 4; n++) call.write({ payload: zeros(n) });
    call.end();
    end('half-closes', await answer, status.OK);
  });

  await each(300, async (i) => {
    const fields = Array.from({ length: 20 }, (_, n) => [`x-meta-${n}`, 'v'.repeat(300) + i] as const);
    end('metadata', await client.unary(EmptyCall, {}, { metadata: Object.fromEntries(fields) }), status.OK);
  });

  await each(AT_ONCE, async () => {
    const { call, answer } = client.bidi(FullDuplexCall);
    for (let n = 0; n < 100; n++) call.write({ responseParameters: [{ size: 1 }] });
    call.end();
    end('small messages', await answer, status.OK);
  });

  await pause(1000); // idle, but for keepalive
  end('last', await client.unary(EmptyCall, {}), status.OK);
  return { counts, unexpected };
}

/** Makes `n` calls, so many at a time. */
async function each(n: number, call: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < n) await call(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
