import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BenchError } from '../errors.ts';
import { AUTHORITY } from '../load.ts';
import { freePorts } from '../port.ts';
import type { Pair } from './pair.ts';

const DIST = fileURLToPath(new URL('../../../dist', import.meta.url));
export const TRUST_DOMAIN = 'bench.example';
export const spiffeId = (name: string) => `spiffe://${TRUST_DOMAIN}/ns/default/sa/${name}`; // as `hauberk issue NAME` makes it

/** Beginning of every sidecar's configuration. */
export const common = (keys: string, name: string) => `
trustDomain: ${TRUST_DOMAIN}
identity: { svid: ${keys}/${name}.pem, key: ${keys}/${name}.key, bundle: ${keys}/bundle.pem }
probes: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
log: { level: warn }
`;

/** The program in a `dist` folder. Throws BenchError `missing-tool`. */
export function programIn(dist = DIST): string {
  const program = join(dist, 'cli', 'main.js');
  if (existsSync(program)) return program;
  throw new BenchError('missing-tool', `${program} is not there: build it with \`npm run build\``);
}

/** Makes a trust domain and the identities `a` and `b` in `folder`/keys, which it returns. */
export function makeKeys(program: string, folder: string): string {
  const keys = join(folder, 'keys');
  const cli = (...args: string[]) => execFileSync(process.execPath, [program, ...args], { encoding: 'utf8' });
  cli('init', '--trust-domain', TRUST_DOMAIN, '--dir', keys);
  cli('issue', 'a', '--dir', keys);
  cli('issue', 'b', '--dir', keys);
  return keys;
}

/** Every call is counted against two limits that it does not reach, and recorded in a file. */
const observing = (callLog: string) => `
limits:
  - { scope: session, maxRequests: 1000000000, window: 60s }
  - { scope: peer, maxRequests: 1000000000, window: 60s }
monitoring: { adapters: [{ file: { path: ${callLog} } }], calls: all }
`;

/**
 * A built program, run as users run it, with its defaults; call audit is off as the peers' access logs are, unless
 * the place asks for it. `dist` is the folder of the build, this checkout's by default.
 */
export const hauberk = (name = 'hauberk', dist = DIST): Pair => ({
  name,
  observable: true,
  async start({ folder, backendPort, observed, processes }) {
    const program = programIn(dist);
    const keys = makeKeys(program, folder);
    const [portA, portB] = await freePorts(2);
    const callLogs: string[] = [];
    const start = (proxy: string, config: string, port: number) => {
      const file = join(folder, `${proxy}.yaml`);
      const callLog = join(folder, `${proxy}.calls.jsonl`);
      if (observed) callLogs.push(callLog);
      writeFileSync(file, common(keys, proxy) + (observed ? observing(callLog) : '') + config);
      const process_ = `${name}-${observed ? 'observed-' : ''}${proxy}`;
      return processes.start(process_, process.execPath, [program, 'run', '-c', file], port);
    };
    const pidB = await start(
      'b',
      `
egress: { listen: off }
ingress:
  listen: "127.0.0.1:${portB}"
  apps: [{ service: ${AUTHORITY}, address: "127.0.0.1:${backendPort}" }]
  allow: [{ peer: "${spiffeId('a')}", methods: ["/bench.Echo/*"] }]
`,
      portB,
    );
    const pidA = await start(
      'a',
      `
ingress: { listen: off }
egress:
  listen: "127.0.0.1:${portA}"
  routes:
    - service: ${AUTHORITY}
      endpoints: ["127.0.0.1:${portB}"]
      peer: "${spiffeId('b')}"
`,
      portA,
    );
    return {
      name,
      port: portA,
      between: { port: portB, protocol: 'hauberk' },
      pids: [pidA, pidB],
      justInTime: true,
      callLogs,
    };
  },
});
