import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { startBackend } from '../../bench/peers/backend.ts';
import { renderBudgets } from '../../bench/peers/budget.ts';
import { awaitRecorded } from '../../bench/peers/calllog.ts';
import { runCalls } from '../../bench/peers/generator/calls.ts';
import { readLatencies, readReport, runH2load } from '../../bench/peers/h2load.ts';
import { AUTHORITY, framed, LOADS, type Load, pathOf } from '../../bench/peers/load.ts';
import { readOptions } from '../../bench/peers/options.ts';
import { Processes } from '../../bench/peers/proc.ts';
import { addedUs, ratioOf } from '../../bench/peers/ratio.ts';
import { type Figures, PAIR_NAMES, type Result, type Row } from '../../bench/peers/result.ts';
import { percentile } from '../../bench/peers/sample.ts';
import { findTools, toolPath } from '../../bench/peers/tools.ts';

const SCRIPT = fileURLToPath(new URL('../../scripts/bench-peers.mjs', import.meta.url));

const folder = mkdtempSync(join(tmpdir(), 'bench-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function emptyFolder(name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  return path;
}

describe('npm run bench:peers', () => {
  it('measures every pair under every load without a failed call, and writes the result', () => {
    const json = join(folder, 'result.json');
    const run = spawnSync(process.execPath, [SCRIPT, '--rounds', '1', '--seconds', '0.05', '--json', json], {
      encoding: 'utf8',
      timeout: 110_000,
    });
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain('(ratio)');

    const result = JSON.parse(readFileSync(json, 'utf8')) as Result;
    expect(result.machine.cores).toBeGreaterThan(0);
    const combinations = LOADS.flatMap((load) => PAIR_NAMES.map((pair) => `${load.name} ${pair}`));
    expect(result.rows.map((row) => `${row.load} ${row.pair}`)).toEqual(combinations);
    for (const row of result.rows) expectMeasured(row);
    expect(result.idle.map(({ pair }) => pair)).toEqual([
      ...['hauberk', 'hauberk, observed', 'nghttpx', 'haproxy', 'nginx'],
    ]);
    expect(result.handshakes.map(({ mode }) => mode)).toEqual([0, 1, 2]);
    for (const { perCoreSecond } of result.handshakes) expect(perCoreSecond).toBeGreaterThan(0);
  });

  it('names the packages of what is not installed', () => {
    const run = spawnSync(process.execPath, [SCRIPT, '--pairs', 'nginx,direct'], {
      encoding: 'utf8',
      env: { PATH: emptyFolder('no-tools') },
    });
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/apt-get install nghttp2-client .*openssl/);
  });

  it('leaves neither processes nor files behind when it is told to end', async () => {
    const temporary = emptyFolder('interrupted');
    const run = spawn(process.execPath, [SCRIPT, '--pairs', 'nghttpx,haproxy,nginx'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, TMPDIR: temporary },
    });
    const exit = once(run, 'exit');
    let progress = '';
    for await (const chunk of run.stderr) {
      progress += chunk;
      if (progress.includes('round 1')) break;
    }
    const [benchFolder] = readdirSync(temporary).filter((name) => name.startsWith('hauberk-bench-'));
    expect(processesThatName(benchFolder).length).toBeGreaterThanOrEqual(6);
    run.kill('SIGTERM');
    expect(await exit).toEqual([143, null]);
    expect(processesThatName(benchFolder)).toEqual([]);
    expect(readdirSync(temporary).filter((name) => name.startsWith('hauberk-bench-'))).toEqual([]);
  });
});

function expectMeasured(row: Row): void {
  const proxied = row.pair !== 'direct';
  expect(row.failed, `${row.pair} ${row.load}`).toBe(0);
  expect(row.rounds).toHaveLength(1);
  expect(row.calls).toBeGreaterThan(0);
  expect(row.callsPerSecond).toBeGreaterThan(0);
  expect(row.p50Us).toBeGreaterThan(0);
  expect(row.p99Us).toBeGreaterThanOrEqual(row.p50Us);
  for (const figure of ['cpuUsPerCall', 'cpuUsPerMib', 'cores', 'coresA', 'coresB'] as const) {
    expect(row[figure] > 0, `${figure}: proxies cost CPU`).toBe(proxied);
  }
  for (const figure of ['rssMiB', 'rssMiBA', 'rssMiBB'] as const) {
    expect(row[figure] > 0, `${figure}: proxies take memory`).toBe(proxied);
  }
}

/** Command lines of living processes in which `text` occurs. */
function processesThatName(text: string): string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      } catch {
        return '';
      }
    })
    .filter((commandLine) => commandLine.includes(text));
}

const ONE = { count: 1, bytes: 100 };

