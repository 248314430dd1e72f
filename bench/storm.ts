import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import * as http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { common, makeKeys, programIn, spiffeId } from './peers/pairs/hauberk.ts';
import { freePorts } from './peers/port.ts';
import { Processes } from './peers/proc.ts';

// A handshake storm: many clients, each with an address of its own in 127/8, come to a sidecar that has just started again,
// while one session is in use. Run by scripts/bench-storm.mjs; see bench/README.md.

/** What a process of clients is to do: connect `count` clients, the first of which has the number `first`. */
export interface StormOrder {
  readonly keys: string;
  readonly port: number;
  readonly first: number;
  readonly count: number;
}

export interface StormReport {
  /** From the beginning of the storm, one for each client. */
  readonly connectedMs: readonly number[];
  /** Attempts that failed, by reason. */
  readonly refusals: Readonly<Record<string, number>>;
}

const CLIENTS = Number(process.argv[2] ?? 5_000);
const PROCESSES = 2;
const CALM_MS = 5_000;
const PACE_MS = 2;
const SERVICE = 'echo.bench';

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

async function run(folder: string, processes: Processes, storms: ChildProcess[]): Promise<void> {
  const program = programIn();
  const keys = makeKeys(program, folder);
  execFileSync(process.execPath, [program, 'issue', 'c', '--dir', keys]);
  const app = await startApp();
  const [portA, portB] = (await freePorts(2)) as [number, number];
  const start = (name: string, file: string, config: string, port: number): Promise<number> => {
    const path = join(folder, file);
    writeFileSync(path, common(keys, file.slice(0, 1)) + config);
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
  const before = await start('b-before', 'b.yaml', called, portB);
  await start('a', 'a.yaml', calling, portA);
  const session = http2.connect(`http://127.0.0.1:${portA}`);
  await callOnce(session);
  process.kill(before, 'SIGKILL');
  await delay(200);
  await start('b', 'b.yaml', called, portB);
  while ((await callOnce(session)) !== '0') await delay(50);

  const calmEnd = performance.now() + CALM_MS;
  console.log(`before: ${summary(await callUntil(session, () => performance.now() >= calmEnd))}`);

  const reports = storms.map((child, i): Promise<StormReport> => {
    const count = Math.floor(CLIENTS / PROCESSES) + (i < CLIENTS % PROCESSES ? 1 : 0);
    const first = i * Math.ceil(CLIENTS / PROCESSES) + 1;
    child.send({ keys, port: portB, first, count } satisfies StormOrder);
    return Promise.race([
      once(child, 'message').then(([report]) => report as StormReport),
      once(child, 'exit').then(() => Promise.reject(new Error('clients ended too early'))),
    ]);
  });
  let over = false;
  const all = Promise.all(reports).finally(() => {
    over = true;
  });
  const during = await callUntil(session, () => over);
  const connected = (await all).flatMap(({ connectedMs }) => connectedMs).sort((a, b) => a - b);
  console.log(`during: ${summary(during)}`);
  const shown = [0.5, 0.9, 0.99, 1].map((p) => (percentile(connected, p) / 1000).toFixed(2));
  console.log(
    `${connected.length} clients connected: half after ${shown[0]} s, 90 % ${shown[1]} s, 99 % ${shown[2]} s, all ${shown[3]} s`,
  );
  const refusals = new Map<string, number>();
  for (const report of await all) {
    for (const [code, n] of Object.entries(report.refusals))
      refusals.set(code, (refusals.get(code) ?? 0) + n);
  }
  console.log(
    `attempts that failed: ${[...refusals].map(([code, n]) => `${n} ${code}`).join(', ') || 'none'}`,
  );
  session.destroy();
  app.close();
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'hauberk-storm-'));
  const processes = new Processes(folder);
  const clients = fileURLToPath(new URL('storm-clients.ts', import.meta.url));
  const storms = Array.from({ length: PROCESSES }, () => fork(clients, { execArgv: process.execArgv }));
  process.once('exit', () => {
    processes.stopNow();
    for (const child of storms) child.kill('SIGKILL');
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  try {
    await run(folder, processes, storms);
  } finally {
    for (const child of storms) child.kill('SIGKILL');
    await processes.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
