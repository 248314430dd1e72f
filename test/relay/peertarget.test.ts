import { describe, expect, it } from 'vitest';
import type { Call, WaitingPlace } from '../../src/relay/call.ts';
import { RelayError } from '../../src/relay/errors.ts';
import { PeerTarget } from '../../src/relay/peertarget.ts';
import type { Lookup } from '../../src/relay/resolver.ts';
import type { Upstream } from '../../src/relay/upstream.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn, settled } from './memorywire.ts';

/** An upstream whose load and health the test sets. */
class Place {
  readonly address: string;
  load = 0;
  healthy = true;
  drained = false;
  /** How often another was preferred for its health. */
  timesAvoided = 0;
  readonly taken: Caller[] = [];

  readonly onGone: () => void;

  constructor(address: string, onGone: () => void) {
    this.address = address;
    this.onGone = onGone;
  }

  assign(call: Call): void {
    this.taken.push(call as unknown as Caller);
  }

  avoided(): void {
    this.timesAvoided++;
  }

  drain(): void {
    this.drained = true;
  }
}

class Caller {
  headerOctets = 100;
  waitingAt: WaitingPlace | undefined;
  error: string | undefined;
  tried: unknown[] | undefined;
  delayed = false;

  fail(error: RelayError): void {
    this.error = error.code;
  }
}

/** As a call does that is cancelled, or whose deadline passes. */
function leave(caller: Caller): void {
  caller.waitingAt?.leave(caller as unknown as Call);
}

interface Setting {
  lookup?: Lookup;
  queuedCalls?: number;
  waitMs?: number;
  /** What random draws, in turn, for ever. */
  draws?: number[];
}

function make(hosts: string[], { lookup, draws = [0], queuedCalls = 1024, waitMs = 30_000 }: Setting = {}) {
  const clock = new FakeClock();
  const places = new Map<string, Place>();
  let drawn = 0;
  const target = new PeerTarget(contextOn(clock, { queuedCalls }), {
    waitMs,
    service: 'greeter.shop',
    endpoints: hosts.map((host) => ({ host, port: 15008 })),
    makeUpstream: (host, _port, onGone) => {
      const place = new Place(host, onGone);
      places.set(host, place);
      return place as unknown as Upstream;
    },
    random: () => draws[drawn++ % draws.length] as number,
    ...(lookup === undefined ? {} : { lookup }),
  });
  const call = (caller = new Caller()): Caller => {
    target.assign(caller as unknown as Call);
    return caller;
  };
  const fail = (caller: Caller, at: Place): void => {
    caller.tried = [...(caller.tried ?? []), at];
    target.reassign(caller as unknown as Call, new RelayError('peer-unreachable', `not at ${at.address}`));
  };
  return { clock, places, target, call, fail };
}

const THREE = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];
const place = (places: Map<string, Place>, host: string): Place => places.get(host) as Place;

describe('of several endpoints', () => {
  it('a call goes to the less loaded of two that are drawn', () => {
    const { places, call } = make(THREE, { draws: [0, 0.6] }); // the first and the third
    place(places, '10.0.0.1').load = 5;
    place(places, '10.0.0.2').load = 0;
    place(places, '10.0.0.3').load = 4;
    call();
    expect(place(places, '10.0.0.3').taken).toHaveLength(1);
  });

  it('the same one is never drawn twice', () => {
    for (const draws of [
      [0, 0],
      [0.4, 0.4],
      [0.99, 0.99],
    ]) {
      const { places, call } = make(THREE, { draws });
      // Whichever is drawn first is the most loaded: the other is chosen, which must be another one.
      const first = place(places, THREE[Math.floor((draws[0] as number) * 3)] as string);
      first.load = 100;
      call();
      expect(first.taken).toHaveLength(0);
    }
  });

  it('one whose dial failed is left out while another is healthy', () => {
    const { places, call } = make(THREE, { draws: [0, 0] });
    place(places, '10.0.0.1').healthy = false;
    place(places, '10.0.0.2').healthy = false;
    place(places, '10.0.0.3').load = 1000;
    call();
    expect(place(places, '10.0.0.3').taken).toHaveLength(1);
    // They hear of it, to see whether they are well again.
    expect([...places.values()].map(({ timesAvoided }) => timesAvoided)).toEqual([1, 1, 0]);
  });

  it('all are tried when none is healthy', () => {
    const { places, call } = make(THREE, { draws: [0, 0] });
    for (const each of places.values()) each.healthy = false;
    call();
    expect([...places.values()].filter(({ taken }) => taken.length > 0)).toHaveLength(1);
  });

  it('a call that failed at one goes to each other one, once, and then fails with the last reason', () => {
    const { places, call, fail } = make(THREE);
    const caller = call();
    for (let i = 0; i < 3; i++) {
      const at = [...places.values()].find(({ taken }) => taken.includes(caller)) as Place;
      at.taken.length = 0;
      fail(caller, at);
    }
    expect(caller.error).toBe('peer-unreachable');
    expect(caller.tried).toHaveLength(3);
    expect(new Set(caller.tried).size).toBe(3);
  });
});

