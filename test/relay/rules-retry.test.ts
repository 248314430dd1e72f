import { afterEach, describe, expect, it } from 'vitest';
import { ReplayLog, SentOctets } from '../../src/relay/replaylog.ts';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  goaway,
  headers,
  REQUEST,
  RESPONSE,
  rst,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, Rig, type RigOptions } from './relayrig.ts';

// Design section 7: "REFUSED_STREAM or an id above last-stream-id may be retried transparently, nothing else".

let rig: Rig;
afterEach(() => rig.close());
const make = (options?: RigOptions): Rig => {
  rig = new Rig(options);
  return rig;
};

const retries = (): number => rig.context.metrics.retries.of('egress').value;

describe('a call reset with REFUSED_STREAM', () => {
  it('is sent again, whole, and its caller notices nothing', async () => {
    make();
    await rig.request(1, 'request');
    const app = await rig.accept();
    expect(app.told()).toEqual(['1 HEADERS', '1 DATA "request" END']);
    app.send(rst(1, E.REFUSED_STREAM));
    await settled();
    expect(app.told()).toEqual(['3 HEADERS', '3 DATA "request" END']);
    app.send(answer(3));
    await settled();
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=0 END']);
    expect([rig.counted(), retries()]).toEqual([['OK'], 1]);
  });

  it('goes to another endpoint, if there is one', async () => {
    make({ endpoints: 2 });
    await rig.request(1, 'request');
    expect(rig.dials.map(({ host }) => host)).toEqual(['10.0.0.1']);
    const first = await rig.accept();
    first.send(rst(1, E.REFUSED_STREAM));
    await settled();
    expect(rig.dials.map(({ host }) => host)).toEqual(['10.0.0.2']);
    const second = await rig.accept();
    expect(second.told()).toEqual(['1 HEADERS', '1 DATA "request" END']);
    second.send(rst(1, E.REFUSED_STREAM));
    await settled();
    // Each has had it once, and has tried its own app again: nobody is asked twice.
    expect(first.told()).toEqual(['1 HEADERS', '1 DATA "request" END']);
    expect(second.told()).toEqual([]);
    expect(rig.caller.told()).toEqual(['1 RST REFUSED_STREAM']);
    expect(retries()).toBe(1);
  });

  it('goes to the same endpoint again, if there is no other, only behind a GOAWAY', async () => {
    make({ endpoints: 1 });
    await rig.request(1, 'request');
    const old = await rig.accept();
    old.send(goaway(0, E.NO_ERROR));
    await settled();
    const fresh = await rig.accept();
    expect(fresh.told()).toEqual(['1 HEADERS', '1 DATA "request" END']);
    fresh.send(rst(1, E.REFUSED_STREAM));
    await settled();
    expect(fresh.told()).toEqual([]);
    expect(rig.caller.told()).toEqual(['1 RST REFUSED_STREAM']);
  });

  it('is sent to an app three times at most; then the refusal is passed on, so that the caller may repeat it', async () => {
    make();
    await rig.request(1, 'request');
    const app = await rig.accept();
    for (const id of [1, 3, 5]) {
      expect(app.told()).toEqual([`${id} HEADERS`, `${id} DATA "request" END`]);
      app.send(rst(id, E.REFUSED_STREAM));
      await settled();
    }
    expect(app.told()).toEqual([]);
    expect(rig.caller.told()).toEqual(['1 RST REFUSED_STREAM']);
    expect(rig.counted()).toEqual(['UNAVAILABLE']);
  });

  it('keeps what had come in pieces, half-close and trailers included', async () => {
    make();
    rig.caller.send(headers(1, block(REQUEST)), data(1, 'one '));
    await settled();
    const app = await rig.accept();
    rig.caller.send(data(1, 'two '));
    await settled();
    rig.caller.send(data(1, 'three'), headers(1, block([['x-last', 'z']]), END_HEADERS | END_STREAM));
    await settled();
    expect(app.told()).toEqual([
      '1 HEADERS',
      '1 DATA "one "',
      '1 DATA "two "',
      '1 DATA "three"',
      '1 HEADERS END',
    ]);
    app.send(rst(1, E.REFUSED_STREAM));
    await settled();
    expect(app.told()).toEqual(['3 HEADERS', '3 DATA "one two three"', '3 HEADERS END']);
  });

  it('goes on with what comes after, in order, whether it is sent already or waits', async () => {
    make({ endpoints: 2 });
    rig.caller.send(headers(1, block(REQUEST)), data(1, 'one '));
    await settled();
    const first = await rig.accept();
    first.send(rst(1, E.REFUSED_STREAM));
    await settled();
    rig.caller.send(data(1, 'two ')); // while the other endpoint is dialled
    await settled();
    const second = await rig.accept();
    rig.caller.send(data(1, 'three', END_STREAM));
    await settled();
    expect(second.told()).toEqual(['1 HEADERS', '1 DATA "one two "', '1 DATA "three" END']);
  });

  it('goes out anew in the middle of what waits for a window, and credit is returned once for each octet', async () => {
    make();
    const kib = Buffer.alloc(1000, 'x');
    rig.caller.send(headers(1, block(REQUEST)), data(1, kib));
    await settled();
    const app = await rig.accept([4, 300]); // INITIAL_WINDOW_SIZE
    expect(app.told()).toEqual(['1 HEADERS', '1 DATA 300 octets']);
    app.send(rst(1, E.REFUSED_STREAM));
    await settled();
    expect(app.told()).toEqual(['3 HEADERS', '3 DATA 300 octets']);
    app.send(rst(3, E.REFUSED_STREAM));
    rig.caller.send(data(1, kib, END_STREAM));
    await settled();
    expect(rig.down.connection.held).toBe(1000); // of the second; the first is held for us alone
    app.send(windowUpdate(5, 700));
    await settled();
    expect(app.told()).toEqual(['5 HEADERS', '5 DATA 300 octets', '5 DATA 700 octets']);
    expect(rig.down.connection.held).toBe(1000);
    app.send(windowUpdate(5, 1000));
    await settled();
    expect(app.told()).toEqual(['5 DATA 1000 octets END']);
    expect(rig.down.connection.held).toBe(0);
  });

  it('is passed on once its answer has begun', async () => {
    make();
    await rig.request(1, 'request');
    const app = await rig.accept();
    app.send(headers(1, block(RESPONSE)), rst(1, E.REFUSED_STREAM));
    await settled();
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200', '1 RST REFUSED_STREAM']);
    expect(retries()).toBe(0);
  });

  it('is passed on if its request is above 16 KiB: nothing is held for it', async () => {
    make();
    await rig.request(1, Buffer.alloc(16_384));
    const app = await rig.accept();
    app.told();
    app.send(rst(1, E.REFUSED_STREAM));
    await settled();
    expect(app.told()).toEqual(['3 HEADERS', '3 DATA 16384 octets END']);
    rig.caller.send(headers(3, block(REQUEST)), data(3, Buffer.alloc(16_384)), data(3, 'x', END_STREAM));
    await settled();
    app.told();
    app.send(rst(5, E.REFUSED_STREAM));
    await settled();
    expect(app.told()).toEqual([]);
    expect(rig.caller.told()).toEqual(['3 RST REFUSED_STREAM']);
  });

  it('is passed on, and not made an error of ours, if it can be sent nowhere any more', async () => {
    make({ endpoints: 2 });
    await rig.request(1, 'request');
    const app = await rig.accept();
    app.send(rst(1, E.REFUSED_STREAM));
    await settled();
    await rig.refuse(); // the other endpoint is down
    expect(rig.caller.told()).toEqual(['1 RST REFUSED_STREAM']);
    expect(rig.counted()).toEqual(['UNAVAILABLE']);
  });

  it('keeps its deadline: shortened by what has passed when it is sent again', async () => {
    make();
    await rig.request(1, 'request', [['grpc-timeout', '1S']]);
    const app = await rig.accept();
    await rig.request(3, 'request', [['grpc-timeout', '1S']]);
    app.told();
    rig.clock.advance(400);
    app.send(rst(3, E.REFUSED_STREAM));
    await settled();
    expect(app.told()[0]).toBe('5 HEADERS grpc-timeout=600000u');
  });

  it('is answered DEADLINE_EXCEEDED if its deadline passes while it waits to be sent again', async () => {
    make({ endpoints: 2 });
    await rig.request(1, 'request', [['grpc-timeout', '1S']]);
    const first = await rig.accept();
    first.send(rst(1, E.REFUSED_STREAM));
    await settled();
    rig.clock.advance(1010);
    await settled();
    expect(rig.caller.told()).toEqual([
      '1 HEADERS :status=200 grpc-status=4 hauberk-error=deadline-exceeded END',
    ]);
    expect((await rig.accept()).told()).toEqual([]);
  });

  it('is not sent again once it was cancelled', async () => {
    make({ endpoints: 2 });
    await rig.request(1, 'request');
    const first = await rig.accept();
    first.send(rst(1, E.REFUSED_STREAM));
    await settled();
    rig.caller.send(rst(1, E.CANCEL));
    await settled();
    const second = await rig.accept();
    expect(second.told()).toEqual([]);
    expect(rig.counted()).toEqual(['CANCELLED']);
  });

  it('is sent again 100 times at once and then for one call in ten, lest an overloaded app gets all calls thrice', async () => {
    make({ http2: { appStreams: 2000 } });
    await rig.request(1);
    const app = await rig.accept();
    app.send(answer(1));
    await settled();
    app.told();
    let next = 3;
    const refuseAll = async (calls: number): Promise<number> => {
      let sent = 0;
      const last = next + 2 * calls;
      for (let id = next; id < last; id += 2)
        rig.caller.send(headers(id, block(REQUEST), END_HEADERS | END_STREAM));
      next = last;
      for (;;) {
        await settled();
        const ids = app
          .frames()
          .filter(({ type }) => type === 1)
          .map(({ id }) => id);
        if (ids.length === 0) return sent;
        sent += ids.length;
        app.send(...ids.map((id) => rst(id, E.REFUSED_STREAM)));
      }
    };
    expect(await refuseAll(200)).toBe(200 + 111); // 100, and a tenth of what is sent meanwhile
    expect(await refuseAll(100)).toBe(100 + 11);
  });
});

