import { describe, expect, it } from 'vitest';
import type { Call, CallTarget, WaitingPlace } from '../../src/relay/call.ts';
import { DiscoveredRoutes, type DiscoveryBounds } from '../../src/relay/discoveredroutes.ts';
import type {
  DiscoveredEndpoint,
  DiscoveryAnswer,
  DiscoveryQuery,
  DiscoverySource,
} from '../../src/relay/discovery.ts';
import { drainingError, type RelayError } from '../../src/relay/errors.ts';
import type { Upstream } from '../../src/relay/upstream.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn } from './memorywire.ts';

/** An upstream whose load and health the test sets. */
class Place {
  readonly name: string;
  load = 0;
  open = 0;
  healthy = true;
  sound = true;
  drained = false;
  closed = false;
  retried = 0;
  readonly calls: Caller[] = [];

  constructor(name: string) {
    this.name = name;
  }

  assign(call: Call): void {
    if (this.drained) {
      call.fail(drainingError());
      return;
    }
    this.calls.push(call as unknown as Caller);
  }

  avoided(): void {}

  retryNow(): void {
    this.retried++;
  }

  drain(): void {
    this.drained = true;
    const { calls } = this;
    // As calls that wait for a connection do.
    for (const call of calls.splice(0)) {
      call.tried = [...(call.tried ?? []), this];
      call.target.reassign(call as unknown as Call, drainingError());
    }
  }

  close(): void {
    this.closed = true;
  }
}

class Caller {
  headerOctets = 100;
  readonly target: CallTarget;
  waitingAt: WaitingPlace | undefined;
  waitsSince: number | undefined;
  tried: unknown[] | undefined;
  delayed = false;
  /** `code: message`. */
  failed: string | undefined;

  constructor(target: CallTarget) {
    this.target = target;
  }

  fail(error: RelayError): void {
    this.failed = `${error.code}: ${error.message}`;
  }
}

interface Watch {
  readonly query: DiscoveryQuery;
  readonly answer: (answer: DiscoveryAnswer) => void;
  ended: boolean;
}

const at = (address: string, more: Partial<DiscoveredEndpoint> = {}): DiscoveredEndpoint => ({
  address,
  meshPort: 15008,
  targetPort: 50051,
  peer: 'spiffe://shop.example/ns/shop/sa/greeter',
  zone: '',
  ready: true,
  ...more,
});

const found = (...endpoints: DiscoveredEndpoint[]): DiscoveryAnswer => ({
  found: true,
  service: 'greeter.shop',
  endpoints,
  hint: '',
  zone: '',
});

const NOTHING: DiscoveryAnswer = {
  found: false,
  service: '',
  endpoints: [],
  hint: 'no service nobody.shop',
  zone: '',
};

function make(bounds: Partial<DiscoveryBounds> = {}, draws: number[] = [0]) {
  const clock = new FakeClock();
  const watches: Watch[] = [];
  const places: Place[] = [];
  let drawn = 0;
  const source: DiscoverySource & { trouble: string | undefined; isAway: boolean } = {
    trouble: undefined,
    isAway: false,
    watch: (query, answer) => {
      const watch = { query, answer, ended: false };
      watches.push(watch);
      return () => {
        watch.ended = true;
      };
    },
  };
  const routes = new DiscoveredRoutes(contextOn(clock, { queuedCalls: 4 }), {
    source,
    namespace: 'shop',
    waitMs: 30_000,
    bounds,
    random: () => draws[drawn++ % draws.length] as number,
    makeUpstream: (service, { address, meshPort, targetPort, peer }) => {
      const account = peer.slice(peer.lastIndexOf('/') + 1);
      const place = new Place(`${service} ${address}:${meshPort}>${targetPort} ${account}`);
      places.push(place);
      return place as unknown as Upstream;
    },
  });
  return {
    clock,
    routes,
    source,
    watches,
    places,
    /** A call of a name, as a plan of its own makes it. */
    call: (name: string, port = 0): Caller => {
      const caller = new Caller(routes.named({ name, port }));
      caller.target.assign(caller as unknown as Call);
      return caller;
    },
    watch: (authority: string): Watch => {
      const watch = watches.findLast(({ query }) => query.authority === authority);
      if (watch === undefined) throw new Error(`nobody asks for ${authority}`);
      return watch;
    },
    live: (): string[] => places.filter(({ drained }) => !drained).map(({ name }) => name),
  };
}