function loadCalled(name: string): Load {
  return LOADS.find((load) => load.name === name) as Load;
}

/** A row of which only one figure matters, the same in all of its rounds but those given. */
function rowWith(pair: string, load: string, figure: keyof Figures, values: readonly number[]): Row {
  const none = { cpuUsPerCall: 1, callsPerSecond: 1, cpuUsPerMib: 1, mibPerSecond: 1, p50Us: 1, p99Us: 1 };
  const used = { cores: 1, coresA: 1, coresB: 1, rssMiB: 1, rssMiBA: 1, rssMiBB: 1 };
  const rounds = values.map((value) => ({ ...none, ...used, [figure]: value }));
  return { ...rounds[0], pair, load, calls: 1, failed: 0, rounds };
}

describe('the report', () => {
  it('takes the median of the ratios within rounds', () => {
    const own = rowWith('hauberk', '100B-4x32', 'cpuUsPerCall', [5, 50, 6]);
    const other = rowWith('nghttpx', '100B-4x32', 'cpuUsPerCall', [10, 100, 10]);
    expect(ratioOf(own, other, 'cpuUsPerCall')).toBe(0.5);
    expect(addedUs(own, other, 'p50Us')).toBe(0);
    const direct = rowWith('direct', '100B-4x32', 'cpuUsPerCall', [0, 0, 0]);
    expect(ratioOf(own, direct, 'cpuUsPerCall'), 'direct has no proxies').toBeUndefined();
  });

  it('says of each budget whether it is met', () => {
    const verdicts = (cpu: number, throughput: number, idle: number, perCoreSecond: number) =>
      renderBudgets({
        rows: [
          rowWith('hauberk', 'unique-4x32', 'cpuUsPerCall', [cpu]),
          rowWith('nghttpx', 'unique-4x32', 'cpuUsPerCall', [10]),
          rowWith('hauberk', '1MiB-stream-up', 'mibPerSecond', [throughput]),
          rowWith('nghttpx', '1MiB-stream-up', 'mibPerSecond', [500]),
        ],
        idle: [{ pair: 'hauberk', rssMiBA: idle, rssMiBB: 60 }],
        handshakes: [
          { mode: 0, perCoreSecond },
          { mode: 1, perCoreSecond: 1 },
        ],
      } as unknown as Result).match(/met$|MISSED$/gm);
    expect(verdicts(9, 500, 79, 800)).toEqual(['met', 'met', 'met', 'met']);
    expect(verdicts(9.1, 499, 80, 799)).toEqual(['MISSED', 'MISSED', 'MISSED', 'MISSED']);
  });
});

describe('the options', () => {
  it('take a load by the beginning of its name, and other builds by name', () => {
    const options = readOptions(['--loads', '1MiB-stream', '--hauberk', 'before=/tmp/dist']);
    expect(options.loads.map(({ name }) => name)).toEqual(['1MiB-stream-up', '1MiB-stream-down']);
    expect(options.builds).toEqual([{ name: 'before', dist: '/tmp/dist' }]);
    expect(options.handshakes).toBe(false);
    expect(() => readOptions(['--loads', '1MiB-str'])).toThrow(/not one of/);
    expect(() => readOptions(['--hauberk', 'nginx=/tmp/dist'])).toThrow(/a name of its own/);
  });

  it('measure direct calls wherever a load is paced', () => {
    expect(readOptions(['--loads', 'paced-1000', '--pairs', 'hauberk']).pairs).toEqual(['hauberk', 'direct']);
    expect(readOptions(['--loads', '100B-1x1', '--pairs', 'hauberk']).pairs).toEqual(['hauberk']);
  });
});

describe('a call log', () => {
  const event = '{"type":"call.completed"}\n';

  it('is waited for until it tells of every call, and emptied', async () => {
    const file = join(folder, 'calls.jsonl');
    const much = 100_000; // more than is read at a time
    writeFileSync(file, event.repeat(much) + event.slice(0, 10));
    const recorded = awaitRecorded([file], much + 1);
    appendFileSync(file, event.slice(10));
    await recorded;
    expect(readFileSync(file, 'utf8')).toBe('');
  });

  it('that lacks a call ends the run', async () => {
    const file = join(folder, 'fewer-calls.jsonl');
    writeFileSync(file, event.repeat(9));
    await expect(awaitRecorded([file], 10, 50)).rejects.toThrow(/tells of 9 calls of 10/);
  });
});