describe('a call above the last stream of a GOAWAY', () => {
  it('is sent again on a new connection; those up to it go on', async () => {
    make();
    await rig.request(1, 'first');
    await rig.request(3, 'second');
    const old = await rig.accept();
    old.told();
    old.send(goaway(1, E.NO_ERROR));
    await settled();
    const fresh = await rig.accept();
    expect(fresh.told()).toEqual(['1 HEADERS', '1 DATA "second" END']);
    fresh.send(answer(1));
    old.send(answer(1));
    await settled();
    expect(rig.caller.told()).toEqual([
      '3 HEADERS :status=200 grpc-status=0 END',
      '1 HEADERS :status=200 grpc-status=0 END',
    ]);
    expect(old.closed).toBe(true);
  });

  it('knows no budget: a connection that ends refuses each call once', async () => {
    make({ http2: { appStreams: 2000 } });
    for (let id = 1; id < 600; id += 2) await rig.request(id);
    const old = await rig.accept();
    old.send(goaway(0, E.NO_ERROR));
    await settled();
    const fresh = await rig.accept();
    expect(fresh.told()).toHaveLength(300);
    expect(retries()).toBe(300);
  });

  it('is passed on as refused when the app is gone', async () => {
    make();
    await rig.request(1, 'request');
    const old = await rig.accept();
    old.send(goaway(0, E.NO_ERROR));
    await settled();
    await rig.refuse();
    expect(rig.caller.told()).toEqual(['1 RST REFUSED_STREAM']);
  });
});