describe('a service that is discovered', () => {
  it('is asked for by its first call, in the namespace of the sidecar, and once', () => {
    const { call, watches } = make();
    call('greeter', 50051);
    call('greeter', 50051);
    expect(watches.map(({ query }) => query)).toEqual([
      { authority: 'greeter:50051', namespace: 'shop', port: 0 },
    ]);
  });

  it('has its calls wait for the first answer, in the order of their coming', () => {
    const { call, watch, places } = make();
    const calls = [call('greeter'), call('greeter')];
    watch('greeter').answer(found(at('10.0.0.1')));
    expect(places.map(({ name, calls: taken }) => [name, taken])).toEqual([
      ['greeter.shop 10.0.0.1:15008>50051 greeter', calls],
    ]);
    expect(calls.map(({ waitingAt, delayed }) => [waitingAt, delayed])).toEqual([
      [undefined, true],
      [undefined, true],
    ]);
  });

  it('fails calls that wait for too long, with what keeps the answer', () => {
    const { call, clock, source } = make();
    const first = call('greeter.shop');
    clock.advance(29_000);
    expect(first.failed).toBeUndefined();
    clock.advance(2000);
    expect(first.failed).toBe(
      'discovery-unavailable: the controller has not answered, and greeter.shop was never resolved; the call waited 30000 ms and was not sent',
    );
    source.trouble = 'the controller at h:15010 cannot be reached';
    const second = call('greeter.shop');
    clock.advance(31_000);
    expect(second.failed).toContain(
      'the controller at h:15010 cannot be reached, and greeter.shop was never resolved',
    );
  });

  it('takes an answer that is told while it asks', () => {
    const { call, source, places, routes, clock } = make();
    let used = (): number => Number.NaN;
    source.watch = (_, answer, lastUsed) => {
      used = lastUsed;
      answer(found(at('10.0.0.1')));
      return () => {};
    };
    clock.advance(5);
    const calls = [call('greeter'), call('greeter')];
    expect(places.map(({ calls: taken }) => taken)).toEqual([calls]);
    expect([routes.names, used()]).toEqual([1, 5]);
    clock.advance(5);
    call('greeter');
    expect(used()).toBe(10);
  });

  it('bounds the calls that wait', () => {
    const { call } = make();
    for (let i = 0; i < 4; i++) expect(call('greeter').failed).toBeUndefined();
    expect(call('greeter').failed).toContain('queue-full: 4 calls wait for the endpoints of greeter already');
  });

  it('forgets a call that leaves while it waits', () => {
    const { call, watch, places } = make();
    const caller = call('greeter');
    caller.waitingAt?.leave(caller as unknown as Call);
    watch('greeter').answer(found(at('10.0.0.1')));
    expect(places[0]?.calls).toEqual([]);
  });

  it('says why it has no endpoints, at once', () => {
    const { call, watch } = make();
    const early = call('nobody');
    watch('nobody').answer(NOTHING);
    expect([early.failed, call('nobody').failed]).toEqual(
      Array(2).fill('no-service: no service nobody.shop'),
    );
    watch('nobody').answer({ ...found(), hint: 'greeter.shop has 2 endpoints, none in the mesh' });
    expect(call('nobody').failed).toBe('no-endpoints: greeter.shop has 2 endpoints, none in the mesh');
    watch('nobody').answer(found(at('10.0.0.1')));
    expect(call('nobody').failed).toBeUndefined();
  });

  it('keeps to the endpoints that stay, gives up those that go, and takes on those that come', () => {
    const { call, watch, places, live } = make();
    call('greeter');
    watch('greeter').answer(found(at('10.0.0.1'), at('10.0.0.2')));
    watch('greeter').answer(found(at('10.0.0.2'), at('10.0.0.3')));
    expect(places.map(({ name, drained }) => [name.slice(13, 21), drained])).toEqual([
      ['10.0.0.1', true],
      ['10.0.0.2', false],
      ['10.0.0.3', false],
    ]);
    expect(live()).toHaveLength(2);
  });

  it('moves calls that wait at an endpoint which goes to another', () => {
    const { call, watch, places } = make();
    const caller = call('greeter');
    watch('greeter').answer(found(at('10.0.0.1')));
    expect(places[0]?.calls).toEqual([caller]);
    watch('greeter').answer(found(at('10.0.0.2')));
    expect([places[0]?.calls, places[1]?.calls, caller.failed]).toEqual([[], [caller], undefined]);
  });

  it('tells calls that wait at the last endpoint, which goes, why', () => {
    const { call, watch } = make();
    const caller = call('greeter');
    watch('greeter').answer(found(at('10.0.0.1')));
    watch('greeter').answer({ ...found(), hint: 'greeter.shop has no endpoints' });
    expect(caller.failed).toBe('no-endpoints: greeter.shop has no endpoints');
  });

  it.each([
    ['SPIFFE ID', { peer: 'spiffe://shop.example/ns/shop/sa/other' }],
    ['mesh port', { meshPort: 16000 }],
    ['target port', { targetPort: 50052 }],
  ])('an endpoint with another %s is another endpoint', (_what, change) => {
    const { call, watch, places } = make();
    call('greeter');
    watch('greeter').answer(found(at('10.0.0.1')));
    watch('greeter').answer(found(at('10.0.0.1', change)));
    expect(places.map(({ drained }) => drained)).toEqual([true, false]);
  });

  it('shares the endpoints of its names, until the last of them lets go', () => {
    const { call, watch, places } = make();
    call('greeter');
    call('greeter.shop', 50051);
    watch('greeter').answer(found(at('10.0.0.1')));
    watch('greeter.shop:50051').answer(found(at('10.0.0.1')));
    expect(places).toHaveLength(1);
    watch('greeter').answer(found());
    expect(places[0]?.drained).toBe(false);
    watch('greeter.shop:50051').answer(found());
    expect(places[0]?.drained).toBe(true);
  });

  it('uses endpoints that come to their end only while all others have failed', () => {
    const { call, watch, places } = make({}, [0, 0.99]);
    call('greeter');
    watch('greeter').answer(found(at('10.0.0.1', { ready: false }), at('10.0.0.2'), at('10.0.0.3')));
    const [ending, two, three] = places as [Place, Place, Place];
    ending.calls.length = 0;
    for (let i = 0; i < 8; i++) call('greeter');
    expect(ending.calls).toEqual([]);
    // One that is being dialled is not well, and has not failed.
    two.healthy = false;
    three.healthy = false;
    call('greeter');
    expect(ending.calls).toEqual([]);
    two.sound = false;
    three.sound = false;
    call('greeter');
    expect(ending.calls).toHaveLength(1);
  });

  it('prefers endpoints of its zone while one of them is well', () => {
    const { call, watch, places } = make({}, [0, 0.99]);
    call('greeter');
    const near = at('10.0.0.2', { zone: 'x' });
    watch('greeter').answer({ ...found(at('10.0.0.1', { zone: 'y' }), near, at('10.0.0.3')), zone: 'x' });
    const taken = (): number[] => places.map(({ calls }) => calls.length);
    for (let i = 0; i < 5; i++) call('greeter');
    expect(taken()).toEqual([0, 6, 0]);
    const [, two] = places as [Place, Place];
    two.healthy = false;
    two.sound = false;
    for (let i = 0; i < 5; i++) call('greeter');
    expect(taken()[1]).toBe(6);
  });

  it('sends a refused call to another endpoint, to each once', () => {
    const { call, watch, places } = make();
    const caller = call('greeter');
    watch('greeter').answer(found(at('10.0.0.1'), at('10.0.0.2')));
    const from = { upstream: places[0], connection: { draining: false }, mayRetry: () => true };
    expect(caller.target.mayRetry(caller as unknown as Call, from as never)).toBe(true);
    expect(caller.tried).toEqual([places[0]]);
    const last = { upstream: places[1], connection: { draining: false }, mayRetry: () => true };
    expect(caller.target.mayRetry(caller as unknown as Call, last as never)).toBe(false);
  });

  it('dials a peer that is allowed again', () => {
    const { call, watch, routes, places } = make();
    call('greeter');
    watch('greeter').answer(
      found(at('10.0.0.1'), at('10.0.0.2', { peer: 'spiffe://shop.example/ns/shop/sa/other' })),
    );
    routes.retryNow('spiffe://shop.example/ns/shop/sa/other');
    expect(places.map(({ retried }) => retried)).toEqual([0, 1]);
  });
});