describe('the generators', () => {
  it('count a call without the right answer as failed', async () => {
    const tools = findTools([]);
    const own = emptyFolder('generator');
    const processes = new Processes(own);
    try {
      const port = await startBackend(toolPath(tools, 'nghttpd'), own, processes);
      const requestFile = join(own, 'request');
      writeFileSync(requestFile, framed(ONE));
      const failedOf = async (load: Load) => {
        const target = { port, load, requestFile };
        const byH2load = await runH2load(toolPath(tools, 'h2load'), target, 50, join(own, 'log'), 10_000);
        const byOurs = await runCalls({ load, port, calls: 50, timeoutMs: 10_000 });
        return [byH2load.failed, byOurs.failed];
      };
      expect(await failedOf(loadCalled('unique-4x32'))).toEqual([0, 0]);
      const unknown = { ...loadCalled('unique-4x32'), answer: { count: 1, bytes: 12_345 } };
      expect(await failedOf(unknown), 'the back end answers 404').toEqual([50, 50]);

      const altered = framed({ count: 1, bytes: 10_240 }).fill('b', 10_244);
      writeFileSync(join(own, 'answers', pathOf(loadCalled('10KiB-4x16'))), altered);
      const ten = { load: loadCalled('10KiB-4x16'), port, calls: 50, timeoutMs: 10_000 };
      expect((await runCalls(ten)).failed, 'the last octet').toBe(50);
    } finally {
      await processes.stop();
    }
  });

  it('make each call with a traceparent and a grpc-timeout of its own', async () => {
    const seen: IncomingHttpHeaders[] = [];
    const bodies: Buffer[] = [];
    const server = createServer().on('stream', (stream, headers) => {
      seen.push(headers);
      stream.on('data', (chunk: Buffer) => bodies.push(chunk));
      stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(framed(ONE));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const load = loadCalled('unique-4x32');
    const sample = await runCalls({ load, port, calls: 1000, timeoutMs: 10_000 });
    server.close();

    expect(sample).toMatchObject({ calls: 1000, failed: 0 });
    expect(seen).toHaveLength(1000);
    expect(Buffer.concat(bodies).length).toBe(1000 * framed(ONE).length);
    for (const field of ['traceparent', 'grpc-timeout']) {
      expect(new Set(seen.map((headers) => headers[field])).size, field).toBe(1000);
    }
    for (const headers of seen) {
      expect(headers).toMatchObject({
        ':method': 'POST',
        ':scheme': 'http',
        ':authority': AUTHORITY,
        ':path': pathOf(loadCalled('unique-4x32')),
        'content-type': 'application/grpc',
        te: 'trailers',
        traceparent: expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/),
        'grpc-timeout': expect.stringMatching(/^[2-9]\d{7}u$/),
      });
    }
  });

  it('keep a pace, whatever has become of earlier calls', async () => {
    let held: Array<() => void> = [];
    let atOnce = 0;
    const server = createServer().on('stream', (stream) => {
      stream.resume();
      held.push(() => {
        stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true });
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
        stream.end(framed({ count: 1, bytes: 1024 }));
      });
      atOnce = Math.max(atOnce, held.length);
      if (seen++ < 150) return; // answers come only when later calls have
      for (const answer of held) answer();
      held = [];
    });
    let seen = 0;
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const load = loadCalled('paced-1000');
    const from = performance.now();
    const sample = await runCalls({ load, port, calls: 300, callsPerSecond: 1000, timeoutMs: 10_000 });
    const elapsedMs = performance.now() - from;
    server.close();
    expect(sample.failed).toBe(0);
    expect(atOnce).toBe(151);
    expect(elapsedMs, '300 calls, a millisecond each').toBeGreaterThanOrEqual(299);
  });

  it('counts a 200 without a message, as gRPC errors are, as failed', () => {
    const report = (dataBytes: number) =>
      [
        'finished in 465.99ms, 4291.84 req/s, 57.30MB/s',
        'requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout',
        'status codes: 10 2xx, 0 3xx, 0 4xx, 0 5xx',
        `traffic: 2.70KB (2708) total, 134B (134) headers (space savings 96.19%), 1.03KB (${dataBytes}) data`,
      ].join('\n');
    expect(readReport(report(1050), 10, 105)).toEqual({ failed: 0, callsPerSecond: 4291.84 });
    expect(readReport(report(945), 10, 105).failed).toBe(1);
    expect(readReport(report(0), 10, 105).failed).toBe(10);
  });

  it('takes exact percentiles of the third column of the log', () => {
    const log = Buffer.from('1795229133753640\t200\t30\n1795229133753641\t200\t10\tmore\n1\t-1\t20\n');
    const latencies = readLatencies(log);
    expect([...latencies]).toEqual([10, 20, 30]);
    expect([0.5, 0.99, 0].map((fraction) => percentile(latencies, fraction))).toEqual([20, 30, 10]);
    expect(percentile(new Float64Array(0), 0.5)).toBe(0);
  });
});
