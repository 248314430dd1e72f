import { afterEach, describe, expect, it } from 'vitest';
import { type PlaceHolder, SessionPlaces } from '../../src/relay/sessionplaces.ts';
import { E, rst } from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, type RawWire, Rig, type RigOptions } from './relayrig.ts';

// Calls that wait for a connection, with their callers and the other side in raw frames.

let rig: Rig;
afterEach(() => rig.close());

const make = (options: RigOptions = {}): void => {
  rig = new Rig({ endpoints: 1, ...options });
};

const call = (id: number, timeout?: string): Promise<void> =>
  rig.request(id, undefined, [
    ['x-call', String(id)],
    ...(timeout === undefined ? [] : [['grpc-timeout', timeout] as const]),
  ]);

const pass = async (ms: number): Promise<void> => {
  rig.clock.advance(ms);
  await settled();
};

/** The callers' names (x-call) of the requests that have come since the last look, in order. */
const calls = (app: RawWire): string[] =>
  app
    .frames()
    .filter(({ type }) => type === 1)
    .map(({ payload }) => app.fields(payload).find(([name]) => name === 'x-call')?.[1] ?? '?');

const late = (id: number): string =>
  `${id} HEADERS :status=200 grpc-status=4 hauberk-error=deadline-exceeded END`;

describe('while a connection is dialled', () => {
  it('a call whose deadline passes is answered then, not before, and never sent', async () => {
    make();
    await call(1, '1S');
    await call(3, '9S');
    await pass(990);
    expect(rig.caller.told()).toEqual([]);
    await pass(20);
    expect(rig.caller.told()).toEqual([late(1)]);
    expect([rig.load, rig.dials.length]).toEqual([1, 1]);
    expect(calls(await rig.accept())).toEqual(['3']);
    expect(rig.counted()).toEqual(['DEADLINE_EXCEEDED']);
  });

  it('a call that is cancelled leaves nothing behind: no place in the queue, nothing to send, no deadline', async () => {
    make({ http2: { queuedCalls: 2 } });
    await call(1, '1S');
    await call(3);
    rig.caller.send(rst(1, E.CANCEL));
    await settled();
    expect(rig.load).toBe(1);
    await call(5);
    await call(7);
    expect(rig.caller.told()).toEqual(['7 HEADERS :status=200 grpc-status=14 hauberk-error=queue-full END']);
    await pass(2000);
    expect(rig.caller.told()).toEqual([]);
    expect(calls(await rig.accept())).toEqual(['3', '5']);
    expect(rig.counted().sort()).toEqual(['CANCELLED', 'UNAVAILABLE']);
  });

  it('all callers may be gone before it is up: it is not used, and the next call finds it', async () => {
    make();
    await call(1);
    await call(3, '1S');
    rig.caller.send(rst(1, E.CANCEL));
    await pass(1010);
    expect(rig.load).toBe(0);
    const app = await rig.accept();
    expect(calls(app)).toEqual([]);
    await call(5);
    expect([calls(app), rig.dials.length]).toEqual([['5'], 0]);
  });

  it('as many calls as may wait all go when it comes up, in their order, on that one connection', async () => {
    make();
    const ids = Array.from({ length: 1024 }, (_, i) => 2 * i + 1);
    for (const id of ids) await call(id);
    expect([rig.load, rig.dials.length]).toEqual([1024, 1]);
    const app = await rig.accept();
    expect(calls(app)).toEqual(ids.map(String));
    expect([rig.load, rig.dials.length]).toEqual([1024, 0]);
    for (const id of ids) app.send(answer(id));
    await settled();
    expect(rig.counted()).toEqual(ids.map(() => 'OK'));
  });
});

describe('when a dial has failed', () => {
  it('a call goes on waiting at another endpoint, with its deadline counted from its begin', async () => {
    make({ endpoints: 2 });
    await call(1, '1S');
    await pass(600);
    await rig.refuse();
    expect([rig.caller.told(), rig.dials.length]).toEqual([[], 1]);
    await pass(390);
    expect(rig.caller.told()).toEqual([]);
    await pass(20);
    expect(rig.caller.told()).toEqual([late(1)]);
    expect(calls(await rig.accept())).toEqual([]);
  });

  it('a call waits so long in all, not so long at each endpoint', async () => {
    make({ endpoints: 2, upstream: { waitMs: 3000 } });
    await call(1);
    await pass(2000);
    await rig.refuse();
    await pass(900);
    expect(rig.caller.told()).toEqual([]);
    await pass(1100);
    expect(rig.caller.told()).toEqual([
      '1 HEADERS :status=200 grpc-status=14 hauberk-error=wait-timeout END',
    ]);
    expect(calls(await rig.accept())).toEqual([]);
  });

  it('calls do not wait for the next one, but say why; after the pause they dial, and are held to their deadlines', async () => {
    make({ upstream: { random: () => 0.5 } });
    await call(1, '9S');
    await rig.refuse();
    await call(3, '9S');
    expect(rig.caller.told()).toEqual([
      '1 HEADERS :status=200 grpc-status=14 hauberk-error=peer-unreachable END',
      '3 HEADERS :status=200 grpc-status=14 hauberk-error=peer-unreachable END',
    ]);
    expect(rig.dials).toHaveLength(0);
    await pass(100); // half of 200 ms
    await call(5, '1S');
    expect(rig.dials).toHaveLength(1);
    await pass(1010);
    expect(rig.caller.told()).toEqual([late(5)]);
    expect(calls(await rig.accept())).toEqual([]);
  });
});

describe('while all places for sessions are taken', () => {
  const busy: PlaceHolder = {
    idleSince: undefined,
    wantsPlace: false,
    giveWay: () => undefined,
    placeFree: () => {},
  };

  it('calls are held to their deadlines, and those that are left go when there is one', async () => {
    const places = new SessionPlaces(1);
    places.take(busy);
    const session = {};
    places.opened(session);
    make({ upstream: { places, waitMs: 30_000 } });
    await call(1, '1S');
    await call(3);
    await call(5);
    rig.caller.send(rst(5, E.CANCEL));
    await pass(1010);
    expect(rig.caller.told()).toEqual([late(1)]);
    expect([rig.load, rig.dials.length]).toEqual([1, 0]);
    places.closed(session);
    expect(calls(await rig.accept())).toEqual(['3']);
  });

  it('calls wait so long, and are told what they waited for', async () => {
    const places = new SessionPlaces(1);
    places.take(busy);
    make({ upstream: { places, waitMs: 3000 } });
    await call(1);
    await pass(3999);
    expect(rig.caller.told()).toEqual([
      '1 HEADERS :status=200 grpc-status=14 hauberk-error=wait-timeout END',
    ]);
    places.failed();
    await settled();
    expect(rig.dials).toHaveLength(0);
  });
});
