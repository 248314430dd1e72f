import { expect, it } from 'vitest';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import type { CallPlan, CallTarget } from '../../src/relay/call.ts';
import { Forwarding } from '../../src/relay/forwarding.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn } from './memorywire.ts';

const context = contextOn(new FakeClock());
const list = HeaderList.of([
  headerField(':path', '/shop.Greeter/Hello'),
  headerField(':authority', 'greeter'),
]);
const target: CallTarget = {
  name: 'greeter',
  assign: () => {},
  reassign: () => {},
  mayRetry: () => false,
  lostCode: 'session-lost',
};

const plan = (): CallPlan => ({
  source: list,
  direction: 'egress',
  service: 'greeter',
  method: '/shop.Greeter/Hello',
  list,
  grpc: true,
  timeoutMs: undefined,
  series: context.metrics.calls('egress', 'greeter', '/shop.Greeter/Hello'),
  target,
  refusal: undefined,
});

it('replicas of a service share the list that they are sent, which their connections know again', () => {
  const replicas = [1, 2, 3].map(() => new Forwarding(context, 'greeter.shop', 50051));
  const repeated = plan();
  const sent = replicas.map((replica) => replica.apply(repeated));
  expect(sent[0]).toMatchObject({ service: 'greeter.shop' });
  expect(sent[0]?.list.get(':authority')).toBe('greeter.shop:50051');
  expect(sent.every((each) => each === sent[0])).toBe(true);
});

it.each([
  ['port', 'greeter.shop', 50052],
  ['service', 'greeter.blue', 50051],
])('an endpoint of another %s is sent another', (_, service, port) => {
  const repeated = plan();
  new Forwarding(context, 'greeter.shop', 50051).apply(repeated);
  const other = new Forwarding(context, service, port).apply(repeated);
  expect([other.service, other.list.get(':authority')]).toEqual([service, `${service}:${port}`]);
});