describe('the names that apps make up', () => {
  it('are bounded while nobody has answered for them', () => {
    const { call, watches } = make({ unknown: 3 });
    for (const name of ['a', 'b', 'c']) expect(call(name).failed).toBeUndefined();
    expect(call('d').failed).toMatch(/^too-many-services: calls to 3 services are under way/);
    expect(watches).toHaveLength(3);
  });

  it('push out the oldest without endpoints that nobody waits for, and none that have some', () => {
    const { call, watch, watches, clock, routes } = make({ unknown: 2, names: 4 });
    call('good');
    watch('good').answer(found(at('10.0.0.1')));
    for (const name of ['a', 'b']) {
      clock.advance(1);
      call(name);
      watch(name).answer(NOTHING);
    }
    for (let i = 0; i < 1000; i++) {
      clock.advance(1);
      const caller = call(`x${i}`);
      watch(`x${i}`).answer(NOTHING);
      expect(caller.failed).toContain('no-service');
    }
    expect(watches.filter(({ ended }) => !ended).map(({ query }) => query.authority)).toEqual([
      'good',
      'x998',
      'x999',
    ]);
    expect(routes.names).toBe(3);
  });

  it('push out the service that was not called for longest, when there are too many', () => {
    const { call, watch, clock, places, routes } = make({ names: 2 });
    for (const [i, name] of ['a', 'b'].entries()) {
      call(name);
      watch(name).answer(found(at(`10.0.0.${i}`)));
      (places[i] as Place).calls.length = 0;
      clock.advance(1000);
    }
    call('a');
    call('c');
    expect(watch('b').ended).toBe(true);
    expect(places.map(({ drained }) => drained)).toEqual([false, true]);
    expect(routes.names).toBe(2);
  });

  it('do not push out a service with calls under way', () => {
    const { call, watch, places } = make({ names: 1 });
    call('a');
    watch('a').answer(found(at('10.0.0.1')));
    (places[0] as Place).load = 1;
    expect(call('b').failed).toContain('too-many-services');
    expect(watch('a').ended).toBe(false);
  });

  it('are forgotten soon without endpoints, and after a while with them, unless calls are under way', () => {
    const { call, watch, clock, places, routes } = make({ unknownMs: 5000, unusedMs: 60_000 });
    call('good');
    call('none');
    watch('good').answer(found(at('10.0.0.1')));
    watch('none').answer(NOTHING);
    (places[0] as Place).calls.length = 0;
    clock.advance(4000);
    expect(routes.names).toBe(2);
    clock.advance(2000);
    expect([watch('none').ended, watch('good').ended]).toEqual([true, false]);
    (places[0] as Place).load = 1;
    clock.advance(120_000);
    expect(watch('good').ended).toBe(false);
    (places[0] as Place).load = 0;
    clock.advance(2000);
    expect([watch('good').ended, routes.names, places[0]?.drained]).toEqual([true, 0, true]);
  });

  it('are not forgotten while nobody could tell them again', () => {
    const { call, watch, clock, places, source, routes } = make();
    call('good');
    call('none');
    watch('good').answer(found(at('10.0.0.1')));
    watch('none').answer(NOTHING);
    (places[0] as Place).calls.length = 0;
    source.isAway = true;
    clock.advance(2 * 3_600_000);
    expect([watch('good').ended, watch('none').ended]).toEqual([false, true]);
    const caller = call('good');
    expect(places[0]?.calls).toEqual([caller]);
    (places[0] as Place).calls.length = 0;
    source.isAway = false;
    source.trouble = 'one of its names is refused';
    clock.advance(601_000);
    expect([watch('good').ended, routes.names]).toEqual([true, 0]);
  });

  it('are asked for again by a call that repeats after they were forgotten', () => {
    const { call, watch, watches, clock, places } = make({ unusedMs: 10_000 });
    const first = call('greeter');
    watch('greeter').answer(found(at('10.0.0.1')));
    clock.advance(20_000);
    first.target.assign(first as unknown as Call);
    expect(watches).toHaveLength(2);
    watch('greeter').answer(found(at('10.0.0.1')));
    expect(places[1]?.calls).toEqual([first]);
  });

  it('a service of the configuration is asked for at once and never forgotten', () => {
    const { routes, watch, clock } = make({ unknownMs: 5, unusedMs: 10 });
    const target = routes.configured('greeter.shop:50051');
    expect(target.reachable).toBe(true);
    watch('greeter.shop:50051').answer(NOTHING);
    expect(target.reachable).toBe(false);
    clock.advance(3_600_000);
    expect(watch('greeter.shop:50051').ended).toBe(false);
  });
});

