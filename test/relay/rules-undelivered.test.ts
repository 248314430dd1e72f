import { afterEach, describe, expect, it } from 'vitest';
import { block, data, END_STREAM, type Fields, headers, REQUEST } from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, type RawWire, Rig, type RigOptions } from './relayrig.ts';

/*
 * A pod that is deleted: its app listens no more, and callers are not told yet. Its sidecar has given the call to nobody, says so,
 * and the caller's sidecar gives it to another.
 */

let rig: Rig;
afterEach(() => rig.close());
const make = (options?: RigOptions): Rig => {
  rig = new Rig(options);
  return rig;
};

const retries = (): number => rig.context.metrics.retries.of('egress').value;

const GONE: Fields = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
  ['grpc-status', '14'],
  ['grpc-message', 'the app does not accept connections'],
  ['hauberk-error', 'app-unreachable'],
];
const TOLD = '1 HEADERS :status=200 grpc-status=14 hauberk-error=app-unreachable END';
const SENT = ['1 HEADERS', '1 DATA "request" END'];

/** The first endpoint has the call and no app; the other is connected. */
async function refusedByFirst(): Promise<[first: RawWire, second: RawWire]> {
  await rig.request(1, 'request');
  const first = await rig.accept();
  expect(first.told()).toEqual(SENT);
  first.send(answer(1, GONE));
  await settled();
  return [first, await rig.accept()];
}

describe('a call whose endpoint says that it has no app', () => {
  it('goes to another, whole, and its caller notices nothing', async () => {
    make({ endpoints: 2 });
    const [first, second] = await refusedByFirst();
    expect(second.told()).toEqual(SENT);
    // It was over there: nothing is to be said.
    expect(first.told()).toEqual([]);
    second.send(answer(1));
    await settled();
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=0 END']);
    expect([rig.counted(), retries()]).toEqual([['OK'], 1]);
    expect(rig.load).toBe(0);
  });

  it('is answered as that says, if there is no other', async () => {
    make({ endpoints: 1 });
    await rig.request(1, 'request');
    const only = await rig.accept();
    only.send(answer(1, GONE));
    await settled();
    expect(only.told()).toEqual(SENT);
    expect(rig.caller.told()).toEqual([TOLD]);
    expect([rig.counted(), retries()]).toEqual([['UNAVAILABLE'], 0]);
  });

  it('is answered as the last says, if none has an app', async () => {
    make({ endpoints: 2 });
    const [, second] = await refusedByFirst();
    second.send(answer(1, GONE));
    await settled();
    expect(rig.caller.told()).toEqual([TOLD]);
    expect([rig.counted(), retries()]).toEqual([['UNAVAILABLE'], 1]);
  });

  it('goes on there with what its caller still sends', async () => {
    make({ endpoints: 2 });
    rig.caller.send(headers(1, block(REQUEST)), data(1, 'half'));
    await settled();
    const first = await rig.accept();
    expect(first.told()).toEqual(['1 HEADERS', '1 DATA "half"']);
    first.send(answer(1, GONE));
    await settled();
    const second = await rig.accept();
    expect(first.told()).toEqual(['1 RST NO_ERROR']);
    rig.caller.send(data(1, 'more', END_STREAM));
    await settled();
    expect(second.told()).toEqual(['1 HEADERS', '1 DATA "half"', '1 DATA "more" END']);
    second.send(answer(1));
    await settled();
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=0 END']);
  });

  it('makes calls pass the endpoint over for a second', async () => {
    make({ endpoints: 2 });
    const [first, second] = await refusedByFirst();
    second.send(answer(1));
    second.told();
    for (const id of [3, 5, 7]) await rig.request(id, 'request');
    expect(first.told()).toEqual([]);
    expect(second.told()).toHaveLength(6);
    rig.clock.advance(1001);
    await rig.request(9, 'request');
    expect(first.told()).toEqual(['3 HEADERS', '3 DATA "request" END']);
  });
});

describe('what is not that', () => {
  it.each<[string, Fields]>([
    ['another error of the sidecar', GONE.map(([n, v]) => [n, n === 'hauberk-error' ? 'rate-limited' : v])],
    ['an app that is unavailable', GONE.filter(([name]) => name !== 'hauberk-error')],
  ])('is passed on: %s', async (_, fields) => {
    make({ endpoints: 2 });
    await rig.request(1, 'request');
    const first = await rig.accept();
    first.send(answer(1, fields));
    await settled();
    expect(rig.dials).toEqual([]);
    expect(rig.caller.told()).toHaveLength(1);
    expect([rig.counted(), retries()]).toEqual([['UNAVAILABLE'], 0]);
  });

  it('is the same word of an app: its sidecar takes it away', async () => {
    make({ direction: 'ingress' });
    await rig.request(1, 'request');
    const app = await rig.accept();
    app.send(answer(1, GONE));
    await settled();
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=14 END']);
  });
});
