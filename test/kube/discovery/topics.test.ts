import { describe, expect, it } from 'vitest';
import type { EndpointsMessage } from '../../../src/control/messages.ts';
import { Topics } from '../../../src/kube/discovery/topics.ts';
import { FakeClock } from '../../harness/fake-clock.ts';
import { cluster, endpoint, type Objects, pod, service, slice } from './cluster.ts';

const pods = (n: number): Objects => ({
  services: [service('greeter.shop')],
  slices: [
    slice(
      'greeter.shop',
      Array.from({ length: n }, (_, i) => endpoint(`10.1.${i >> 8}.${i & 255}`, `p${i}`)),
    ),
  ],
  pods: Array.from({ length: n }, (_, i) => pod(`p${i}`, [`10.1.${i >> 8}.${i & 255}`])),
});

function make(maxEndpoints = 1000) {
  const clock = new FakeClock();
  let objects = pods(1);
  let looks = 0;
  let costMs = 0;
  const live = new Proxy({} as ReturnType<typeof cluster>, {
    get: (_target, key) => {
      if (key === 'slices') {
        looks++;
        clock.advance(costMs);
      }
      return Reflect.get(cluster(objects), key);
    },
  });
  const topics = new Topics({
    state: live,
    clock,
    trustDomain: 'shop.example',
    clusterDomain: 'cluster.local',
    maxEndpoints,
  });
  return {
    clock,
    topics,
    /** How often endpoints were looked at since the last time. */
    looks: (): number => {
      const since = looks;
      looks = 0;
      return since;
    },
    /** Each look at endpoints takes so long from now on. */
    cost: (ms: number) => {
      costMs = ms;
    },
    change: (now: Objects, change = { namespace: 'shop', service: 'greeter' as string | undefined }) => {
      objects = now;
      topics.changed(change);
    },
    /** How many endpoints each message had. */
    follow: (authority = 'greeter.shop', ready = true, namespace = 'web') => {
      const got: number[] = [];
      const messages: EndpointsMessage[] = [];
      const request = { authority, namespace, port: 0 };
      const subscription = topics.subscribe(request, '', (message) => {
        got.push(message.endpoints.length);
        messages.push(message);
        return ready;
      });
      return { got, messages, ...subscription };
    },
  };
}