describe('a controller that tells too much', () => {
  it('has so many endpoints of a service used, those that are ready first, always the same', () => {
    const { call, watch, live } = make({ endpointsPerName: 10 });
    const many = Array.from({ length: 5000 }, (_, i) =>
      at(`10.0.${i >> 8}.${i & 255}`, { ready: i % 1000 === 7 || i > 4990 }),
    );
    call('greeter');
    watch('greeter').answer(found(...many));
    const first = live();
    expect(first).toHaveLength(10);
    watch('greeter').answer(found(...many.reverse()));
    expect(live().sort()).toEqual(first.sort());
  });

  it('has so many endpoints in all used', () => {
    const { call, watch, live } = make({ endpoints: 3 });
    call('a');
    call('b');
    watch('a').answer(found(at('10.0.0.1'), at('10.0.0.2'), at('10.0.0.3'), at('10.0.0.4')));
    watch('b').answer({ ...found(at('10.0.1.1')), service: 'b.shop' });
    expect(live()).toHaveLength(3);
    expect(call('b').failed).toContain('too-many-services: b has 1 endpoints');
  });

  it('is told the same endpoint twice and uses it once', () => {
    const { call, watch, places } = make();
    call('greeter');
    watch('greeter').answer(found(at('10.0.0.1'), at('10.0.0.1')));
    watch('greeter').answer(found());
    expect(places.map(({ drained }) => drained)).toEqual([true]);
  });
});

describe('the end of the sidecar', () => {
  it('ends what is asked, fails calls that wait, and closes the endpoints', () => {
    const { call, watch, routes, places, watches, clock } = make();
    call('greeter');
    watch('greeter').answer(found(at('10.0.0.1')));
    const waiting = call('other');
    routes.close();
    expect(waiting.failed).toContain('draining');
    expect(call('third').failed).toContain('draining');
    expect(call('greeter').failed).toContain('draining');
    expect(watches.every(({ ended }) => ended)).toBe(true);
    expect(places[0]).toMatchObject({ drained: true, closed: true });
    clock.advance(10_000);
  });

  it('counts endpoints that finish their calls until those are over', () => {
    const { call, watch, routes, places, clock } = make();
    call('greeter');
    watch('greeter').answer(found(at('10.0.0.1')));
    (places[0] as Place).open = 1;
    watch('greeter').answer(found());
    clock.advance(2000);
    expect(routes.upstreams).toHaveLength(1);
    (places[0] as Place).open = 0;
    clock.advance(2000);
    expect(routes.upstreams).toEqual([]);
  });
});
