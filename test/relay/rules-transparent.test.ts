import { afterEach, describe, expect, it } from 'vitest';
import {
  block,
  data,
  E,
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  headers,
  PADDED,
  PRIORITY,
  REQUEST,
  RESPONSE,
  rst,
  T,
  TRAILERS,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, OK, type RawWire, Rig, type RigOptions } from './relayrig.ts';
import { representations } from './representations.ts';

// Design section 7, the rules of a transparent gRPC proxy: what is relayed stays what it was.

let rig: Rig;
let app: RawWire;
afterEach(() => rig.close());

/** A relay whose connection to the other side is up; nothing of it is left to be read. */
async function up(options?: RigOptions, ...announce: Array<[id: number, value: number]>): Promise<void> {
  rig = new Rig(options);
  await rig.request(1);
  app = await rig.accept(...announce);
  app.send(answer(1));
  await settled();
  app.frames();
  rig.caller.frames();
}

async function send(from: RawWire, ...frames: Buffer[]): Promise<void> {
  from.send(...frames);
  await settled();
}

const OPEN = headers(3, block(REQUEST));
const HEADED = headers(3, block(RESPONSE));
const LAST = headers(3, block(TRAILERS), END_HEADERS | END_STREAM);

describe('frame by frame', () => {
  it('trailers-only stays trailers-only', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, 'x', END_STREAM));
    await send(app, answer(3, [...RESPONSE, ['grpc-status', '5'], ['grpc-message', 'none']]));
    expect(rig.caller.told()).toEqual(['3 HEADERS :status=200 grpc-status=5 END']);
    expect(rig.counted()).toEqual(['OK', 'NOT_FOUND']);
  });

  it('trailers stay trailers, also with nothing before them but headers', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, 'x', END_STREAM));
    await send(app, HEADED, LAST);
    expect(rig.caller.told()).toEqual(['3 HEADERS :status=200', '3 HEADERS grpc-status=0 END']);
  });

  it('a half-close goes on when it comes: with the headers, with the last octet, or in an empty DATA frame', async () => {
    await up();
    await send(rig.caller, headers(3, block(REQUEST), END_HEADERS | END_STREAM));
    await send(rig.caller, headers(5, block(REQUEST)), data(5, 'x', END_STREAM));
    await send(rig.caller, headers(7, block(REQUEST)), data(7, 'x'));
    expect(app.told()).toEqual(['3 HEADERS END', '5 HEADERS', '5 DATA "x" END', '7 HEADERS', '7 DATA "x"']);
    await send(rig.caller, data(7, '', END_STREAM));
    expect(app.told()).toEqual(['7 DATA "" END']);
  });

  it('a half-close in an empty DATA frame stays there when the call has waited: gRPC servers look for it', async () => {
    rig = new Rig();
    await send(rig.caller, headers(1, block(REQUEST)), data(1, '', END_STREAM));
    await send(rig.caller, headers(3, block(REQUEST), END_HEADERS | END_STREAM));
    await send(rig.caller, headers(5, block(REQUEST)), data(5, 'x'), data(5, '', END_STREAM));
    app = await rig.accept();
    await settled();
    const told = app.told();
    expect(told.filter((line) => line.startsWith('1 '))).toEqual(['1 HEADERS', '1 DATA "" END']);
    expect(told.filter((line) => line.startsWith('3 '))).toEqual(['3 HEADERS END']);
    expect(told.filter((line) => line.startsWith('5 '))).toEqual(['5 HEADERS', '5 DATA "x" END']);
  });

  it('the answer’s end goes on when it comes, in an empty DATA frame too', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, '', END_STREAM));
    await send(app, HEADED, data(3, 'x'));
    expect(rig.caller.told()).toEqual(['3 HEADERS :status=200', '3 DATA "x"']);
    await send(app, data(3, '', END_STREAM));
    expect(rig.caller.told()).toEqual(['3 DATA "" END']);
  });

  it('a half-closed call goes on bringing answers', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, 'x', END_STREAM));
    for (const text of ['one', 'two', 'three']) {
      await send(app, ...(text === 'one' ? [HEADED] : []), data(3, text));
    }
    await send(app, LAST);
    expect(rig.caller.told().at(-1)).toBe('3 HEADERS grpc-status=0 END');
  });

  it('1xx go on before the final headers, and are none of the answer’s', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, 'x', END_STREAM));
    await send(
      app,
      headers(3, block([[':status', '103']])),
      headers(3, block([[':status', '100']])),
      HEADED,
      LAST,
    );
    expect(rig.caller.told()).toEqual([
      '3 HEADERS :status=103',
      '3 HEADERS :status=100',
      '3 HEADERS :status=200',
      '3 HEADERS grpc-status=0 END',
    ]);
  });

  it('padding and priorities end at this hop', async () => {
    await up();
    const pad = (payload: Buffer): Buffer => Buffer.concat([Buffer.from([7]), payload, Buffer.alloc(7)]);
    const priority = Buffer.from([0, 0, 0, 0, 15]);
    const padded = Buffer.concat([Buffer.from([7]), priority, block(REQUEST), Buffer.alloc(7)]);
    await send(rig.caller, frame(T.HEADERS, END_HEADERS | PADDED | PRIORITY, 3, padded));
    await send(rig.caller, frame(T.DATA, PADDED | END_STREAM, 3, pad(Buffer.from('x'))));
    const frames = app.frames();
    expect(frames.map(({ flags, payload }) => [flags, payload.length])).toEqual([
      [END_HEADERS, expect.any(Number)],
      [END_STREAM, 1],
    ]);
    await send(app, HEADED, frame(T.DATA, PADDED, 3, pad(Buffer.from('y'))), LAST);
    expect(rig.caller.told()).toContain('3 DATA "y"');
  });

  it('a header block in CONTINUATION frames is one list; one above the frame size goes on in several', async () => {
    await up();
    const whole = block([...REQUEST, ['x-large', 'v'.repeat(40_000)]]);
    await send(
      rig.caller,
      frame(T.HEADERS, END_STREAM, 3, whole.subarray(0, 16_000)),
      frame(T.CONTINUATION, 0, 3, whole.subarray(16_000, 32_000)),
      frame(T.CONTINUATION, END_HEADERS, 3, whole.subarray(32_000)),
    );
    const frames = app.frames();
    expect(frames.map(({ type }) => type)).toEqual([
      T.HEADERS,
      ...Array(frames.length - 1).fill(T.CONTINUATION),
    ]);
    expect(frames.length).toBeGreaterThan(1);
    expect(frames.every(({ payload }) => payload.length <= 16_384)).toBe(true);
    expect(frames.map(({ flags }) => flags & END_HEADERS)).toEqual([
      ...Array(frames.length - 1).fill(0),
      END_HEADERS,
    ]);
    const list = app.fields(frames[0]?.payload);
    expect(list.find(([name]) => name === 'x-large')?.[1]).toHaveLength(40_000);
  });
});

