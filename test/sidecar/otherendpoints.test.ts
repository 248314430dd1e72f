import { networkInterfaces } from 'node:os';
import { expect, it } from 'vitest';
import type { DiscoveredEndpoint, DiscoveryAnswer, DiscoverySource } from '../../src/relay/discovery.ts';
import { machineAddresses, withoutOwn } from '../../src/sidecar/otherendpoints.ts';

const at = (address: string, meshPort = 15_008): DiscoveredEndpoint => ({
  address,
  meshPort,
  targetPort: 50_051,
  peer: 'spiffe://shop.example/ns/shop/sa/greeter',
  zone: '',
  ready: true,
});

/** What a sidecar of 10.1.2.3 is told of an answer with these endpoints. */
const told = (...endpoints: readonly DiscoveredEndpoint[]): DiscoveryAnswer =>
  toldTo(['0.0.0.0', '::'], ...endpoints);

/** The same for one that takes sessions there. */
function toldTo(hosts: readonly string[], ...endpoints: readonly DiscoveredEndpoint[]): DiscoveryAnswer {
  const answer = { found: true, service: 'greeter.shop', endpoints, hint: '', zone: '' };
  const source: DiscoverySource = {
    trouble: 'none answers',
    isAway: true,
    watch: (_query, onAnswer) => {
      onAnswer(answer);
      return () => {};
    },
  };
  const answers: DiscoveryAnswer[] = [];
  const own = {
    addresses: () => new Set(['10.1.2.3', '10.1.2.33', 'fd00::3']),
    listening: () => hosts.map((host) => ({ host, port: 15_008 })),
  };
  const others = withoutOwn(source, own);
  expect([others.trouble, others.isAway]).toEqual(['none answers', true]);
  others.watch(
    { authority: 'greeter', namespace: '', port: 0 },
    (each) => answers.push(each),
    () => 0,
  );
  return answers[0] as DiscoveryAnswer;
}

it('a pod is no endpoint of its own service for itself, over either family', () => {
  expect(told(at('10.1.2.3'), at('10.1.2.4')).endpoints).toEqual([at('10.1.2.4')]);
  expect(told(at('fd00::3'), at('fd00::4')).endpoints).toEqual([at('fd00::4')]);
});

it('another sidecar at the same address is another, and so is one at another address of the machine', () => {
  expect(told(at('10.1.2.3', 15_009)).endpoints).toEqual([at('10.1.2.3', 15_009)]);
  const both = [at('10.1.2.3'), at('10.1.2.33')];
  expect(toldTo(['10.1.2.3'], ...both).endpoints).toEqual([at('10.1.2.33')]);
  expect(told(...both).endpoints).toEqual([]);
});

it('whoever calls a service of which it is the only pod is told what to call', () => {
  expect(told(at('10.1.2.3'))).toMatchObject({
    found: true,
    endpoints: [],
    hint: 'the only pod of greeter.shop is this one, and a sidecar has no session with itself: call the app at localhost:50051',
  });
  expect(told().hint).toBe('');
});

it('addresses are those of the machine', () => {
  const of = Object.values(networkInterfaces()).flatMap((each = []) => each);
  expect(of.length).toBeGreaterThan(0);
  for (const { address } of of) expect(machineAddresses()).toContain(address);
});
