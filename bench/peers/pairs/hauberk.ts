import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BenchError } from '../errors.ts';
import { AUTHORITY } from '../load.ts';
import { freePorts } from '../port.ts';
import type { Pair } from './pair.ts';

const CLI = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
const TRUST_DOMAIN = 'bench.example';
const spiffeId = (name: string) => `spiffe://${TRUST_DOMAIN}/ns/default/sa/${name}`; // as `hauberk issue NAME` makes it

const common = (keys: string, name: string) => `
trustDomain: ${TRUST_DOMAIN}
identity: { svid: ${keys}/${name}.pem, key: ${keys}/${name}.key, bundle: ${keys}/bundle.pem }
probes: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
log: { level: warn }
`;

/** The built program, run as users run it, with its defaults; call audit is off as the peers' access logs are. */
export const hauberk: Pair = {
  name: 'hauberk',
  async start({ folder, backendPort, processes }) {
    if (!existsSync(CLI)) {
      throw new BenchError('missing-tool', `${CLI} is not there: build it with \`npm run build\``);
    }
    const keys = join(folder, 'keys');
    const cli = (...args: string[]) => execFileSync(process.execPath, [CLI, ...args], { encoding: 'utf8' });
    cli('init', '--trust-domain', TRUST_DOMAIN, '--dir', keys);
    cli('issue', 'a', '--dir', keys);
    cli('issue', 'b', '--dir', keys);

    const [portA, portB] = await freePorts(2);
    const start = (name: string, config: string, port: number) => {
      const file = join(folder, `${name}.yaml`);
      writeFileSync(file, common(keys, name) + config);
      return processes.start(`hauberk-${name}`, process.execPath, [CLI, 'run', '-c', file], port);
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
      name: 'hauberk',
      port: portA,
      between: { port: portB, protocol: 'hauberk' },
      pids: [pidA, pidB],
    };
  },
};
