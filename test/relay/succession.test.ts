import { afterEach, describe, expect, it, vi } from 'vitest';
import { Secret } from '../../src/crypto/secret.ts';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import type { StreamHandler } from '../../src/http2/stream.ts';
import type { Call } from '../../src/relay/call.ts';
import { RelayError } from '../../src/relay/errors.ts';
import { Upstream } from '../../src/relay/upstream.ts';
import type { UpstreamConnection } from '../../src/relay/upstreamconnection.ts';
import { SessionManager } from '../../src/session/manager.ts';
import type { Session } from '../../src/session/session.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn, MemoryWire, settled } from './memorywire.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const REQUEST = HeaderList.of([
  headerField(':method', 'POST'),
  headerField(':scheme', 'http'),
  headerField(':path', '/shop.Greeter/SayHello'),
  headerField(':authority', 'greeter.shop'),
]);
const OK = HeaderList.of([headerField(':status', '200'), headerField('grpc-status', '0')]);

/** A call as an Upstream sees it. */
class Caller {
  headerOctets = 100;
  tried: Upstream[] | undefined;
  waitingAt: Upstream | undefined;
  session: Session | undefined;
  outcome: string | undefined;
  readonly plan = {
    target: {
      reassign: (_call: unknown, error: RelayError) => {
        this.outcome = error.code;
      },
    },
  };

  ready(to: UpstreamConnection): void {
    const session = to.session as Session;
    this.session = session;
    session.callStarted();
    const over = (outcome: string) => {
      this.outcome = outcome;
      session.callEnded();
    };
    const handler: StreamHandler = {
      onHeaders: (_list, _message, fin) => fin && over('OK'),
      onTrailers() {},
      onData() {},
      onTaken() {},
      onReset: () => over('reset'),
    };
    to.connection.open(REQUEST, true, handler);
  }
}

/** One endpoint of a peer; dialling it makes a session at both ends, whose server answers what it is told to. */
function world(terms: { absoluteMs: number; idleMs?: number; graceMs?: number }, notAfterMs = 30 * DAY) {
  const clock = new FakeClock();
  const context = contextOn(clock);
  const options = { clock, cleanupIntervalMs: SECOND, ...terms };
  const near = new SessionManager(options);
  const far = new SessionManager(options);
  const sessions: Array<{ session: Session; bornAt: number; diedAt?: number; reason?: string }> = [];
  near.on('created', ({ session }) => void sessions.push({ session, bornAt: clock.monotonic() }));
  near.on('disposed', ({ session, reason }) => {
    const found = sessions.find((entry) => entry.session === session);
    Object.assign(found ?? {}, { diedAt: clock.monotonic(), reason });
  });
  let dials = 0;
  const refusals: number[] = [];
  const stops = new WeakMap<UpstreamConnection, () => void>();
  const upstream = new Upstream(context, {
    name: 'greeter.shop at 10.0.0.1:15008',
    kind: 'session',
    maxConnections: 8,
    dial: async () => {
      dials++;
      if (refusals.length > 0) {
        refusals.shift();
        throw new RelayError('peer-unreachable', 'nobody there');
      }
      const make = (manager: SessionManager, direction: 'inbound' | 'outbound') => {
        const session = manager.create({
          id: `session-${dials}`,
          sessionKey: Secret.copyOf(Buffer.alloc(32, 1)),
          peer: 'spiffe://shop.example/ns/shop/sa/peer',
          direction,
          postQuantum: false,
          notAfter: clock.now() + notAfterMs,
        });
        session.attach();
        return session;
      };
      const [session, inbound] = [make(near, 'outbound'), make(far, 'inbound')];
      const wire = new MemoryWire(context);
      wire.onRequest = (stream) => {
        inbound.callStarted();
        if (!held.on) stream.sendHeaders(OK, true);
        inbound.callEnded();
      };
      wire.onGoaway = (why) => inbound.announced(why);
      setImmediate(() => {
        const server = wire.answer();
        const stop = inbound.listen({
          draining: (reason) => server.drain(reason),
          disposed: () => server.shutDown(),
        });
        wire.onCut = () => {
          stop();
          inbound.detach('peer-closed');
        };
      });
      return { wire, session, remote: 'memory' };
    },
    onConnection: (to) => {
      stops.set(
        to,
        (to.session as Session).listen({
          draining: (reason) => to.connection.drain(reason),
          disposed: () => to.connection.shutDown(),
          successorDue: (reason) => to.upstream.replace(to, reason),
        }),
      );
    },
    onClosed: (to, reason) => {
      stops.get(to)?.();
      to.session?.detach(reason as 'truncated');
    },
  });
  /** Calls are taken and not answered. */
  const held = { on: false };
  const begin = () => {
    const caller = new Caller();
    upstream.assign(caller as unknown as Call);
    /** `atOnce`: it was given a stream without waiting for a connection. */
    return { caller, atOnce: caller.session !== undefined };
  };
  const call = async () => {
    const begun = begin();
    await settled();
    return begun;
  };
  cleanups.push(() => upstream.close());
  return { clock, near, far, sessions, upstream, refusals, held, begin, call, dials: () => dials };
}

