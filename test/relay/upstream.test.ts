import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import type { StreamHandler } from '../../src/http2/stream.ts';
import type { Call } from '../../src/relay/call.ts';
import type { RelayContext } from '../../src/relay/context.ts';
import { RelayError } from '../../src/relay/errors.ts';
import { SessionPlaces } from '../../src/relay/sessionplaces.ts';
import { Upstream, type UpstreamOptions } from '../../src/relay/upstream.ts';
import type { Dialled, UpstreamConnection } from '../../src/relay/upstreamconnection.ts';
import type { Session } from '../../src/session/session.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn, MemoryWire, settled } from './memorywire.ts';

const REQUEST = HeaderList.of([
  headerField(':method', 'POST'),
  headerField(':scheme', 'http'),
  headerField(':path', '/shop.Greeter/SayHello'),
  headerField(':authority', 'greeter.shop'),
]);

/** A call as an Upstream sees it: it opens its stream when it may, and remembers what it was told. */
class Caller {
  headerOctets = 100;
  tried: Upstream[] | undefined;
  waitingAt: Upstream | undefined;
  to: UpstreamConnection | undefined;
  error: string | undefined;
  readonly plan = {
    target: { reassign: (_call: unknown, error: RelayError) => this.fail(error) },
  };

  ready(to: UpstreamConnection): void {
    this.to = to;
    to.calls++;
    const quiet: StreamHandler = { onHeaders() {}, onTrailers() {}, onData() {}, onTaken() {}, onReset() {} };
    to.connection.open(REQUEST, true, quiet);
  }

  fail(error: RelayError): void {
    this.error = error.code;
  }
}

let clock: FakeClock;
let context: RelayContext;
let upstream: Upstream;
/** Dials under way, oldest first. */
let dials: Array<{ resolve: (dialled: Dialled) => void; reject: (error: Error) => void }>;
let dialled: number;

function make(
  maxConnections = 8,
  http2: Parameters<typeof contextOn>[1] = {},
  more: Partial<UpstreamOptions> = {},
): void {
  context = contextOn(clock, http2);
  upstream = new Upstream(context, {
    ...more,
    name: 'greeter.shop at 10.0.0.1:15008',
    kind: 'session',
    maxConnections,
    dial: () => {
      dialled++;
      return new Promise((resolve, reject) => dials.push({ resolve, reject }));
    },
  });
}

beforeEach(() => {
  clock = new FakeClock();
  dials = [];
  dialled = 0;
  vi.spyOn(Math, 'random').mockReturnValue(0.5); // the jitter
  make();
});
afterEach(() => {
  upstream.close();
  vi.restoreAllMocks();
});

function call(headerOctets = 100): Caller {
  const caller = new Caller();
  caller.headerOctets = headerOctets;
  upstream.assign(caller as unknown as Call);
  return caller;
}

async function connect(maxStreams?: number): Promise<MemoryWire> {
  const wire = new MemoryWire(context, maxStreams);
  dials.shift()?.resolve({ wire, session: undefined, remote: 'memory' });
  await settled();
  return wire;
}

async function refuse(): Promise<void> {
  dials.shift()?.reject(new RelayError('peer-unreachable', 'nobody there'));
  await settled();
}

const RECONNECT = { backoffMs: 100, maxBackoffMs: 1000, maxAttempts: 3, healthCheckMs: 5000 };