describe('nothing else is sent again:', () => {
  const codes = Object.entries(E).filter(([name]) => name !== 'REFUSED_STREAM');
  it.each(codes)('a call reset with %s', async (name, code) => {
    make();
    await rig.request(1, 'request');
    const app = await rig.accept();
    app.told();
    app.send(rst(1, code));
    await settled();
    expect(app.told()).toEqual([]);
    expect(rig.caller.told()).toEqual([`1 RST ${name}`]);
    expect(retries()).toBe(0);
  });

  it('a call whose connection was cut', async () => {
    make();
    await rig.request(1, 'request');
    (await rig.accept()).cut('socket-error');
    await settled();
    expect(rig.dials).toEqual([]);
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=14 hauberk-error=app-lost END']);
  });

  it('a call up to the last stream of a GOAWAY whose connection then ended', async () => {
    make();
    await rig.request(1, 'request');
    const app = await rig.accept();
    app.send(goaway(1, E.INTERNAL_ERROR, 'oops'));
    await settled();
    app.cut('peer-closed');
    await settled();
    expect(rig.dials).toEqual([]);
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=14 hauberk-error=app-lost END']);
  });

  it('a call that our own caller refused', async () => {
    make();
    await rig.request(1);
    const app = await rig.accept();
    app.told();
    rig.caller.send(rst(1, E.REFUSED_STREAM));
    await settled();
    expect(app.told()).toEqual(['1 RST REFUSED_STREAM']);
    expect(retries()).toBe(0);
  });
});

