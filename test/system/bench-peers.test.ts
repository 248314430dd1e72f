import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { startBackend } from '../../bench/peers/backend.ts';
import { percentile, readLatencies, readReport, runH2load } from '../../bench/peers/h2load.ts';
import { framed, LOADS, type Load } from '../../bench/peers/load.ts';
import { Processes } from '../../bench/peers/proc.ts';
import { PAIR_NAMES, type Result, type Row } from '../../bench/peers/result.ts';
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
    const run = spawnSync(process.execPath, [SCRIPT, '--rounds', '1', '--seconds', '0.2', '--json', json], {
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
  expect(row, `${row.pair} ${row.load}`).toEqual({
    pair: row.pair,
    load: row.load,
    cpuUsPerCall: expect.any(Number),
    callsPerSecond: expect.any(Number),
    p50Us: expect.any(Number),
    p99Us: expect.any(Number),
    rssMiB: expect.any(Number),
    calls: expect.any(Number),
    failed: 0,
  });
  expect(row.calls).toBeGreaterThan(0);
  expect(row.callsPerSecond).toBeGreaterThan(0);
  expect(row.p50Us).toBeGreaterThan(0);
  expect(row.p99Us).toBeGreaterThanOrEqual(row.p50Us);
  expect(row.cpuUsPerCall > 0, 'proxies cost CPU').toBe(row.pair !== 'direct');
  expect(row.rssMiB > 0, 'proxies take memory').toBe(row.pair !== 'direct');
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

describe('the generator', () => {
  it('counts a call without the right answer as failed', async () => {
    const tools = findTools([]);
    const own = emptyFolder('generator');
    const processes = new Processes(own);
    try {
      const port = await startBackend(toolPath(tools, 'nghttpd'), own, processes);
      const requestFile = join(own, 'request');
      writeFileSync(requestFile, framed(100));
      const failedOf = async (load: Load) => {
        const target = { port, load, requestFile };
        return (await runH2load(toolPath(tools, 'h2load'), target, 50, join(own, 'log'), 10_000)).failed;
      };
      expect(await failedOf(LOADS[0])).toBe(0);
      expect(await failedOf({ ...LOADS[0], answerBytes: 12_345 }), 'the back end answers 404').toBe(50);
    } finally {
      await processes.stop();
    }
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
