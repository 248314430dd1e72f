import { afterEach, describe, expect, it } from 'vitest';
import { RelayError } from '../../src/relay/errors.ts';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  goaway,
  headers,
  ping,
  REQUEST,
  RESPONSE,
  rst,
  settings,
} from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, type RawWire, Rig, type RigOptions } from './relayrig.ts';

// Design section 7: SETTINGS_MAX_CONCURRENT_STREAMS and the queue, deadlines, GOAWAY, identifiers, SETTINGS that change.

const MAX_STREAMS = 3; // SETTINGS_MAX_CONCURRENT_STREAMS
let rig: Rig;
afterEach(() => rig.close());

const make = (options?: RigOptions): void => {
  rig = new Rig(options);
};

/** A relay with one connection to the other side, and no more, that takes `streams` at a time. */
async function narrow(streams: number, http2: RigOptions['http2'] = {}): Promise<RawWire> {
  make({ http2, upstream: { maxConnections: 1 } });
  await rig.request(1, undefined, [['x-call', '1']]);
  return rig.accept([MAX_STREAMS, streams]);
}

async function send(from: RawWire, ...frames: Buffer[]): Promise<void> {
  from.send(...frames);
  await settled();
}

/** The callers' names (x-call) of the requests that have come since the last look, in order. */
const calls = (app: RawWire): string[] =>
  app
    .frames()
    .filter(({ type }) => type === 1)
    .map(({ payload }) => app.fields(payload).find(([name]) => name === 'x-call')?.[1] ?? '?');

const call = (id: number, timeout?: string): Promise<void> =>
  rig.request(id, undefined, [
    ['x-call', String(id)],
    ...(timeout === undefined ? [] : [['grpc-timeout', timeout] as const]),
  ]);

describe('calls above the called side’s SETTINGS_MAX_CONCURRENT_STREAMS', () => {
  it('wait, and are sent first in, first out, as streams end', async () => {
    const app = await narrow(1);
    for (const id of [3, 5, 7]) await call(id);
    expect(calls(app)).toEqual(['1']);
    for (const id of [1, 3, 5]) {
      await send(app, answer(id));
      expect(calls(app)).toEqual([String(id + 2)]);
    }
  });

  it('are not overtaken by one that comes when there is room for another reason', async () => {
    const app = await narrow(10);
    app.backlog = 8 * 1024 * 1024; // headers wait while so much is to be sent
    for (const id of [3, 5]) await call(id);
    expect(calls(app)).toEqual(['1']);
    app.backlog = 0;
    await call(7);
    expect(calls(app)).toEqual(['3', '5', '7']);
    expect(rig.load).toBe(4);
  });

  it('of which one is cancelled: it leaves the queue at once and is never sent', async () => {
    const app = await narrow(1);
    for (const id of [3, 5]) await call(id);
    await send(rig.caller, rst(3, E.CANCEL));
    expect(rig.load).toBe(2); // one is open, one waits
    await send(app, answer(1));
    expect(calls(app)).toEqual(['1', '5']);
  });

  it('of which one’s deadline passes: it is answered at once and never sent', async () => {
    const app = await narrow(1);
    await call(3, '1S');
    await call(5);
    rig.clock.advance(1010);
    await settled();
    expect(rig.caller.told()).toEqual([
      '3 HEADERS :status=200 grpc-status=4 hauberk-error=deadline-exceeded END',
    ]);
    expect(rig.load).toBe(2);
    await send(app, answer(1));
    expect(calls(app)).toEqual(['1', '5']);
  });

  it('beyond the queue are refused with queue-full, and those in it stay', async () => {
    const app = await narrow(1, { queuedCalls: 2 });
    for (const id of [3, 5, 7]) await call(id);
    expect(rig.caller.told()).toEqual(['7 HEADERS :status=200 grpc-status=14 hauberk-error=queue-full END']);
    for (const id of [1, 3, 5]) await send(app, answer(id));
    expect(calls(app)).toEqual(['1', '3', '5']);
  });

  it('keep what they bring: octets, half-close, and no more than a window of it', async () => {
    const app = await narrow(1);
    await send(rig.caller, headers(3, block(REQUEST)), data(3, 'one '));
    await send(rig.caller, data(3, 'two', END_STREAM));
    app.told();
    await send(app, answer(1));
    expect(app.told()).toEqual(['3 HEADERS', '3 DATA "one two" END']);
    await send(
      rig.caller,
      headers(5, block(REQUEST)),
      ...Array<Buffer>(5).fill(data(5, Buffer.alloc(16_000))),
    );
    expect(rig.caller.told()).toContain('5 RST FLOW_CONTROL_ERROR');
  });
});

describe('our own SETTINGS_MAX_CONCURRENT_STREAMS', () => {
  it('refuses a stream too many with REFUSED_STREAM, which any client may repeat', async () => {
    make({ http2: { appStreams: 2 } });
    await settled();
    expect(rig.caller.frames()[0]?.payload.includes(Buffer.from([0, MAX_STREAMS, 0, 0, 0, 2]))).toBe(true);
    for (const id of [1, 3, 5]) await call(id);
    expect(rig.caller.told()).toEqual(['5 RST REFUSED_STREAM']);
    const app = await rig.accept();
    expect(calls(app)).toEqual(['1', '3']);
    await send(app, answer(1));
    await call(7);
    expect(calls(app)).toEqual(['7']);
  });
});

