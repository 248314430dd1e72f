import { randomInt } from 'node:crypto';
import { BenchError } from '../errors.ts';
import { framed, type Load } from '../load.ts';
import { percentile, type Sample } from '../sample.ts';
import { type Caller, Connection } from './connection.ts';
import { RequestFrames } from './request.ts';

const RUN = randomInt(2 ** 32);
let calledBefore = 0; // by this process: no two calls of a run are alike

const OPENED_AT_ONCE = 100; // fewer than any server's backlog
const TICK_MS = 1; // the finest of Node's timers

/** What a run is of and whom it tells when. */
export interface CallsRun {
  readonly load: Load;
  readonly port: number;
  readonly calls: number;
  /** Begin a call every so often, whatever has become of those before; else one when one ends. */
  readonly callsPerSecond?: number | undefined;
  readonly timeoutMs: number;
  /** All connections are open; the first call follows. */
  onBegin?(): void;
  /** The last answer has come; the connections are still open. */
  onEnd?(): void;
}

/**
 * Makes calls as h2load would, but each with a `traceparent` and a `grpc-timeout` of its own, and compares every
 * answer in full. Throws BenchError `generator-failed`.
 */
export async function runCalls(run: CallsRun): Promise<Sample> {
  const { load, port, calls, callsPerSecond, timeoutMs } = run;
  const request = new RequestFrames(load, RUN);
  const answer = framed(load.answer);
  const made = new Calls(calls, callsPerSecond === undefined);
  const connections: Connection[] = [];
  let ticks: NodeJS.Timeout | undefined;
  const timeout = setTimeout(
    () => made.failed(new BenchError('generator-failed', `it took more than ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  try {
    while (connections.length < load.connections) {
      const more = Array.from(
        { length: Math.min(OPENED_AT_ONCE, load.connections - connections.length) },
        () => new Connection({ port, request, answer, inFlight: load.inFlight, caller: made }),
      );
      connections.push(...more);
      await Promise.race([Promise.all(more.map((connection) => connection.open())), made.done]);
    }
    run.onBegin?.();
    const startedAt = performance.now();
    if (callsPerSecond === undefined) {
      for (const connection of connections) {
        for (let i = 0; i < load.inFlight; i++) made.begin(connection, startedAt);
        connection.flush();
      }
    } else {
      ticks = setInterval(() => made.catchUp(connections, startedAt, callsPerSecond), TICK_MS);
    }
    await made.done;
    run.onEnd?.();
    const latencies = made.latencies.sort();
    return {
      calls,
      failed: made.wrong,
      callsPerSecond: (calls * 1000) / (made.endedAt - startedAt),
      p50Us: percentile(latencies, 0.5),
      p99Us: percentile(latencies, 0.99),
    };
  } finally {
    clearTimeout(timeout);
    clearInterval(ticks);
    for (const connection of connections) connection.close();
  }
}

class Calls implements Caller {
  /** Of calls that have ended, in microseconds. */
  readonly latencies: Float64Array;
  readonly done: Promise<void>;
  wrong = 0;
  endedAt = 0;
  readonly #refills: boolean;
  #begun = 0;
  #ended = 0;
  #resolve!: () => void;
  #reject!: (error: Error) => void;

  /** `refills`: a call that ends is followed by another on its connection. */
  constructor(calls: number, refills: boolean) {
    this.latencies = new Float64Array(calls);
    this.#refills = refills;
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

  /** Begins the calls that are due by now, on one connection after the other. */
  catchUp(connections: readonly Connection[], startedAt: number, callsPerSecond: number): void {
    const now = performance.now();
    const due = Math.min(this.latencies.length, 1 + Math.floor(((now - startedAt) * callsPerSecond) / 1000));
    while (this.#begun < due) {
      const connection = connections[this.#begun % connections.length];
      this.begin(connection, now);
      connection.flush();
    }
  }

  ended(connection: Connection, right: boolean, startedAt: number, now: number): void {
    this.latencies[this.#ended++] = (now - startedAt) * 1000;
    if (!right) this.wrong++;
    if (this.#refills) this.begin(connection, now);
    if (this.#ended < this.latencies.length) return;
    this.endedAt = now;
    this.#resolve();
  }

  failed(error: Error): void {
    this.#reject(error);
  }
}