describe('calls to one endpoint', () => {
  it('are not lost by a session that is replaced before the peer’s SETTINGS: they go out, then it drains', async () => {
    let told: UpstreamConnection | undefined;
    upstream.close();
    make(
      8,
      {},
      {
        onConnection: (to) => {
          told = to;
        },
      },
    );
    const waiting = call();
    const wire = await connect();
    told?.drainOnceReady('identity-rotated');
    expect([waiting.to, waiting.error]).toEqual([undefined, undefined]);
    wire.answer();
    await settled();
    expect(waiting.to).toBe(told);
    expect(told?.connection.draining).toBe(true);
  });

  it('wait for the peer’s SETTINGS, and go out in the order they came', async () => {
    const calls = [call(), call(), call()];
    const wire = await connect();
    expect(calls.map(({ to }) => to)).toEqual([undefined, undefined, undefined]);
    expect(upstream.connected).toBe(false);
    wire.answer();
    await settled();
    expect(calls.every(({ to }) => to !== undefined)).toBe(true);
    expect(wire.opened.map(({ id }) => id)).toEqual([1, 3, 5]);
    expect([dialled, upstream.connected, upstream.load]).toEqual([1, true, 3]);
  });

  it('share one dial and, once it is up, one connection', async () => {
    call();
    call();
    (await connect()).answer();
    await settled();
    const later = call();
    expect(later.to).toBeDefined();
    expect(dialled).toBe(1);
  });

  it('beyond a connection’s streams open another connection, up to the most, then wait', async () => {
    make(2);
    const calls = [call(), call(), call()];
    const first = await connect(1);
    first.answer();
    await settled();
    expect(dialled).toBe(2);
    (await connect(1)).answer();
    await settled();
    expect(calls.map(({ to }) => to !== undefined)).toEqual([true, true, false]);
    expect(dialled).toBe(2);
    first.finish(0);
    await settled();
    expect(calls[2]?.to).toBe(calls[0]?.to);
  });

  it('beyond the queue fail at once', () => {
    make(8, { queuedCalls: 2 });
    expect([call(), call(), call(), call()].map(({ error }) => error)).toEqual([
      undefined,
      undefined,
      'queue-full',
      'queue-full',
    ]);
  });

  it('with more metadata than the queue holds fail at once, and leave room when they go', () => {
    const huge = 40_000;
    make(8, { queuedCalls: 4 }); // 64 KiB of headers
    const first = call(huge);
    expect(call(huge).error).toBe('queue-full');
    expect([first.error, call().error]).toEqual([undefined, undefined]);
    first.waitingAt?.leave(first as unknown as Call);
    expect([call(huge).error, call(huge).error]).toEqual([undefined, 'queue-full']);
  });

  it('with any metadata wait alone', async () => {
    make(8, { queuedCalls: 1 });
    const alone = call(64_000);
    const wire = await connect();
    wire.answer();
    await settled();
    expect([alone.error, alone.to !== undefined]).toEqual([undefined, true]);
  });

  it('that give up leave the queue', async () => {
    make(8, { queuedCalls: 1 });
    const first = call();
    first.waitingAt?.leave(first as unknown as Call);
    const second = call();
    expect(second.error).toBeUndefined();
    const wire = await connect();
    wire.answer();
    await settled();
    expect([first.to, second.to !== undefined, wire.opened.length]).toEqual([undefined, true, 1]);
  });
});