describe('SETTINGS that change while calls are under way', () => {
  it('fewer streams: what is open goes on, what comes waits; more streams: it goes at once', async () => {
    const app = await narrow(3);
    for (const id of [3, 5]) await call(id);
    await send(app, settings([MAX_STREAMS, 1]));
    await call(7);
    await send(app, answer(1), answer(3));
    expect(calls(app)).toEqual(['1', '3', '5']);
    await send(app, settings([MAX_STREAMS, 2]));
    expect(calls(app)).toEqual(['7']);
    await send(app, answer(5), answer(7));
    expect(rig.counted()).toEqual(['OK', 'OK', 'OK', 'OK']);
  });

  it('no streams at all: calls wait until there are some', async () => {
    const app = await narrow(0);
    expect(calls(app)).toEqual([]);
    await send(app, settings([MAX_STREAMS, 1]));
    expect(calls(app)).toEqual(['1']);
  });

  it('a smaller header table: lists stay readable, and the same', async () => {
    const app = await narrow(100);
    calls(app);
    await send(app, settings([1, 0])); // HEADER_TABLE_SIZE
    for (const id of [3, 5]) await call(id);
    expect(calls(app)).toEqual(['3', '5']);
    await send(app, settings([1, 4096]));
    for (const id of [7, 9]) await call(id);
    expect(calls(app)).toEqual(['7', '9']);
  });

  it('a larger frame size is used, and each is acknowledged', async () => {
    const app = await narrow(100);
    app.frames();
    await send(app, settings([4, 100_000]), settings([5, 40_000])); // INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE
    expect(app.frames().map(({ type, flags }) => [type, flags])).toEqual([
      [4, 1],
      [4, 1],
    ]);
    await send(
      rig.caller,
      headers(3, block(REQUEST)),
      data(3, Buffer.alloc(16_384)),
      data(3, Buffer.alloc(16_000)),
    );
    expect(app.told()).toEqual(['3 HEADERS', '3 DATA 16384 octets', '3 DATA 16000 octets']);
  });
});

describe('a deadline', () => {
  it('goes on as it is, in its own words, when the call has not waited', async () => {
    const app = await narrow(100);
    app.frames();
    await call(3, '99999999n');
    expect(app.told()).toEqual(['3 HEADERS grpc-timeout=99999999n END']);
  });

  it.each(['egress', 'ingress'] as const)(
    'at %s is shortened by what the call has waited for a stream',
    async (direction) => {
      make({ direction, upstream: { maxConnections: 1 } });
      await call(1);
      const app = await rig.accept([MAX_STREAMS, 1]);
      await call(3, '1S');
      app.frames();
      rig.clock.advance(300);
      await send(app, answer(1));
      expect(app.told()).toEqual(['3 HEADERS grpc-timeout=700000u END']);
    },
  );

  it('is shortened by what the call has waited for a limit’s verdict', async () => {
    const app = await narrow(100);
    app.frames();
    let admit: (verdict: undefined) => void = () => {};
    rig.verdict = new Promise((resolve) => {
      admit = resolve;
    });
    await call(3, '1S');
    rig.clock.advance(250);
    admit(undefined);
    await settled();
    expect(app.told()).toEqual(['3 HEADERS grpc-timeout=750000u END']);
  });

  it('is shortened by what the call has waited for a dial, and then held to what is left', async () => {
    make();
    await call(1, '1S');
    rig.clock.advance(900);
    const app = await rig.accept();
    expect(app.told()).toEqual(['1 HEADERS grpc-timeout=100000u END']);
    rig.clock.advance(110);
    await settled();
    expect(app.told()).toEqual(['1 RST CANCEL']);
    expect(rig.counted()).toEqual(['DEADLINE_EXCEEDED']);
  });

  it('is held by egress alone: two clocks could only cut the call short twice', async () => {
    make({ direction: 'ingress' });
    await call(1);
    const app = await rig.accept();
    app.told();
    await call(3, '1S');
    rig.clock.advance(5000);
    await settled();
    expect(app.told()).toEqual(['3 HEADERS grpc-timeout=1S END']);
    expect(rig.caller.told()).toEqual([]);
  });

  it('that is refused by a limit says so, whatever it was', async () => {
    make();
    rig.verdict = Promise.resolve(new RelayError('limited', 'too many', { retryAfterMs: 10 }));
    await call(1, '1S');
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=8 hauberk-error=limited END']);
    rig.clock.advance(2000);
    await settled();
    expect(rig.caller.told()).toEqual([]);
  });
});

