import { afterEach, describe, expect, it } from 'vitest';
import {
  block,
  data,
  E,
  END_STREAM,
  headers,
  REQUEST,
  RESPONSE,
  settings,
  T,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, type RawWire, Rig, type RigOptions } from './relayrig.ts';

// Design section 7, flow control across two hops: windows of any size, and credit that follows what the far side takes.

const INITIAL_WINDOW_SIZE = 4;
const KIB = 1024;
let rig: Rig;
let app: RawWire;
afterEach(() => rig.close());

async function send(from: RawWire, ...frames: Buffer[]): Promise<void> {
  from.send(...frames);
  await settled();
}

/** A relay whose other side announces a stream window; nothing is left to be read. */
async function withWindow(window: number, options?: RigOptions): Promise<void> {
  rig = new Rig(options);
  await rig.request(1);
  app = await rig.accept([INITIAL_WINDOW_SIZE, window]);
  await send(app, answer(1));
  app.frames();
  rig.caller.frames();
}

/** Credit that was given since the last look, by stream. */
function credit(wire: RawWire): Record<number, number> {
  const given: Record<number, number> = {};
  for (const { type, id, payload } of wire.frames()) {
    if (type === T.WINDOW_UPDATE) given[id] = (given[id] ?? 0) + payload.readUInt32BE(0);
  }
  return given;
}

const dataOf = (wire: RawWire): string[] => wire.told().filter((told) => told.includes('DATA'));

describe('a window of the called side', () => {
  it('of 0 lets headers, half-close and empty DATA pass, and holds every octet until it opens', async () => {
    await withWindow(0);
    await send(rig.caller, headers(3, block(REQUEST)), data(3, 'octets', END_STREAM));
    await send(rig.caller, headers(5, block(REQUEST)), data(5, '', END_STREAM));
    expect(app.told()).toEqual(['3 HEADERS', '5 HEADERS', '5 DATA "" END']);
    await send(app, windowUpdate(3, 6));
    expect(app.told()).toEqual(['3 DATA "octets" END']);
  });

  it('of 1 lets one octet pass at a time', async () => {
    await withWindow(1);
    await send(rig.caller, headers(3, block(REQUEST)), data(3, 'abc', END_STREAM));
    expect(app.told()).toEqual(['3 HEADERS', '3 DATA "a"']);
    await send(app, windowUpdate(3, 1));
    expect(app.told()).toEqual(['3 DATA "b"']);
    await send(app, windowUpdate(3, 1));
    expect(app.told()).toEqual(['3 DATA "c" END']);
  });

  it('of 2^31-1 is used; one octet more is an error of that stream alone', async () => {
    await withWindow(2 ** 31 - 1);
    await send(app, windowUpdate(0, 2 ** 31 - 1 - 65_535));
    await send(
      rig.caller,
      headers(3, block(REQUEST)),
      ...Array<Buffer>(4).fill(data(3, Buffer.alloc(16_000))),
    );
    expect(dataOf(app)).toHaveLength(4);
    await send(rig.caller, headers(5, block(REQUEST)));
    await send(app, windowUpdate(5, 1));
    expect(app.told()).toEqual(['5 HEADERS', '5 RST FLOW_CONTROL_ERROR']);
    expect(app.closed).toBe(false);
  });

  it('that SETTINGS shrink below zero holds all until credit has made that good', async () => {
    await withWindow(10);
    await send(rig.caller, headers(3, block(REQUEST)), data(3, '0123456789abc', END_STREAM));
    expect(dataOf(app)).toEqual(['3 DATA "0123456789"']);
    await send(app, settings([INITIAL_WINDOW_SIZE, 4])); // -6
    await send(app, windowUpdate(3, 6));
    expect(dataOf(app)).toEqual([]);
    await send(app, windowUpdate(3, 1));
    expect(dataOf(app)).toEqual(['3 DATA "a"']);
    await send(app, settings([INITIAL_WINDOW_SIZE, 100]));
    expect(dataOf(app)).toEqual(['3 DATA "bc" END']);
  });

  it('of the connection is shared, and holds no headers back', async () => {
    await withWindow(2 ** 31 - 1);
    const full = headers(3, block(REQUEST));
    await send(rig.caller, full, ...Array<Buffer>(4).fill(data(3, Buffer.alloc(16_000))));
    await send(rig.caller, data(3, Buffer.alloc(1535))); // 65,535
    await send(rig.caller, headers(5, block(REQUEST)), data(5, 'x', END_STREAM));
    expect(app.told().slice(-1)).toEqual(['5 HEADERS']);
    await send(app, windowUpdate(0, 1));
    expect(app.told()).toEqual(['5 DATA "x" END']);
  });
});