describe('a failed dial', () => {
  it('is told to every call that waits, which remembers where it was', async () => {
    const calls = [call(), call()];
    await refuse();
    expect(calls.map(({ error }) => error)).toEqual(['peer-unreachable', 'peer-unreachable']);
    expect(calls[0]?.tried).toEqual([upstream]);
    expect(calls[0]?.waitingAt).toBeUndefined();
  });

  it('is backed off: until then calls fail at once', async () => {
    call();
    await refuse();
    expect(call().error).toBe('peer-unreachable');
    clock.advance(99);
    expect(call().error).toBe('peer-unreachable');
    expect(dialled).toBe(1);
    clock.advance(1); // half of 200 ms
    expect(call().error).toBeUndefined();
    expect(dialled).toBe(2);
  });

  it('makes it unhealthy until it is connected: calls that have a choice do not wait for it, but make it be dialled', async () => {
    expect(upstream.healthy).toBe(true);
    call();
    expect(upstream.healthy).toBe(false); // one call waits for it, that will do
    await refuse();
    upstream.avoided();
    expect([upstream.healthy, dialled]).toEqual([false, 1]);
    clock.advance(100);
    expect([upstream.healthy, dialled]).toEqual([false, 1]);
    upstream.avoided();
    upstream.avoided();
    expect([upstream.healthy, dialled]).toEqual([false, 2]);
    (await connect()).answer();
    await settled();
    expect(upstream.healthy).toBe(true);
    upstream.avoided();
    expect(dialled).toBe(2);
  });

  it('and the end of the last connection are told, for the address may have moved', async () => {
    let gone = 0;
    make(2, {}, { onGone: () => gone++ });
    call();
    await refuse();
    expect(gone).toBe(1);
    clock.advance(100);
    call();
    const wire = await connect(1);
    wire.answer();
    await settled();
    call();
    await refuse(); // beside one that lives
    expect(gone).toBe(1);
    wire.cut('peer-closed');
    await settled();
    expect(gone).toBe(2);
  });

  it('beside a living connection does not make the endpoint be down', async () => {
    const told: boolean[] = [];
    make(2, {}, { reconnect: { ...RECONNECT, maxAttempts: 1 }, onHealth: (up) => told.push(up) });
    call();
    const wire = await connect(1);
    wire.answer();
    await settled();
    call();
    await refuse();
    expect([told, upstream.healthy]).toEqual([[], true]);
    wire.cut('truncated');
    clock.advance(60_000);
    await refuse();
    expect([told, upstream.healthy]).toEqual([[false], false]);
  });

  it('doubles the pause each time, up to ten seconds, until one succeeds', async () => {
    const pauses: number[] = [];
    const pauseAfterFailure = async (): Promise<number> => {
      await refuse();
      const before = dialled;
      let pause = 0;
      for (; dialled === before; pause += 50) {
        clock.advance(50);
        upstream.avoided();
      }
      return pause;
    };
    call();
    for (let i = 0; i < 9; i++) pauses.push(await pauseAfterFailure());
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    const wire = await connect();
    wire.answer();
    await settled();
    wire.cut('truncated');
    await settled();
    call();
    expect(await pauseAfterFailure()).toBe(100);
  });

  it('is also a connection that ends before its SETTINGS', async () => {
    const waiting = call();
    (await connect()).cut('peer-closed');
    await settled();
    expect(waiting.error).toBe('session-lost');
    expect(upstream.healthy).toBe(false);
  });

  it('is also a connection whose SETTINGS do not come, before its other end has agreed to close it', async () => {
    const caller = call();
    const wire = await connect();
    const goodbye = vi.spyOn(wire, 'close').mockReturnValue();
    clock.advance(6000);
    expect([goodbye.mock.calls.length, caller.error]).toEqual([1, 'session-lost']);
    clock.advance(1000);
    call();
    expect(dialled).toBe(2);
    wire.cut('close-timeout');
    expect(upstream.healthy).toBe(false);
    (await connect()).answer();
    await settled();
    expect(upstream.healthy).toBe(true);
  });

  it('beside a living connection leaves the calls that wait for it alone', async () => {
    const first = call();
    const wire = await connect(1);
    wire.answer();
    await settled();
    const second = call();
    await refuse();
    expect([first.error, second.error, second.to]).toEqual([undefined, undefined, undefined]);
    wire.finish(0);
    await settled();
    expect(second.to).toBe(first.to);
  });
});

describe('the end of a connection', () => {
  it('that was told by GOAWAY sends new calls to another', async () => {
    call();
    const wire = await connect();
    const server = wire.answer();
    await settled();
    server.drain('shutdown');
    await settled();
    const next = call();
    expect(next.to).toBeUndefined();
    expect(dialled).toBe(2);
    (await connect()).answer();
    await settled();
    expect(next.to).toBeDefined();
  });

  it('of the whole upstream fails those that wait, and those that come', async () => {
    const waiting = call();
    upstream.drain();
    expect(waiting.error).toBe('draining');
    expect(call().error).toBe('draining');
    const wire = await connect();
    wire.answer();
    await settled();
    expect(upstream.connected && call().error === undefined).toBe(false);
  });
});