describe('an endpoint’s DNS name', () => {
  it('stands for all its addresses', async () => {
    const { places, call } = make(['greeter'], {
      lookup: async () => ({ addresses: ['10.0.0.1', '::2'], ttlMs: 5000 }),
    });
    const caller = call();
    await settled();
    expect([...places.keys()]).toEqual(['10.0.0.1', '::2']);
    expect([...places.values()].flatMap(({ taken }) => taken)).toEqual([caller]);
    expect(caller.delayed).toBe(true); // its deadline must be shortened
  });

  it('is looked up again on its TTL; addresses that are gone are drained, those that stay are kept', async () => {
    const answers = [
      ['10.0.0.1', '10.0.0.2'],
      ['10.0.0.2', '10.0.0.3'],
    ];
    const { clock, places, target, call } = make(['greeter'], {
      lookup: async () => ({ addresses: answers.shift() ?? [], ttlMs: 5000 }),
    });
    call();
    await settled();
    const stays = place(places, '10.0.0.2');
    clock.advance(5000);
    const meanwhile = call(); // served by what is known while it is looked up
    expect([...places.values()].flatMap(({ taken }) => taken)).toContain(meanwhile);
    await settled();
    expect(place(places, '10.0.0.1').drained).toBe(true);
    expect(place(places, '10.0.0.2')).toBe(stays);
    expect(target.upstreams).toHaveLength(2);
  });

  it('is looked up again when an address cannot be reached, long before its TTL, but not every time', async () => {
    let answer = ['10.0.0.1', '10.0.0.2'];
    let asked = 0;
    const { clock, places, target, call } = make(['greeter'], {
      lookup: async () => {
        asked++;
        return { addresses: answer, ttlMs: 300_000 };
      },
    });
    call();
    await settled();
    answer = ['10.0.0.2', '10.0.0.3'];
    const moved = place(places, '10.0.0.1');
    clock.advance(999);
    moved.onGone();
    moved.onGone();
    await settled();
    expect(asked).toBe(1); // it has only just been asked
    clock.advance(1);
    moved.onGone();
    moved.onGone();
    await settled();
    expect([asked, moved.drained]).toEqual([2, true]);
    expect([...places.keys()]).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
    clock.advance(10_000);
    call(); // the new answer holds as long as it says
    await settled();
    expect(asked).toBe(2);
    clock.advance(10_000);
    target.drain();
    place(places, '10.0.0.3').onGone();
    await settled();
    expect(asked).toBe(2);
  });

  it('without any address fails the call, and says which name', async () => {
    const { call } = make(['greeter'], { lookup: () => Promise.reject(new Error('ENOTFOUND')) });
    const caller = call();
    await settled();
    expect(caller.error).toBe('peer-unresolved');
  });

  it('without any address leaves the endpoints that are addresses', async () => {
    const { places, call } = make(['10.0.0.1', 'greeter'], {
      lookup: () => Promise.reject(new Error('ENOTFOUND')),
    });
    const caller = call();
    await settled();
    expect(place(places, '10.0.0.1').taken).toEqual([caller]);
  });

  it('is not waited for by a call that has ended meanwhile', async () => {
    const { places, call } = make(['greeter'], {
      lookup: async () => ({ addresses: ['10.0.0.1'], ttlMs: 5000 }),
    });
    const caller = call();
    leave(caller);
    await settled();
    expect(place(places, '10.0.0.1').taken).toEqual([]);
  });
});

describe('calls that wait for the first address', () => {
  const never: Lookup = () => new Promise(() => {});

  it('are so many at most; one that is over leaves its place to the next', () => {
    const { call } = make(['greeter'], { lookup: never, queuedCalls: 2 });
    const [first, second, third] = [call(), call(), call()];
    expect([first, second, third].map(({ error }) => error)).toEqual([undefined, undefined, 'queue-full']);
    leave(first);
    expect([call().error, call().error]).toEqual([undefined, 'queue-full']);
  });

  it('are bounded by what their metadata holds, too', () => {
    const { call } = make(['greeter'], { lookup: never, queuedCalls: 4 }); // 64 KiB of headers
    const huge = (): Caller => call(Object.assign(new Caller(), { headerOctets: 40_000 }));
    const first = huge();
    expect([first.error, huge().error, call().error]).toEqual([undefined, 'queue-full', undefined]);
    leave(first);
    expect([huge().error, huge().error]).toEqual([undefined, 'queue-full']);
  });

  it('wait only so long, each by itself', () => {
    const { clock, call } = make(['greeter'], { lookup: never, waitMs: 3000 });
    const early = call();
    clock.advance(2000);
    const late = call();
    clock.advance(1000);
    expect([early.error, late.error]).toEqual(['wait-timeout', undefined]);
    clock.advance(2000);
    expect(late.error).toBe('wait-timeout');
    expect(clock.pending).toBe(0);
  });

  it('are told when the sidecar ends, and nothing is dialled for them when DNS answers', async () => {
    let answer: (answer: { addresses: string[]; ttlMs: number }) => void = () => {};
    const lookup: Lookup = () => new Promise((resolve) => (answer = resolve));
    const { clock, places, target, call } = make(['greeter'], { lookup });
    const caller = call();
    target.drain();
    expect([caller.error, call().error]).toEqual(['draining', 'draining']);
    answer({ addresses: ['10.0.0.1'], ttlMs: 5000 });
    await settled();
    expect([places.size, clock.pending]).toEqual([0, 0]);
  });
});