describe('metadata', () => {
  const ODD: Fields = [
    ['x-z', '1'],
    ['x-a', '2'],
    ['x-z', '1'],
    ['x-a-bin', 'AAE,AAI'],
    ['x-a-bin', 'AAM'],
    ['x-empty', ''],
    ['x-text', 'a, b;  "c"'],
  ];

  it('keeps its order, duplicates and -bin values: request, answer and trailers', async () => {
    await up();
    await send(rig.caller, headers(3, block([...REQUEST, ...ODD]), END_HEADERS | END_STREAM));
    const [request] = app.frames();
    expect(app.fields(request?.payload)).toEqual([...REQUEST, ...ODD]);
    await send(app, headers(3, block([...RESPONSE, ...ODD])));
    await send(app, headers(3, block([...TRAILERS, ...ODD]), END_HEADERS | END_STREAM));
    const lists = rig.caller.frames().map(({ payload }) => rig.caller.fields(payload));
    expect(lists).toEqual([
      [...RESPONSE, ...ODD],
      [...TRAILERS, ...ODD],
    ]);
  });

  it('that is never indexed stays so, each time; and authorization, cookies and -bin are never indexed by us', async () => {
    await up();
    const secret = (name: string, value: string): Buffer =>
      Buffer.concat([
        Buffer.from([0x10, name.length]),
        Buffer.from(name),
        Buffer.from([value.length]),
        Buffer.from(value),
      ]);
    for (const id of [3, 5]) {
      const list = Buffer.concat([
        block([...REQUEST, ['authorization', 'Bearer t'], ['cookie', 'c=1'], ['x-key-bin', 'AAE']]),
        secret('x-secret', 'open sesame'),
      ]);
      await send(rig.caller, headers(id, list, END_HEADERS | END_STREAM));
      const [request] = app.frames();
      const forms = representations(request?.payload as Buffer);
      const names = app.fields(request?.payload).map(([name]) => name);
      const formOf = (name: string): string | undefined => forms[names.indexOf(name)];
      expect(formOf('x-secret')).toBe('never');
      for (const name of ['authorization', 'cookie', 'x-key-bin']) expect(formOf(name)).not.toBe('indexed');
      for (const name of ['authorization', 'cookie', 'x-key-bin'])
        expect(formOf(name)).not.toBe('incremental');
    }
  });
});