describe('a window of the caller', () => {
  it.each([0, 1])('of %i holds the answer alike, and its trailers behind it', async (window) => {
    await withWindow(65_535);
    await send(
      rig.caller,
      settings([INITIAL_WINDOW_SIZE, window]),
      headers(3, block(REQUEST)),
      data(3, '', END_STREAM),
    );
    await send(app, headers(3, block(RESPONSE)), data(3, 'ab'), answer(3, [['grpc-status', '0']]));
    expect(rig.caller.told()).toEqual(
      window === 0 ? ['3 HEADERS :status=200'] : ['3 HEADERS :status=200', '3 DATA "a"'],
    );
    await send(rig.caller, windowUpdate(3, 2));
    expect(rig.caller.told()).toEqual([
      `3 DATA "${window === 0 ? 'ab' : 'b'}"`,
      '3 HEADERS grpc-status=0 END',
    ]);
  });
});

describe('credit', () => {
  it('of a stream comes back when the far side has taken its octets; the connection’s when they are queued', async () => {
    await withWindow(0, { http2: { maxWindow: 65_536, initialWindow: 65_536 } });
    const chunk = Buffer.alloc(16 * KIB);
    // 36 streams fill 2.25 MiB: over half of our connection window of 4 MiB, and nothing has been taken.
    for (let id = 3; id < 75; id += 2) {
      await send(rig.caller, headers(id, block(REQUEST)), ...Array<Buffer>(4).fill(data(id, chunk)));
    }
    const early = credit(rig.caller);
    expect(Object.keys(early)).toEqual(['0']);
    expect(early[0]).toBeGreaterThanOrEqual(2 * KIB * KIB);
    await send(app, windowUpdate(3, 65_536), windowUpdate(0, 1_000_000));
    expect(credit(rig.caller)).toMatchObject({ 3: 65_536 });
  });

  it('of an answer comes back to the called side likewise', async () => {
    await withWindow(65_535, { http2: { maxWindow: 65_536, initialWindow: 65_536 } });
    await send(
      rig.caller,
      settings([INITIAL_WINDOW_SIZE, 0]),
      headers(3, block(REQUEST)),
      data(3, '', END_STREAM),
    );
    await send(app, headers(3, block(RESPONSE)), ...Array<Buffer>(4).fill(data(3, Buffer.alloc(16 * KIB))));
    expect(credit(app)).toEqual({});
    await send(rig.caller, windowUpdate(3, 65_536), windowUpdate(0, 65_536));
    expect(credit(app)).toEqual({ 3: 65_536 });
  });

  it('lets a stream hold its window and no octet more: messages of any size pass without being held whole', async () => {
    await withWindow(0, { http2: { initialWindow: 65_536 } });
    await send(rig.caller, headers(3, block(REQUEST)));
    for (let sent = 0; sent < 64 * KIB; sent += 16 * KIB)
      await send(rig.caller, data(3, Buffer.alloc(16 * KIB)));
    expect(rig.down.connection.held).toBe(64 * KIB);
    await send(rig.caller, data(3, 'x'));
    expect(rig.caller.told()).toEqual(['3 RST FLOW_CONTROL_ERROR']);
    expect(rig.down.connection.held).toBe(0);
  });

  it('of 1,000 streams that stall does not stop the next', async () => {
    await withWindow(0, { http2: { appStreams: 2000, initialWindow: 65_536 } });
    for (let id = 3; id < 2003; id += 2) {
      rig.caller.send(headers(id, block(REQUEST)), data(id, Buffer.alloc(8 * KIB)));
      if (id % 100 === 1) await settled();
    }
    await settled();
    app.frames();
    await send(rig.caller, headers(2003, block(REQUEST)), data(2003, 'x', END_STREAM));
    await send(app, windowUpdate(2003, 1));
    expect(app.told()).toEqual(['2003 HEADERS', '2003 DATA "x" END']);
    await send(app, answer(2003));
    expect(rig.caller.told()).toEqual(['2003 HEADERS :status=200 grpc-status=0 END']);
  });

  it('comes back when what is held is given up', async () => {
    await withWindow(0);
    await send(rig.caller, headers(3, block(REQUEST)), data(3, Buffer.alloc(16 * KIB)));
    expect(rig.down.connection.held).toBe(16 * KIB);
    await send(app, Buffer.concat([answer(3)]));
    expect(rig.down.connection.held).toBe(0);
    await send(rig.caller, headers(5, block(REQUEST)), data(5, Buffer.alloc(16 * KIB)));
    await send(app, Buffer.from([0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, E.CANCEL])); // RST_STREAM
    expect(rig.down.connection.held).toBe(0);
  });
});
