// What a call over memory costs beside one over a port: node --import tsx bench/library.bench.ts [ROUNDS]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import { loadConfig } from '../src/config/load.ts';
import { MeshChannel } from '../src/mesh/meshchannel.ts';
import { SecureMeshServer } from '../src/mesh/securemeshserver.ts';
import { Sidecar } from '../src/sidecar/sidecar.ts';
import { makeTrustFolder } from '../test/harness/trust.ts';

/*
 * One process calls, with a grpc-js client and a sidecar in it; the called one has a SecureMeshServer. The client's way to its
 * egress is a MeshChannel or a TCP port of 127.0.0.1, in turn; everything else is the same. CPU is that of the calling process.
 */

const SERVICE = 'greeter';
const WARM_UP = 3000; // calls
const LOADS = [
  { name: '100 B, 1 in flight', octets: 100, inFlight: 1, calls: 3000 },
  { name: '100 B, 32 in flight', octets: 100, inFlight: 32, calls: 10_000 },
  { name: '64 KiB, 8 in flight', octets: 65_536, inFlight: 8, calls: 1500 },
] as const;
type Load = (typeof LOADS)[number];

const same = (octets: Buffer): Buffer => octets;
const ECHO: grpc.MethodDefinition<Buffer, Buffer> = {
  path: '/bench.Echo/Echo',
  requestStream: false,
  responseStream: false,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
};

async function serve(keys: string): Promise<void> {
  const server = new SecureMeshServer({ serviceId: SERVICE, keys, host: '127.0.0.1', log: 'silent' });
  server.addService(
    { echo: ECHO },
    {
      echo: (call: grpc.ServerUnaryCall<Buffer, Buffer>, reply: grpc.sendUnaryData<Buffer>) =>
        reply(null, call.request),
    },
  );
  process.stdout.write(`${await server.start()}\n`);
}

interface Cost {
  /** Calls a second. */
  readonly rate: number;
  /** Microseconds of CPU a call. */
  readonly cpu: number;
}

async function measure(client: grpc.Client, { octets, inFlight }: Load, calls: number): Promise<Cost> {
  const body = Buffer.alloc(octets, 'x');
  const call = (): Promise<void> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(ECHO.path, same, same, body, (error, answer) => {
        if (error !== null) reject(error);
        else if (answer?.length !== octets) reject(new Error(`${answer?.length} octets came back`));
        else resolve();
      });
    });
  let left = calls;
  const one = async (): Promise<void> => {
    while (left-- > 0) await call();
  };
  const cpu = process.cpuUsage();
  const start = performance.now();
  await Promise.all(Array.from({ length: inFlight }, one));
  const ms = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  return { rate: (calls / ms) * 1000, cpu: (user + system) / calls };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number;

async function compare(rounds: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-bench-'));
  const trust = await makeTrustFolder({ dir: join(folder, 'keys'), trustDomain: 'shop.example' });
  await trust.issue(SERVICE);
  const { svid, key, bundle } = await trust.issue('web');
  const args = [...process.execArgv, fileURLToPath(import.meta.url), 'serve', trust.dir];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(child.stdout, 'data');
  const configFile = join(folder, 'sidecar.yaml');
  await writeFile(
    configFile,
    JSON.stringify({
      trustDomain: 'shop.example',
      identity: { svid, key, bundle },
      egress: {
        listen: '127.0.0.1:0',
        routes: [
          {
            service: SERVICE,
            endpoints: [`127.0.0.1:${String(line).trim()}`],
            peer: `spiffe://shop.example/ns/default/sa/${SERVICE}`,
          },
        ],
      },
      ingress: { listen: 'off' },
      probes: { http: 'off', grpc: 'off' },
      monitoring: { adapters: [] },
    }),
  );
  const sidecar = await Sidecar.start({
    config: await loadConfig(configFile),
    configFile,
    configSha256: '',
    version: '0.0.0',
    stdout: process.stdout,
  });
  const { context, join: connect } = sidecar.relay;
  const channel = new MeshChannel({
    grpc,
    context,
    service: SERVICE,
    userAgent: 'bench',
    connect: () => connect(SERVICE),
  });
  const insecure = grpc.credentials.createInsecure();
  const ways = {
    memory: new grpc.Client('memory', insecure, { channelOverride: channel as never }),
    port: new grpc.Client(sidecar.bound.egress[0] as string, insecure, {
      'grpc.default_authority': SERVICE,
      'grpc.enable_http_proxy': 0,
    }),
  };
  try {
    for (const client of Object.values(ways)) await measure(client, LOADS[1], WARM_UP);
    for (const load of LOADS) {
      const costs = { memory: [] as Cost[], port: [] as Cost[] };
      for (let round = 0; round < rounds; round++) {
        // Whoever comes first in a round is the other one in the next.
        const order = round % 2 === 0 ? (['memory', 'port'] as const) : (['port', 'memory'] as const);
        for (const way of order) costs[way].push(await measure(ways[way], load, load.calls));
      }
      const of = (way: 'memory' | 'port', what: keyof Cost): number =>
        median(costs[way].map((cost) => cost[what]));
      const ratio = (what: keyof Cost): string =>
        median(costs.memory.map((cost, i) => cost[what] / (costs.port[i] as Cost)[what])).toFixed(2);
      process.stdout.write(
        `${load.name}: memory ${of('memory', 'rate').toFixed(0)} calls/s, ${of('memory', 'cpu').toFixed(0)} us CPU; ` +
          `port ${of('port', 'rate').toFixed(0)} calls/s, ${of('port', 'cpu').toFixed(0)} us CPU; ` +
          `memory/port: rate ${ratio('rate')}, CPU ${ratio('cpu')}\n`,
      );
    }
  } finally {
    for (const client of Object.values(ways)) client.close();
    await sidecar.stop('end of bench');
    child.kill('SIGTERM');
    await rm(folder, { recursive: true });
  }
}

const [mode, keys] = process.argv.slice(2);
if (mode === 'serve') await serve(keys as string);
else await compare(Number(mode ?? 7));
