import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import * as http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ModeId } from '../src/transport/mode.ts';
import { common, makeKeys, programIn, spiffeId } from './peers/pairs/hauberk.ts';
import { freePorts } from './peers/port.ts';
import { Processes } from './peers/proc.ts';
import { cpuMicroseconds } from './peers/procfs.ts';

// A handshake storm: many clients, each with an address of its own in 127/8, come to a sidecar at once, while a session is
// in use. Run by scripts/bench-storm.mjs; see bench/README.md.

/** What a process of clients is to do: make ready `count` clients, the first of which has the number `first`. */
export interface StormOrder {
  readonly keys: string;
  readonly port: number;
  readonly first: number;
  readonly count: number;
  /** 0, 1: of the full handshakes after a restart; 2: the sidecar stays, and all resume. */
  readonly mode: ModeId;
}

export interface StormReport {
  /** From the beginning of the storm, one for each client. */
  readonly connectedMs: readonly number[];
  /** Attempts that failed, by reason. */
  readonly failures: Readonly<Record<string, number>>;
  /** Connections that joined the session of a ticket. */
  readonly resumed: number;
}

const CLIENTS = Number(process.argv[2] ?? 5_000);
const MODES = (process.argv[3] ?? '0,1,2').split(',').map(Number) as ModeId[];
const PROCESSES = 2;
const CALM_MS = 5_000;
const PACE_MS = 2;
const SERVICE = 'echo.bench';
const STORIES: Readonly<Record<ModeId, string>> = {
  0: 'mode 0 (X25519), the called sidecar killed and started again, all try tickets that it has forgotten',
  1: 'mode 1 (X25519 with ML-KEM-768), the called sidecar killed and started again, all try tickets that it has forgotten',
  2: 'mode 2 (resumption), the called sidecar has stayed, all connections were cut',
};

const REFUSED = /^hauberk_handshakes_total\{direction="inbound",result="(?!ok)([a-z-]+)"\} (\d+)/gm;

const percentile = (sorted: readonly number[], p: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? Number.NaN;

function summary(latencies: number[]): string {
  const sorted = [...latencies].sort((a, b) => a - b);
  const shown = [0.5, 0.9, 0.99, 1].map((p) => percentile(sorted, p).toFixed(2));
  return `${sorted.length} calls, p50 ${shown[0]}, p90 ${shown[1]}, p99 ${shown[2]}, worst ${shown[3]} ms`;
}

/** An app that answers every call with its trailers alone. */
async function startApp(): Promise<http2.Http2Server> {
  const app = http2.createServer();
  app.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' },
      { endStream: true },
    );
  });
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  return app;
}

/** One call, from its first byte to its end; its status. */
function callOnce(session: http2.ClientHttp2Session): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/bench.Echo/Call',
      ':authority': SERVICE,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let status: string | undefined;
    stream.on('response', (headers) => {
      status = headers['grpc-status'] as string | undefined;
    });
    stream.on('error', reject);
    stream.on('end', () => resolve(status));
    stream.resume();
    stream.end();
  });
}

/** Calls one at a time, at a pace, until told to stop; the latencies in milliseconds. */
async function callUntil(session: http2.ClientHttp2Session, over: () => boolean): Promise<number[]> {
  const latencies: number[] = [];
  while (!over()) {
    const began = performance.now();
    const status = await callOnce(session);
    if (status !== '0')
      throw new Error(`a call over the established session ended with grpc-status ${status}`);
    latencies.push(performance.now() - began);
    await delay(PACE_MS);
  }
  return latencies;
}

/** What a sidecar counts of the handshakes that it did not finish, by reason. */
async function refusals(probes: number): Promise<string> {
  const text = await (await fetch(`http://127.0.0.1:${probes}/metrics`)).text();
  const counts = [...text.matchAll(REFUSED)].map(([, reason, n]) => `${n} ${reason}`);
  return counts.join(', ') || 'none';
}

/** The next message of a process of clients. Rejects if it ends. */
function answer(child: ChildProcess): Promise<unknown> {
  return Promise.race([
    once(child, 'message').then(([message]) => message),
    once(child, 'exit').then(() => Promise.reject(new Error('clients ended too early'))),
  ]);
}

function print(reports: readonly StormReport[]): void {
  const connected = reports.flatMap(({ connectedMs }) => connectedMs).sort((a, b) => a - b);
  const shown = [0.5, 0.9, 0.99, 1].map((p) => (percentile(connected, p) / 1000).toFixed(2));
  const resumed = reports.reduce((sum, report) => sum + report.resumed, 0);
  console.log(
    `  clients: ${connected.length} connected (${resumed} resumed): half after ${shown[0]} s, 90 % ${shown[1]} s, 99 % ${shown[2]} s, all ${shown[3]} s`,
  );
  const failures = new Map<string, number>();
  for (const report of reports) {
    for (const [code, n] of Object.entries(report.failures))
      failures.set(code, (failures.get(code) ?? 0) + n);
  }
  const total = [...failures.values()].reduce((sum, n) => sum + n, 0);
  const why = [...failures].map(([code, n]) => `${n} ${code}`).join(', ');
  console.log(`  attempts that failed and were made again: ${total}${why === '' ? '' : ` (${why})`}`);
}