describe('a graceful end in two steps', () => {
  it('of our own: calls on their way are taken until the second step, and all that were taken finish', async () => {
    make();
    await call(1);
    const app = await rig.accept();
    rig.caller.frames();
    rig.down.drain('shutdown');
    await settled();
    expect(rig.caller.told()).toEqual(['GOAWAY all NO_ERROR shutdown', 'PING hbkdrain']);
    await call(3); // sent before the caller had read it
    await send(rig.caller, ping('hbkdrain', 1));
    expect(rig.caller.told()).toEqual(['GOAWAY 3 NO_ERROR']);
    await call(5); // too late: not taken, and its client may repeat it
    expect(calls(app)).toEqual(['1', '3']);
    await send(app, answer(1));
    expect(rig.caller.closed).toBe(false);
    await send(app, answer(3));
    expect(rig.caller.told()).toEqual([
      '1 HEADERS :status=200 grpc-status=0 END',
      '3 HEADERS :status=200 grpc-status=0 END',
    ]);
    expect(rig.caller.closed).toBe(true);
  });

  it('of our own: a caller that does not answer the PING has a second', async () => {
    make();
    await call(1);
    const app = await rig.accept();
    rig.caller.frames();
    rig.down.drain('shutdown');
    await settled();
    rig.caller.frames();
    rig.clock.advance(1000);
    await settled();
    expect(rig.caller.told()).toEqual(['GOAWAY 1 NO_ERROR']);
    await send(app, answer(1));
    expect(rig.caller.closed).toBe(true);
  });

  it('of the called side: what is under way finishes there, what comes goes to a new connection', async () => {
    make();
    await call(1);
    const old = await rig.accept();
    await send(old, goaway(2 ** 31 - 1, E.NO_ERROR, 'shutdown'));
    await call(3);
    const fresh = await rig.accept();
    expect([calls(old), calls(fresh)]).toEqual([['1'], ['3']]);
    await send(old, goaway(1, E.NO_ERROR));
    await send(old, headers(1, block(RESPONSE)), data(1, 'x'));
    expect(old.closed).toBe(false);
    await send(old, headers(1, block([['grpc-status', '0']]), END_HEADERS | END_STREAM));
    await send(fresh, answer(1));
    expect(old.closed).toBe(true);
    expect(rig.counted()).toEqual(['OK', 'OK']);
    // We closed it, because it had asked us to: the audit says who wanted it, and why.
    expect(rig.ends).toEqual([['peer-closed', 'GOAWAY: shutdown']]);
  });

  it('of the called side, of which the calls above the last stream go elsewhere', async () => {
    make();
    for (const id of [1, 3]) await call(id);
    const old = await rig.accept();
    await send(old, goaway(2 ** 31 - 1, E.NO_ERROR));
    await send(old, goaway(1, E.NO_ERROR));
    const fresh = await rig.accept();
    expect([calls(old), calls(fresh)]).toEqual([['1', '3'], ['3']]);
  });
});

describe('GOAWAY with ENHANCE_YOUR_CALM (too_many_pings)', () => {
  it('of the called side: its next connection waits like after a failed dial, and calls meanwhile say why', async () => {
    make();
    await call(1);
    const old = await rig.accept();
    await send(old, goaway(1, E.ENHANCE_YOUR_CALM, 'too_many_pings'));
    await call(3);
    expect(rig.dials).toEqual([]);
    const [end] = rig.caller.told();
    expect(end).toBe('3 HEADERS :status=200 grpc-status=14 hauberk-error=app-lost END');
    rig.clock.advance(200);
    await call(5);
    const fresh = await rig.accept();
    expect(calls(fresh)).toEqual(['5']);
    await send(old, answer(1));
    expect(rig.ends).toEqual([['peer-closed', 'GOAWAY ENHANCE_YOUR_CALM: too_many_pings']]);
  });
});

describe('stream identifiers that are used up', () => {
  const LAST = 2 ** 31 - 1;

  it('of ours: the next call gets a new connection, those under way finish on the old one', async () => {
    make({ upstream: { firstStreamId: LAST - 2, maxConnections: 1 } });
    for (const id of [1, 3]) await call(id);
    const old = await rig.accept();
    expect(old.told()).toEqual([`${LAST - 2} HEADERS END`, `${LAST} HEADERS END`]);
    await call(5);
    const fresh = await rig.accept();
    expect(calls(fresh)).toEqual(['5']);
    expect(old.told()).toEqual(['GOAWAY 0 NO_ERROR worn-out']);
    await send(old, answer(LAST - 2), answer(LAST));
    expect(rig.counted()).toEqual(['OK', 'OK']);
    expect(old.closed).toBe(true);
  });

  it('of ours, with calls that wait already: they go to the new connection by themselves', async () => {
    make({ upstream: { firstStreamId: LAST, maxConnections: 1 } });
    for (const id of [1, 3]) await call(id);
    const old = await rig.accept();
    expect(calls(old)).toEqual(['1']);
    expect(calls(await rig.accept())).toEqual(['3']);
  });

  it('of the caller’s: its last one is served like any other, and no further one can be', async () => {
    make();
    await call(LAST);
    const app = await rig.accept();
    await send(app, answer(1));
    expect(rig.caller.told()).toEqual([`${LAST} HEADERS :status=200 grpc-status=0 END`]);
    await call(1);
    expect(rig.caller.told()[0]).toMatch(/^GOAWAY all (STREAM_CLOSED|PROTOCOL_ERROR) /);
  });
});