describe('messages', () => {
  const message = (compressed: boolean, octets: string): Buffer => {
    const head = Buffer.from([compressed ? 1 : 0, 0, 0, 0, octets.length]);
    return Buffer.concat([head, Buffer.from(octets)]);
  };

  it('keep their compressed flag and octets, both ways, wherever frames cut them', async () => {
    await up();
    const octets = Buffer.concat([
      message(true, 'squeezed'),
      message(false, 'plain'),
      Buffer.from([1, 0, 0]),
    ]);
    await send(rig.caller, OPEN, data(3, octets.subarray(0, 3)));
    await send(rig.caller, data(3, octets.subarray(3, 9)), data(3, octets.subarray(9), END_STREAM));
    const bodies = (wire: RawWire): Buffer =>
      Buffer.concat(wire.frames().flatMap(({ type, payload }) => (type === T.DATA ? [payload] : [])));
    expect(bodies(app).equals(octets)).toBe(true);
    await send(app, HEADED, data(3, octets.subarray(0, 1)), data(3, octets.subarray(1)), LAST);
    expect(bodies(rig.caller).equals(octets)).toBe(true);
  });

  it('go on as their first octets come: no whole message is ever waited for', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, Buffer.from([0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3])));
    expect(app.told()).toEqual(['3 HEADERS', expect.stringMatching(/^3 DATA "/)]);
    expect(rig.down.connection.held).toBe(0);
  });
});

describe('an early answer', () => {
  it('completes the call: RST NO_ERROR behind it, to both sides, and nothing of it is lost', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, 'first'));
    await send(app, HEADED, data(3, 'enough'), LAST, rst(3, E.NO_ERROR));
    expect(rig.caller.told()).toEqual([
      '3 HEADERS :status=200',
      '3 DATA "enough"',
      '3 HEADERS grpc-status=0 END',
      '3 RST NO_ERROR',
    ]);
    expect(rig.counted()).toEqual(['OK', 'OK']);
  });

  it('is told to the app that still waits for the request’s end', async () => {
    await up();
    await send(rig.caller, OPEN, data(3, 'first'));
    app.frames();
    await send(app, answer(3));
    expect(app.told()).toEqual(['3 RST NO_ERROR']);
  });

  it('that waits for the caller’s window is delivered to its last octet before the RST', async () => {
    await up();
    await send(rig.caller, frame(T.SETTINGS, 0, 0, Buffer.from([0, 4, 0, 0, 0, 2]))); // windows of 2
    await send(rig.caller, OPEN, data(3, 'first'));
    await send(app, HEADED, data(3, 'enough'), LAST, rst(3, E.NO_ERROR));
    expect(rig.caller.told()).toEqual(['3 HEADERS :status=200', '3 DATA "en"']);
    await send(rig.caller, windowUpdate(3, 3));
    expect(rig.caller.told()).toEqual(['3 DATA "oug"']);
    await send(rig.caller, windowUpdate(3, 30));
    expect(rig.caller.told()).toEqual(['3 DATA "h"', '3 HEADERS grpc-status=0 END', '3 RST NO_ERROR']);
  });

  it('leaves what the caller still sends without effect, and its connection credit comes back', async () => {
    await up();
    let credit = 0;
    for (let id = 3; id < 83; id += 2) {
      await send(rig.caller, headers(id, block(REQUEST)));
      await send(app, answer(id, OK));
      await send(rig.caller, ...Array<Buffer>(4).fill(data(id, Buffer.alloc(16_000))));
      for (const frame of rig.caller.frames()) {
        if (frame.type === T.WINDOW_UPDATE && frame.id === 0) credit += frame.payload.readUInt32BE(0);
      }
      expect(app.told()).toEqual([`${id} HEADERS`, `${id} RST NO_ERROR`]);
    }
    // 40 calls of 64,000 octets each; credit comes in bulk, at half of the window of 4 MiB.
    expect(credit).toBeGreaterThanOrEqual(2 * 1024 * 1024);
    expect(rig.caller.closed).toBe(false);
  });
});
