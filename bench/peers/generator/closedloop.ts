import { randomInt } from 'node:crypto';
import { BenchError } from '../errors.ts';
import { framed, type Load } from '../load.ts';
import { percentile, type Sample } from '../sample.ts';
import { type Caller, Connection } from './connection.ts';
import { RequestFrames } from './request.ts';

const RUN = randomInt(2 ** 32);
let calledBefore = 0; // by this process: no two calls of a run are alike

/**
 * Makes `calls` calls as h2load would, each connection beginning one when one ends, but each with a `traceparent` and
 * a `grpc-timeout` of its own. Every answer is compared in full. Throws BenchError `generator-failed`.
 */
export async function runClosedLoop(
  load: Load,
  port: number,
  calls: number,
  timeoutMs: number,
): Promise<Sample> {
  const request = new RequestFrames(load, RUN);
  const loop = new ClosedLoop(calls);
  const answer = framed(load.answerBytes);
  const connections = Array.from(
    { length: load.connections },
    () => new Connection(port, request, answer, loop),
  );
  const timer = setTimeout(
    () => loop.failed(new BenchError('generator-failed', `it took more than ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  try {
    await Promise.race([Promise.all(connections.map((connection) => connection.open())), loop.done]);
    const startedAt = performance.now();
    for (const connection of connections) {
      for (let i = 0; i < load.inFlight; i++) loop.begin(connection, startedAt);
      connection.flush();
    }
    await loop.done;
    const seconds = (loop.endedAt - startedAt) / 1000;
    const latencies = loop.latencies.sort();
    return {
      calls,
      failed: loop.wrong,
      callsPerSecond: calls / seconds,
      p50Us: percentile(latencies, 0.5),
      p99Us: percentile(latencies, 0.99),
    };
  } finally {
    clearTimeout(timer);
    for (const connection of connections) connection.close();
  }
}

class ClosedLoop implements Caller {
  /** Of calls that have ended, in microseconds. */
  readonly latencies: Float64Array;
  readonly done: Promise<void>;
  wrong = 0;
  endedAt = 0;
  #begun = 0;
  #ended = 0;
  #resolve!: () => void;
  #reject!: (error: Error) => void;

  constructor(calls: number) {
    this.latencies = new Float64Array(calls);
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {}); // it may come while nobody waits
  }

  begin(connection: Connection, now: number): void {
    if (this.#begun === this.latencies.length) return;
    this.#begun++;
    connection.call(calledBefore++, now);
  }

  ended(connection: Connection, right: boolean, startedAt: number, now: number): void {
    this.latencies[this.#ended++] = (now - startedAt) * 1000;
    if (!right) this.wrong++;
    this.begin(connection, now);
    if (this.#ended < this.latencies.length) return;
    this.endedAt = now;
    this.#resolve();
  }

  failed(error: Error): void {
    this.#reject(error);
  }
}