describe('who wants to know where a service is', () => {
  it('is told at once, and after a change, whether the answer is good or bad', () => {
    const { clock, change, follow } = make();
    const [reader, other] = [follow(), follow('nobody.shop')];
    expect([reader.got, other.got, other.messages[0]?.found]).toEqual([[1], [0], false]);
    clock.advance(5000);
    change(pods(2));
    clock.advance(100);
    expect([reader.got, other.got]).toEqual([[1, 2], [0]]);
  });

  it('hears nothing where nothing of it has changed', () => {
    const { clock, change, follow } = make();
    const reader = follow();
    for (let i = 0; i < 10; i++) {
      clock.advance(5000);
      change(pods(1));
    }
    clock.advance(5000);
    expect(reader.got).toEqual([1]);
  });

  it('gets one message of changes that come together, and few of a rolling update', () => {
    const { clock, change, follow } = make();
    const reader = follow();
    clock.advance(5000);
    for (let i = 2; i < 300; i++) change(pods(i));
    clock.advance(100);
    expect(reader.got).toEqual([1, 299]);
    clock.advance(5000);
    // 100 pods are replaced in 20 s, each by four changes.
    for (let i = 0; i < 400; i++) {
      change(pods(100 + (i % 7)));
      clock.advance(50);
    }
    clock.advance(2000);
    expect(reader.got.length).toBeLessThan(25);
    expect(reader.got.at(-1)).toBe(100 + (399 % 7));
  });

  it('gets the newest state only, if it is slow', () => {
    const { clock, change, follow } = make();
    const reader = follow('greeter.shop', false);
    for (const n of [2, 3, 4]) {
      clock.advance(5000);
      change(pods(n));
      clock.advance(100);
    }
    expect(reader.got).toEqual([1]);
    reader.resume();
    expect(reader.got).toEqual([1, 4]);
    reader.resume();
    expect(reader.got).toEqual([1, 4]);
  });

  it('is told of what its name may mean, and of nothing else', () => {
    const { clock, change, follow } = make();
    const reader = follow();
    const byAddress = follow('10.1.0.0:50051');
    clock.advance(5000);
    change(pods(2), { namespace: 'web', service: 'greeter' });
    clock.advance(2000);
    expect(reader.got).toEqual([1]);
    // A pod of the namespace has changed.
    change(pods(3), { namespace: 'shop', service: undefined });
    clock.advance(2000);
    expect(reader.got).toEqual([1, 3]);
    change({ ...pods(3), pods: [] }, { namespace: 'any', service: undefined });
    clock.advance(2000);
    expect(byAddress.got).toEqual([1, 0]);
  });

  it('a short name may come to mean a service in the namespace of the caller', () => {
    const { clock, change, follow } = make();
    const reader = follow('greeter');
    expect(reader.messages[0]?.hint).toBe('no service greeter.web; there is greeter.shop');
    clock.advance(5000);
    change({ ...pods(1), services: [service('greeter.web')] }, { namespace: 'web', service: 'greeter' });
    clock.advance(2000);
    expect(reader.messages.at(-1)?.found).toBe(true);
  });

  it('is forgotten when it goes; the same question is one for all who ask it', () => {
    const { clock, change, follow, topics } = make();
    const readers = [follow(), follow('Greeter.Shop'), follow('greeter.shop.svc')];
    expect(topics.size).toBe(2);
    for (const reader of readers) reader.end();
    expect(topics.size).toBe(0);
    change(pods(2));
    clock.advance(2000);
    expect(readers.map(({ got }) => got)).toEqual([[1], [1], [1]]);
    expect(clock.pending).toBe(0);
  });

  it('is told of so many endpoints and no more, spread over all, ready ones first', () => {
    const { clock, change, follow } = make(10);
    const reader = follow();
    clock.advance(5000);
    change(pods(100));
    clock.advance(2000);
    const { endpoints, hint } = reader.messages.at(-1) as EndpointsMessage;
    expect(new Set(endpoints.map(({ address }) => address)).size).toBe(10);
    expect(hint).toBe('greeter.shop has 100 endpoints, of which 10 are told');
  });

  it('is looked at once for all questions that mean it, however they are spelt and wherever they come from', () => {
    const { clock, change, follow, looks, topics } = make();
    const spelt = [
      'greeter.shop',
      'greeter.shop.svc',
      'greeter.shop.svc.cluster.local',
      'GREETER.shop:50051',
    ];
    const readers = Array.from({ length: 200 }, (_, i) => follow(spelt[i % 4], true, `x${i}`));
    expect(topics.size).toBe(200);
    // The port may be left out: to the topics that is another question, with an answer of its own.
    expect(looks()).toBe(2);
    clock.advance(5000);
    change(pods(3));
    clock.advance(100);
    expect(looks()).toBe(2);
    expect(readers.every(({ got }) => got.join() === '1,3')).toBe(true);
    for (const reader of readers) reader.end();
    expect(follow().got).toEqual([3]);
    expect(looks()).toBe(1);
  });

  it('lets others have their turn when looking takes long', () => {
    const { clock, change, cost, follow, looks } = make();
    for (const port of ['', ':50051']) follow(`greeter.shop${port}`);
    clock.advance(5000);
    looks();
    cost(30);
    change(pods(2));
    clock.advance(100);
    expect(looks()).toBe(1);
    clock.advance(1);
    expect(looks()).toBe(1);
    expect(clock.pending).toBe(0);
  });

  it('is looked at once a second, even if nothing of it changes', () => {
    const { clock, change, follow, looks } = make();
    follow();
    clock.advance(5000);
    looks();
    for (let i = 0; i < 100; i++) {
      change(pods(1));
      clock.advance(100);
    }
    expect(looks()).toBeLessThanOrEqual(10);
  });

  it('may come to be another, and both are told of from then on', () => {
    const { clock, change, follow } = make();
    const [short, full] = [follow('greeter', true, 'shop'), follow('greeter.shop')];
    const gone = follow('greeter');
    clock.advance(5000);
    change({ ...pods(2), services: [] });
    clock.advance(2000);
    expect([short.messages.at(-1)?.found, full.messages.at(-1)?.found]).toEqual([false, false]);
    change(pods(4));
    clock.advance(2000);
    expect([short.got.at(-1), full.got.at(-1), gone.got.at(-1)]).toEqual([4, 4, 0]);
  });
});
