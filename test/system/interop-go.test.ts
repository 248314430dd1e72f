import { beforeAll, describe, it } from 'vitest';
import { runGoInteropCase, startGoInteropApp } from '../harness/grpc-go.ts';
import { startInteropApp } from '../harness/interop-app.ts';
import { INTEROP_CASES, named } from '../harness/interop-cases.ts';
import { InteropPair } from '../harness/interop-pair.ts';

const JS = 'js.shop';
const GO = 'go.shop';

let pair: InteropPair;
beforeAll(async () => {
  pair = await InteropPair.start({
    // The client can set no `:authority` but the address that it dials.
    [JS]: { app: await startInteropApp(), authorities: ['127.0.0.1'] },
    [GO]: { app: await startGoInteropApp(), authorities: ['localhost'] },
  });
});

const CASES = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'custom_metadata',
  'status_code_and_message',
  'special_status_message',
  'unimplemented_method',
  'unimplemented_service',
  'cancel_after_begin',
  'cancel_after_first_response',
  'timeout_on_sleeping_server',
];
const SOAK = ['--soak_iterations=200', '--soak_overall_timeout_seconds=60'];
// A busy machine is slow, and that is not asked here.
const PATIENT = ['--soak_per_iteration_max_acceptable_latency_ms=60000'];
const SOAKS = ['rpc_soak', 'channel_soak'];
/** Cases that ask for what only one of the servers has: a server's id, and reports of its load. */
const ONLY_JS = ['pick_first_unary'];
const ONLY_GO = ['orca_per_rpc', 'orca_oob'];
// The balancer with which the client looks at the reports.
const ORCA = ['--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}'];
const argsOf = (name: string): readonly string[] => (ONLY_GO.includes(name) ? ORCA : []);

const PAIRS = [
  ['grpc-js', { service: JS, host: '127.0.0.1', cases: [...CASES, ...ONLY_JS] }],
  ['grpc-go', { service: GO, host: 'localhost', cases: [...CASES, ...ONLY_GO] }],
] as const;

describe.each(PAIRS)('grpc-go to %s by an upstream listener', (_to, { service, cases }) => {
  it.each(cases)('%s', (name) => runGoInteropCase(name, pair.upstream(service), argsOf(name)));

  it.each(SOAKS)('%s', (name) => runGoInteropCase(name, pair.upstream(service), [...SOAK, ...PATIENT]));

  it('met no limit', () => pair.expectCalm());
});

describe.each(PAIRS)('grpc-go to %s by :authority', (_to, { host, cases }) => {
  const address = (): string => `${host}${pair.calling.egress.slice(pair.calling.egress.lastIndexOf(':'))}`;

  it.each(cases)('%s', (name) => runGoInteropCase(name, address(), argsOf(name)));

  it('met no limit', () => pair.expectCalm());
});

describe('grpc-js to grpc-go by :authority', () => {
  // A thousand large calls at a time are for one pair enough.
  it.each(named(INTEROP_CASES.filter(({ name }) => name !== 'concurrent_large_unary')))(
    '%s',
    (_name, { run }) => run(pair.byAuthority(GO)),
  );

  it('met no limit', () => pair.expectCalm());
});
