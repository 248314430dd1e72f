// What choosing an endpoint costs a call: npx tsx bench/endpoints.bench.ts
// Both ways in turn, in one process: the relay's own, and its plain twin, which looks at all endpoints, and whose
// replicas each make the headers anew.
import { systemClock } from '../src/clock/clock.ts';
import { headerField } from '../src/hpack/field.ts';
import { HeaderList } from '../src/hpack/headerlist.ts';
import { balance } from '../src/relay/balance.ts';
import type { CallPlan, CallTarget } from '../src/relay/call.ts';
import { Forwarding } from '../src/relay/forwarding.ts';
import type { Upstream } from '../src/relay/upstream.ts';
import { contextOn } from '../test/relay/memorywire.ts';

const CALLS = 100_000;
const ROUNDS = 15;

interface Replica {
  load: number;
  readonly healthy: boolean;
  readonly avoided: () => void;
  readonly forwarding: Forwarding;
}

type Choose = (replicas: readonly Replica[]) => Replica;
type Plan = (forwarding: Forwarding, plan: CallPlan) => CallPlan;

const context = contextOn(systemClock);
const target: CallTarget = {
  name: 'greeter',
  assign: () => {},
  reassign: () => {},
  mayRetry: () => false,
  lostCode: 'session-lost',
};
const FIELDS = {
  ':method': 'POST',
  ':scheme': 'http',
  ':path': '/shop.Greeter/Hello',
  ':authority': 'greeter.shop:50051',
  te: 'trailers',
  'content-type': 'application/grpc',
  'user-agent': 'grpc-node-js/1.14.7',
};
const list = HeaderList.of(Object.entries(FIELDS).map(([name, value]) => headerField(name, value)));

const plan = (): CallPlan => ({
  source: list,
  direction: 'egress',
  service: 'greeter.shop',
  method: '/shop.Greeter/Hello',
  list,
  grpc: true,
  timeoutMs: undefined,
  series: context.metrics.calls('egress', 'greeter.shop', '/shop.Greeter/Hello'),
  target,
  refusal: undefined,
});

const own: [Choose, Plan] = [
  (replicas) => balance(replicas as unknown as Upstream[], undefined, Math.random) as unknown as Replica,
  (forwarding, given) => forwarding.apply(given),
];

const twin: [Choose, Plan] = [
  (replicas) => {
    const healthy = replicas.filter((replica) => replica.healthy);
    const [a, b] = [0, 1].map(() => healthy[Math.floor(Math.random() * healthy.length)] as Replica);
    return (b as Replica).load < (a as Replica).load ? (b as Replica) : (a as Replica);
  },
  (forwarding, given) => forwarding.apply({ ...given }),
];

/** Nanoseconds a call. */
function measure([choose, planOf]: [Choose, Plan], replicas: readonly Replica[]): number {
  const repeated = plan();
  const start = process.cpuUsage();
  for (let n = 0; n < CALLS; n++) {
    const replica = choose(replicas);
    replica.load++;
    planOf(replica.forwarding, repeated);
    replica.load--;
  }
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1000) / CALLS;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] as number;

console.log('endpoints   own ns   twin ns   own/twin');
for (const count of [1, 3, 16, 100, 1000]) {
  const replicas = Array.from({ length: count }, () => ({
    load: 0,
    healthy: true,
    avoided: () => {},
    forwarding: new Forwarding(context, 'greeter.shop', 50_051),
  }));
  const rounds = Array.from({ length: ROUNDS }, () => [measure(own, replicas), measure(twin, replicas)]);
  const [ours, plain] = [0, 1].map((at) => median(rounds.map((round) => round[at] as number)));
  const ratio = median(rounds.map(([a, b]) => (a as number) / (b as number)));
  console.log(
    `${`${count}`.padStart(9)} ${(ours as number).toFixed(0).padStart(8)} ${(plain as number).toFixed(0).padStart(9)} ${ratio.toFixed(2).padStart(10)}`,
  );
}