describe('what is held to be sent again', () => {
  const octets = (text: string): [Buffer, number, number] => [Buffer.from(`<${text}`), 1, 1 + text.length];
  const textOf = (sent: SentOctets | undefined): string | undefined => {
    const queue = sent?.restore();
    if (queue === undefined) return undefined;
    let text = '';
    while (queue.length > 0) {
      const n = queue.contiguous;
      text += queue.chunk.toString('latin1', queue.at, queue.at + n);
      queue.skip(n);
    }
    return text;
  };

  it('is the octets of each call in their order, however calls mix', () => {
    rig = new Rig();
    const log = new ReplayLog(64);
    const a = SentOctets.of(log, ...octets('aaa'));
    const b = SentOctets.of(log, ...octets('bb'));
    a?.add(...octets('AAAA'));
    b?.add(...octets('B'));
    expect([textOf(a), textOf(b), textOf(a)]).toEqual(['aaaAAAA', 'bbB', 'aaaAAAA']);
  });

  it('is copied read by read, with the frames of many calls in one piece, as they were when they were read', () => {
    rig = new Rig();
    const log = new ReplayLog(64);
    const read = Buffer.from('..one..two..three');
    const calls = [2, 7].map((at) => SentOctets.of(log, read, at, at + 3));
    expect([log.write(read, 12, 17), log.write(read, 2, 5)]).toEqual([10, 0]);
    read.fill('x');
    log.newRead();
    calls.push(SentOctets.of(log, read, 2, 5));
    expect(calls.map(textOf)).toEqual(['one', 'two', 'xxx']);
  });

  it('is one ring for all: what is overwritten is gone, wholly', () => {
    rig = new Rig();
    const log = new ReplayLog(64);
    const first = SentOctets.of(log, ...octets('x'.repeat(20)));
    const second = SentOctets.of(log, ...octets('y'.repeat(20)));
    const third = SentOctets.of(log, ...octets('z'.repeat(24)));
    expect([first, second, third].map((sent) => textOf(sent)?.length)).toEqual([20, 20, 24]);
    const fourth = SentOctets.of(log, ...octets('w'));
    expect([first, second, third, fourth].map((sent) => textOf(sent)?.length)).toEqual([
      undefined,
      20,
      24,
      1,
    ]);
    expect(first?.add(...octets('more'))).toBe(false);
    // A piece that does not fit before the end begins anew, and takes what it leaves out along.
    SentOctets.of(log, ...octets('v'.repeat(40)));
    const fifth = SentOctets.of(log, ...octets('u'.repeat(30)));
    expect([second, third, fourth, fifth].map((sent) => textOf(sent)?.length)).toEqual([
      undefined,
      undefined,
      undefined,
      30,
    ]);
    expect(textOf(fifth)).toBe('u'.repeat(30));
  });
});