async function run(
  mode: ModeId,
  folder: string,
  processes: Processes,
  storms: ChildProcess[],
): Promise<void> {
  const program = programIn();
  const keys = makeKeys(program, folder);
  execFileSync(process.execPath, [program, 'issue', 'c', '--dir', keys]);
  const app = await startApp();
  const [portA, portB, probes] = (await freePorts(3)) as [number, number, number];
  const start = (name: string, file: string, config: string, port: number): Promise<number> => {
    const path = join(folder, file);
    const beginning = common(keys, file.slice(0, 1));
    writeFileSync(
      path,
      (port === portB ? beginning.replace('127.0.0.1:0', `127.0.0.1:${probes}`) : beginning) + config,
    );
    return processes.start(name, process.execPath, [program, 'run', '-c', path], port);
  };
  // All clients have one identity here: only the number of its sessions is not the default.
  const called = `
egress: { listen: off }
ingress:
  listen: "127.0.0.1:${portB}"
  apps: [{ service: ${SERVICE}, address: "127.0.0.1:${(app.address() as AddressInfo).port}" }]
  allow: [{ peer: "${spiffeId('*')}", methods: ["/bench.Echo/*"] }]
session: { max: ${2 * CLIENTS}, maxPerPeer: ${2 * CLIENTS} }
`;
  const calling = `
ingress: { listen: off }
egress:
  listen: "127.0.0.1:${portA}"
  routes: [{ service: ${SERVICE}, endpoints: ["127.0.0.1:${portB}"], peer: "${spiffeId('b')}" }]
`;
  let pid = await start('b-before', 'b.yaml', called, portB);
  await start('a', 'a.yaml', calling, portA);
  const session = http2.connect(`http://127.0.0.1:${portA}`);
  await callOnce(session);
  const share = Math.ceil(CLIENTS / PROCESSES);
  for (const [i, child] of storms.entries()) {
    const count = Math.min(share, CLIENTS - i * share);
    child.send({ keys, port: portB, first: i * share + 1, count, mode } satisfies StormOrder);
  }
  await Promise.all(storms.map(answer));
  if (mode !== 2) {
    process.kill(pid, 'SIGKILL');
    await delay(200);
    pid = await start('b', 'b.yaml', called, portB);
    while ((await callOnce(session)) !== '0') await delay(50);
  }
  const calm = async (): Promise<string> => {
    const end = performance.now() + CALM_MS;
    return summary(await callUntil(session, () => performance.now() >= end));
  };
  await calm(); // the JIT's share
  console.log(`  calls before: ${await calm()}`);
  const reports = Promise.all(storms.map((child) => answer(child) as Promise<StormReport>));
  for (const child of storms) child.send('storm');
  const [began, cpuBefore] = [performance.now(), cpuMicroseconds([pid])];
  let over = false;
  let load = '';
  const all = reports.finally(() => {
    over = true;
    const cpu = (cpuMicroseconds([pid]) - cpuBefore) / 1e6;
    const seconds = (performance.now() - began) / 1e3;
    load = `${cpu.toFixed(2)} s of CPU in ${seconds.toFixed(2)} s`;
  });
  console.log(`  calls during: ${summary(await callUntil(session, () => over))}`);
  const reported = await all;
  console.log(`  calls after: ${await calm()}`);
  print(reported);
  console.log(`  the called sidecar: ${load}; refused or given up: ${await refusals(probes)}`);
  session.destroy();
  app.close();
}

async function storm(mode: ModeId): Promise<void> {
  console.log(`${CLIENTS} clients, ${STORIES[mode]}:`);
  const folder = mkdtempSync(join(tmpdir(), 'hauberk-storm-'));
  const processes = new Processes(folder);
  const clients = fileURLToPath(new URL('storm-clients.ts', import.meta.url));
  const storms = Array.from({ length: PROCESSES }, () => fork(clients, { execArgv: process.execArgv }));
  const endNow = (): void => {
    processes.stopNow();
    for (const child of storms) child.kill('SIGKILL');
  };
  process.once('exit', endNow);
  try {
    await run(mode, folder, processes, storms);
  } finally {
    for (const child of storms) child.kill('SIGKILL');
    await processes.stop();
    process.off('exit', endNow);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  if (!(CLIENTS > 0) || MODES.some((mode) => STORIES[mode] === undefined)) {
    throw new Error('usage: npm run bench:storm -- [CLIENTS] [MODES], e.g. 5000 0,1,2');
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  for (const mode of MODES) await storm(mode);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