describe('a pool', () => {
  const up = async (maxStreams?: number): Promise<MemoryWire> => {
    const wire = await connect(maxStreams);
    wire.answer();
    await settled();
    return wire;
  };

  it('puts no call on a connection that has fallen silent, and opens another', async () => {
    const first = call();
    const wire = await up();
    wire.silent = true;
    const second = call();
    expect([second.to, dialled]).toEqual([undefined, 2]);
    await up();
    expect(second.to).toBeDefined();
    expect(second.to).not.toBe(first.to);
    wire.silent = false;
    expect(call().to).toBe(first.to);
  });

  it('gives calls that wait to a silent connection that has come to life', async () => {
    make(1);
    const first = call();
    const wire = await up();
    wire.silent = true;
    const second = call();
    expect([second.to, dialled]).toEqual([undefined, 1]);
    wire.silent = false;
    clock.advance(1000);
    expect(second.to).toBe(first.to);
  });

  it('lets calls wait only so long', async () => {
    make(1, {}, { waitMs: 3000 });
    call();
    await up(1);
    const early = call();
    clock.advance(2000);
    const late = call();
    expect(early.error).toBeUndefined();
    clock.advance(2000);
    expect([early.error, late.error]).toEqual(['wait-timeout', undefined]);
    clock.advance(2000);
    expect(late.error).toBe('wait-timeout');
    expect(upstream.load).toBe(1);
  });

  it.each(['truncated', 'heartbeat-timeout', 'socket-error'])(
    'opens a connection that ended by %s again, without a call',
    async (reason) => {
      make(8, {}, { reconnect: RECONNECT });
      call();
      const wire = await up();
      wire.cut(reason);
      await settled();
      expect(dialled).toBe(1);
      clock.advance(50);
      expect(dialled).toBe(2);
      await up();
      expect(upstream.connected).toBe(true);
      clock.advance(60_000);
      expect(dialled).toBe(2);
    },
  );

  it.each(['peer-closed', 'local-closed', 'revoked', 'idle'])(
    'leaves one that ended by %s closed until there is a call',
    async (reason) => {
      make(8, {}, { reconnect: RECONNECT });
      call();
      (await up()).cut(reason);
      clock.advance(60_000);
      expect(dialled).toBe(1);
      call();
      expect(dialled).toBe(2);
    },
  );

  it('says that the endpoint is down after so many failures, lets calls fail at once, and checks until it is back', async () => {
    const told: unknown[] = [];
    make(8, {}, { reconnect: RECONNECT, onHealth: (...what) => told.push(what) });
    call();
    (await up()).cut('truncated');
    for (const ms of [50, 50, 100]) {
      clock.advance(ms);
      await refuse();
    }
    expect(dialled).toBe(4);
    expect(told).toEqual([[false, 3, 'nobody there']]);
    expect([call().error, upstream.healthy, dialled]).toEqual(['peer-unreachable', false, 4]);
    clock.advance(5000);
    expect(dialled).toBe(5);
    await refuse();
    clock.advance(5000);
    await up();
    expect(told).toEqual([
      [false, 3, 'nobody there'],
      [true, 4, ''],
    ]);
    expect(call().to).toBeDefined();
  });

  it('that is down is dialled at once when what kept it from connecting is over', async () => {
    const health: unknown[] = [];
    make(
      8,
      {},
      {
        reconnect: { backoffMs: 100, maxBackoffMs: 1000, maxAttempts: 2, healthCheckMs: 60_000 },
        onHealth: (up) => health.push(up),
      },
    );
    call();
    await refuse();
    upstream.retryNow();
    expect(dialled).toBe(1); // nobody asked for it but a call
    call();
    expect(dialled).toBe(2);
    await refuse();
    expect([upstream.healthy, health]).toEqual([false, [false]]);
    const early = call();
    expect([early.error, dialled]).toEqual(['peer-unreachable', 2]);
    upstream.retryNow();
    clock.advance(1);
    expect(dialled).toBe(3);
    (await connect()).answer();
    await settled();
    expect([upstream.healthy, health]).toEqual([true, [false, true]]);
    clock.advance(200_000);
    expect(dialled).toBe(3);
  });

  it('dials no more once it is closed', async () => {
    upstream.close();
    make(8, {}, { reconnect: RECONNECT });
    call();
    const wire = await up();
    upstream.drain();
    wire.cut('truncated');
    clock.advance(60_000);
    expect(dialled).toBe(1);
    expect(clock.pending).toBe(0);
  });

  it('of which all places are taken waits for one, and an idle session makes it', async () => {
    const places = new SessionPlaces(1);
    make(8, {}, { places, name: 'one' });
    const one = upstream;
    const caller = call();
    const wire = await up();
    const two = new Upstream(context, {
      name: 'two',
      kind: 'session',
      maxConnections: 8,
      places,
      dial: () => {
        dialled++;
        return new Promise((resolve, reject) => dials.push({ resolve, reject }));
      },
    });
    const waiting = new Caller();
    two.assign(waiting as unknown as Call);
    expect([dialled, wire.closed, waiting.error]).toEqual([1, false, undefined]);
    (caller.to as UpstreamConnection).calls--;
    wire.finish(0);
    await settled();
    clock.advance(1000);
    await settled();
    expect([wire.closed, one.connected, dialled]).toEqual([true, false, 2]);
    await up();
    expect(waiting.to?.upstream).toBe(two);
    two.close();
  });

  it('is asked for the place of a session only if none of its connections has a call', async () => {
    const places = new SessionPlaces(2);
    const its: UpstreamConnection[] = [];
    const reasons: string[] = [];
    const session = {
      announced() {},
      drain(reason: string) {
        reasons.push(reason);
        for (const to of its.splice(0)) to.drain(reason); // as who listens to it does
      },
    } as unknown as Session;
    const join = async (): Promise<MemoryWire> => {
      const wire = new MemoryWire(context, 1);
      dials.shift()?.resolve({ wire, session, remote: 'memory' });
      await settled();
      wire.answer();
      await settled();
      return wire;
    };
    const over = (caller: Caller, wire: MemoryWire): void => {
      (caller.to as UpstreamConnection).calls--;
      wire.finish(0);
    };
    make(8, {}, { places, onConnection: (to) => its.push(to) });
    const one = upstream;
    const [first, second] = [call(), call()];
    const wires = [await join(), await join()];
    expect(places.taken).toBe(1);
    make(8, {}, { places });
    call();
    await up();
    const two = upstream;
    make(8, {}, { places });
    const waiting = call();
    over(first, wires[0] as MemoryWire);
    clock.advance(2000);
    await settled();
    expect([wires.map(({ closed }) => closed), waiting.to]).toEqual([[false, false], undefined]);
    over(second, wires[1] as MemoryWire);
    clock.advance(2000);
    await settled();
    expect([wires.map(({ closed }) => closed), one.open, dials.length]).toEqual([[true, true], 0, 1]);
    expect(reasons[0]).toBe('evicted');
    await up();
    expect(waiting.to?.upstream).toBe(upstream);
    one.close();
    two.close();
  });

  it('gives its place back when a dial fails', async () => {
    const places = new SessionPlaces(1);
    make(8, {}, { places });
    call();
    await refuse();
    expect(places.taken).toBe(0);
    clock.advance(1000);
    call();
    const wire = await connect();
    wire.cut('peer-closed');
    await settled();
    expect(places.taken).toBe(0);
  });
});
