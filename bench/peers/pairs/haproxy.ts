import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TLS } from '../certificates.ts';
import { freePorts } from '../port.ts';
import { toolPath } from '../tools.ts';
import type { Pair } from './pair.ts';

const common = `global
  nbthread 1
  maxconn 4096
  tune.h2.max-concurrent-streams 4096
  tune.h2.initial-window-size 4194304
  tune.bufsize 65536
  ssl-default-bind-options ssl-min-ver ${TLS.version}
  ssl-default-bind-ciphersuites ${TLS.cipher}
  ssl-default-bind-curves ${TLS.group}
  ssl-default-server-options ssl-min-ver ${TLS.version}
  ssl-default-server-ciphersuites ${TLS.cipher}

defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
`;

export const haproxy: Pair = {
  name: 'haproxy',
  async start({ folder, backendPort, processes, tools, certificates }) {
    const { ca, a, b } = certificates();
    const [portA, portB] = await freePorts(2);
    const start = (name: string, bind: string, server: string, port: number) => {
      const file = join(folder, `${name}.cfg`);
      writeFileSync(file, `${common}\nlisten proxy\n  bind ${bind}\n  server next ${server}\n`);
      return processes.start(`haproxy-${name}`, toolPath(tools, 'haproxy'), ['-db', '-f', file], port);
    };
    const pidB = await start(
      'b',
      `127.0.0.1:${portB} ssl crt ${b.both} ca-file ${ca} verify required alpn h2`,
      `127.0.0.1:${backendPort} proto h2`,
      portB,
    );
    const pidA = await start(
      'a',
      `127.0.0.1:${portA} proto h2`,
      `127.0.0.1:${portB} ssl crt ${a.both} ca-file ${ca} verify required verifyhost ${b.name} sni str(${b.name}) alpn h2`,
      portA,
    );
    return { name: 'haproxy', port: portA, between: { port: portB, protocol: 'tls' }, pids: [pidA, pidB] };
  },
};