const cleanups: Array<() => void> = [];
afterEach(() => {
  for (const clean of cleanups.splice(0)) clean();
  vi.restoreAllMocks();
});

describe('make before break', () => {
  it('who calls every second for two days is never interrupted, in sessions that keep to their age', async () => {
    const { clock, near, far, sessions, begin, call } = world({ absoluteMs: 8 * HOUR });
    await call();
    let [calls, waited, notYet, oldest] = [0, 0, 0, 0];
    for (const start = clock.monotonic(); clock.monotonic() - start < 2 * DAY; clock.advance(SECOND)) {
      const { caller, atOnce } = begin();
      if (!atOnce) waited++;
      while (caller.outcome !== 'OK') {
        // Turns of the event loop, not time.
        if (++notYet > 1_000_000) throw new Error(`a call was ${caller.outcome ?? 'not answered'}`);
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      oldest = Math.max(oldest, clock.now() - (caller.session?.createdAt ?? 0));
      calls++;
    }
    expect([calls, waited]).toEqual([2 * 24 * 3600, 0]);
    // A successor each 80 % of 8 hours.
    const age = 8 * HOUR * 0.8;
    expect(oldest).toBeLessThanOrEqual(age + 2 * SECOND);
    expect(sessions).toHaveLength(Math.ceil((2 * DAY) / age));
    for (const { bornAt, diedAt, reason } of sessions.slice(0, -1)) {
      expect((diedAt as number) - bornAt).toBeGreaterThanOrEqual(age);
      expect((diedAt as number) - bornAt).toBeLessThanOrEqual(age + 2 * SECOND);
      expect(reason).toBe('expired');
    }
    expect([near.size, far.size]).toEqual([1, 1]);
  });

  it('calls go on in the old session until the successor is up, however often that fails', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5); // the jitter of the backoff
    const { clock, sessions, refusals, call, dials } = world({ absoluteMs: 10 * MINUTE });
    await call();
    refusals.push(1, 2, 3);
    clock.advance(8 * MINUTE);
    await settled();
    expect(dials()).toBe(2);
    let at = 0;
    for (; sessions.length < 2; at++) {
      const { caller, atOnce } = await call();
      expect([atOnce, caller.outcome, caller.session]).toEqual([true, 'OK', sessions[0]?.session]);
      clock.advance(SECOND);
      await settled();
    }
    expect([dials(), at]).toEqual([5, expect.any(Number)]);
    const { caller, atOnce } = await call();
    expect([atOnce, caller.outcome, caller.session]).toEqual([true, 'OK', sessions[1]?.session]);
    expect(sessions[0]?.reason).toBe('expired');
  });

  it('a call under way finishes in the old session, and is cut with it', async () => {
    const { clock, sessions, held, call } = world({ absoluteMs: 10 * MINUTE });
    held.on = true;
    const long = await call();
    held.on = false;
    clock.advance(8 * MINUTE);
    await settled();
    const [old, young] = sessions;
    expect([old?.session.isDraining, young?.session.isDraining]).toEqual([true, false]);
    expect((await call()).caller.session).toBe(young?.session);
    clock.advance(2 * MINUTE - SECOND);
    await settled();
    expect([long.caller.outcome, old?.reason]).toEqual([undefined, undefined]);
    clock.advance(SECOND);
    await settled();
    expect([long.caller.outcome, old?.reason]).toEqual(['reset', 'expired']);
    expect((old?.diedAt as number) - (old?.bornAt as number)).toBe(10 * MINUTE);
  });

  it('a certificate that ends is a reason too', async () => {
    const { clock, sessions, call } = world({ absoluteMs: 8 * HOUR }, HOUR);
    await call();
    clock.advance(48 * MINUTE);
    await settled();
    expect(sessions).toHaveLength(2);
    clock.advance(SECOND);
    expect(sessions[0]).toMatchObject({ reason: 'identity-expired' });
  });

  it('a session that was never used has no successor', async () => {
    const { clock, sessions, upstream, dials } = world({ absoluteMs: 10 * MINUTE });
    upstream.assign(
      new (class extends Caller {
        override ready(): void {}
      })() as unknown as Call,
    );
    await settled();
    expect(sessions).toHaveLength(1);
    clock.advance(10 * MINUTE);
    await settled();
    expect([dials(), sessions[0]?.reason]).toEqual([1, 'expired']);
  });
});
