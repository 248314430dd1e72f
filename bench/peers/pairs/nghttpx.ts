import { TLS } from '../certificates.ts';
import { freePorts } from '../port.ts';
import { toolPath } from '../tools.ts';
import type { Pair } from './pair.ts';

/** Leaves out what costs time without need (Via, X-Forwarded-Proto, OCSP, access log); windows as Hauberk grows them to. */
const COMMON = [
  ...[
    '--conf=/dev/null',
    '--single-process',
    '--workers=1',
    '--errorlog-file=/dev/stderr',
    '--log-level=ERROR',
  ],
  ...['--accesslog-file=/dev/null', '--accesslog-format=', '--no-ocsp', '--no-via'],
  ...['--no-add-x-forwarded-proto', '--no-server-push'],
  ...['--frontend-http2-max-concurrent-streams=4096', '--backend-http2-max-concurrent-streams=4096'],
  ...['--frontend-http2-window-size=4M', '--frontend-http2-connection-window-size=16M'],
  ...['--backend-http2-window-size=4M', '--backend-http2-connection-window-size=16M'],
  ...['--backend-request-buffer=1M', '--backend-response-buffer=1M', '--tls-dyn-rec-warmup-threshold=0'],
  ...['--backend-read-timeout=1h', '--frontend-http2-read-timeout=1h'],
];

export const nghttpx: Pair = {
  name: 'nghttpx',
  async start({ backendPort, processes, tools, certificates }) {
    const program = toolPath(tools, 'nghttpx');
    const { ca, a, b } = certificates();
    const [portA, portB] = await freePorts(2);
    const pidB = await processes.start(
      'nghttpx-b',
      program,
      [
        ...COMMON,
        `--frontend=127.0.0.1,${portB}`,
        `--backend=127.0.0.1,${backendPort};;proto=h2`,
        ...['--verify-client', `--verify-client-cacert=${ca}`],
        ...[`--tls-min-proto-version=${TLS.version}`, `--tls13-ciphers=${TLS.cipher}`],
        ...[`--ecdh-curves=${TLS.group}`, b.key, b.certificate],
      ],
      portB,
    );
    const pidA = await processes.start(
      'nghttpx-a',
      program,
      [
        ...COMMON,
        `--frontend=127.0.0.1,${portA};no-tls`,
        `--backend=127.0.0.1,${portB};;proto=h2;tls;sni=${b.name}`,
        ...[`--cacert=${ca}`, `--client-cert-file=${a.certificate}`, `--client-private-key-file=${a.key}`],
        ...[`--tls-min-proto-version=${TLS.version}`, `--tls13-client-ciphers=${TLS.cipher}`],
      ],
      portA,
    );
    return { name: 'nghttpx', port: portA, between: { port: portB, protocol: 'tls' }, pids: [pidA, pidB] };
  },
};
