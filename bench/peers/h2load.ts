import { execFile } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { BenchError } from './errors.ts';
import { AUTHORITY, framed, type Load, pathOf } from './load.ts';
import { percentile, type Sample } from './sample.ts';

export interface Target {
  /** 127.0.0.1, plaintext HTTP/2 with prior knowledge. */
  readonly port: number;
  readonly load: Load;
  /** File with the request's body. */
  readonly requestFile: string;
}

/** Makes `calls` calls with h2load. Throws BenchError `generator-failed` if it fails or exceeds `timeoutMs`. */
export async function runH2load(
  h2load: string,
  target: Target,
  calls: number,
  logFile: string,
  timeoutMs: number,
): Promise<Sample> {
  const { load } = target;
  const args = [
    ...[`--requests=${calls}`, `--clients=${load.connections}`, '--threads=1'],
    ...[`--max-concurrent-streams=${load.inFlight}`, `--data=${target.requestFile}`],
    ...['-H', 'content-type: application/grpc', '-H', 'te: trailers', '-H', `:authority: ${AUTHORITY}`],
    ...[`--log-file=${logFile}`, `http://127.0.0.1:${target.port}${pathOf(load)}`],
  ];
  rmSync(logFile, { force: true }); // h2load appends
  const report = await run(h2load, args, timeoutMs);
  const { failed, callsPerSecond } = readReport(report, calls, framed(load.answer).length);
  const latencies = readLatencies(readFileSync(logFile));
  rmSync(logFile, { force: true });
  return {
    calls,
    failed,
    callsPerSecond,
    p50Us: percentile(latencies, 0.5),
    p99Us: percentile(latencies, 0.99),
  };
}

function run(h2load: string, args: readonly string[], timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(h2load, args, { timeout: timeoutMs, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const why = error.killed ? `it took more than ${Math.round(timeoutMs / 1000)} s` : error.message;
      const message = `h2load did not finish: ${why}\n${stdout}${stderr}`.trimEnd();
      reject(new BenchError('generator-failed', message, { cause: error }));
    });
  });
}

/**
 * Reads h2load's summary. A call counts as failed without a 2xx, and when its answer is missing: h2load does not
 * look at grpc-status, but an error made on the way is trailers-only, so bytes of DATA are short by its answer.
 */
export function readReport(
  report: string,
  calls: number,
  answerLength: number,
): { failed: number; callsPerSecond: number } {
  const rate = /^finished in .*?, ([\d.]+) req\/s/m.exec(report)?.[1];
  const succeeded = /^status codes: (\d+) 2xx/m.exec(report)?.[1];
  const dataBytes = /^traffic: .* \((\d+)\) data/m.exec(report)?.[1];
  if (rate === undefined || succeeded === undefined || dataBytes === undefined) {
    throw new BenchError('generator-failed', `h2load's report cannot be read:\n${report}`);
  }
  const answered = Math.floor(Number(dataBytes) / answerLength);
  const failed = Math.max(calls - Number(succeeded), calls - answered, 0);
  return { failed, callsPerSecond: Number(rate) };
}

const TAB = 0x09;
const LF = 0x0a;
const DIGIT_0 = 0x30;
const LATENCY_COLUMN = 2; // after start time and HTTP status; h2load may add columns behind it

/** The third column (microseconds until the end of the response) of h2load's log, sorted. */
export function readLatencies(log: Buffer): Float64Array {
  const latencies: number[] = [];
  let column = 0;
  let latency = 0;
  for (const byte of log) {
    if (byte === LF) {
      if (column >= LATENCY_COLUMN) latencies.push(latency);
      column = 0;
      latency = 0;
    } else if (byte === TAB) {
      column++;
    } else if (column === LATENCY_COLUMN) {
      latency = latency * 10 + (byte - DIGIT_0);
    }
  }
  return Float64Array.from(latencies).sort();
}
