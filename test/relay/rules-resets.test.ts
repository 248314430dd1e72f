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
  REQUEST,
  RESPONSE,
  rst,
  T,
  TRAILERS,
} from '../harness/http2-peer.ts';
import { settled } from './memorywire.ts';
import { answer, type RawWire, Rig, type RigOptions } from './relayrig.ts';

// Design section 7: "RST codes mapped across hops both ways", and the status that an answer without grpc-status means.

let rig: Rig;
let app: RawWire;
afterEach(() => rig.close());

/** A relay with a call on stream 1 that has sent a message and goes on; nothing of it is left to be read. */
async function underWay(options?: RigOptions): Promise<void> {
  rig = new Rig(options);
  await send(rig.caller, headers(1, block(REQUEST)), data(1, 'x'));
  app = await rig.accept();
  app.frames();
  rig.caller.frames();
}

async function send(from: RawWire, ...frames: Buffer[]): Promise<void> {
  from.send(...frames);
  await settled();
}

/** RFC 9113 section 7, with the status of "gRPC over HTTP/2", HTTP2 Transport Mapping. */
const CODES: Array<[name: string, code: number, status: string]> = [
  ['NO_ERROR', 0, 'INTERNAL'],
  ['PROTOCOL_ERROR', 1, 'INTERNAL'],
  ['INTERNAL_ERROR', 2, 'INTERNAL'],
  ['FLOW_CONTROL_ERROR', 3, 'INTERNAL'],
  ['SETTINGS_TIMEOUT', 4, 'INTERNAL'],
  ['STREAM_CLOSED', 5, 'INTERNAL'],
  ['FRAME_SIZE_ERROR', 6, 'INTERNAL'],
  ['CANCEL', 8, 'CANCELLED'],
  ['COMPRESSION_ERROR', 9, 'INTERNAL'],
  ['CONNECT_ERROR', 10, 'INTERNAL'],
  ['ENHANCE_YOUR_CALM', 11, 'RESOURCE_EXHAUSTED'],
  ['INADEQUATE_SECURITY', 12, 'PERMISSION_DENIED'],
  ['HTTP_1_1_REQUIRED', 13, 'INTERNAL'],
  ['3735928559', 0xdeadbeef, 'INTERNAL'],
];

describe('RST_STREAM of the called side', () => {
  it.each(CODES)(
    '%s reaches the caller as it is, and is counted as its library sees it',
    async (name, code, status) => {
      await underWay();
      await send(app, rst(1, code));
      expect(rig.caller.told()).toEqual([`1 RST ${name}`]);
      expect(rig.counted()).toEqual([status]);
    },
  );

  it('in the middle of an answer reaches the caller behind what came of it', async () => {
    await underWay();
    await send(app, headers(1, block(RESPONSE)), data(1, 'half'), rst(1, E.INTERNAL_ERROR));
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200', '1 DATA "half"', '1 RST INTERNAL_ERROR']);
  });

  it('behind a complete answer is none of the caller’s affair', async () => {
    await underWay();
    await send(rig.caller, data(1, '', END_STREAM));
    await send(app, answer(1), rst(1, E.INTERNAL_ERROR));
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=0 END']);
    expect(rig.counted()).toEqual(['OK']);
  });
});

describe('RST_STREAM of the caller', () => {
  it.each([...CODES, ['REFUSED_STREAM', 7, ''] as const])(
    '%s reaches the called side',
    async (name, code, _status) => {
      await underWay();
      await send(rig.caller, rst(1, code));
      // Without an error there would be nothing that ends the call.
      expect(app.told()).toEqual([`1 RST ${name === 'NO_ERROR' ? 'CANCEL' : name}`]);
      expect(rig.counted()).toEqual(['CANCELLED']);
    },
  );

  it('also when its request was complete, and in the middle of the answer', async () => {
    await underWay();
    await send(rig.caller, data(1, '', END_STREAM));
    await send(app, headers(1, block(RESPONSE)));
    app.frames();
    await send(rig.caller, rst(1, E.CANCEL));
    expect(app.told()).toEqual(['1 RST CANCEL']);
  });
});

describe('the end of a whole connection', () => {
  it('of the caller cancels each of its calls', async () => {
    await underWay();
    await send(rig.caller, headers(3, block(REQUEST)));
    app.frames();
    rig.caller.cut('peer-closed');
    await settled();
    expect(app.told()).toEqual(['1 RST CANCEL', '3 RST CANCEL']);
  });

  it('of the called side answers each call in the sidecar’s name: trailers-only, or trailers if it has begun', async () => {
    await underWay();
    await send(rig.caller, headers(3, block(REQUEST), END_HEADERS | END_STREAM));
    await send(app, headers(3, block(RESPONSE)), data(3, 'half'));
    app.cut('socket-error');
    await settled();
    expect(rig.caller.told()).toEqual([
      '3 HEADERS :status=200',
      '3 DATA "half"',
      '1 HEADERS :status=200 grpc-status=14 hauberk-error=app-lost END',
      '1 RST NO_ERROR',
      '3 HEADERS grpc-status=14 hauberk-error=app-lost END',
    ]);
    expect(rig.counted()).toEqual(['UNAVAILABLE', 'UNAVAILABLE']);
  });
});

describe('a rule broken on one stream', () => {
  it('by the caller ends its call at the called side with CANCEL', async () => {
    await underWay();
    await send(rig.caller, headers(1, block([['x-no-end', 'trailers']])));
    expect(rig.caller.told()).toEqual(['1 RST PROTOCOL_ERROR']);
    expect(app.told()).toEqual(['1 RST CANCEL']);
  });

  it('by the called side ends the call with app-protocol-error', async () => {
    await underWay();
    await send(app, data(1, 'before its headers'));
    expect(app.told()).toEqual(['1 RST PROTOCOL_ERROR']);
    expect(rig.caller.told()).toEqual([
      '1 HEADERS :status=200 grpc-status=13 hauberk-error=app-protocol-error END',
      '1 RST NO_ERROR',
    ]);
  });

  it('by the called side’s headers, being above our limit, with headers-too-large', async () => {
    await underWay({ http2: { headerListSize: 2000 } });
    await send(app, headers(1, block([...RESPONSE, ['x-large', 'v'.repeat(2000)]])));
    expect(app.told()).toEqual(['1 RST ENHANCE_YOUR_CALM']);
    expect(rig.caller.told()[0]).toBe(
      '1 HEADERS :status=200 grpc-status=8 hauberk-error=headers-too-large END',
    );
    expect(rig.counted()).toEqual(['RESOURCE_EXHAUSTED']);
  });

  it('or by its trailers, being above our limit: trailers, for the answer has begun', async () => {
    await underWay({ http2: { headerListSize: 2000 } });
    await send(app, headers(1, block(RESPONSE)), data(1, 'x'));
    await send(
      app,
      headers(1, block([...TRAILERS, ['x-large', 'v'.repeat(2000)]]), END_HEADERS | END_STREAM),
    );
    expect(rig.caller.told().slice(0, 3)).toEqual([
      '1 HEADERS :status=200',
      '1 DATA "x"',
      '1 HEADERS grpc-status=8 hauberk-error=headers-too-large END',
    ]);
  });
});

describe('a stream that stalls while its connection is full', () => {
  const KIB = 1024;
  const LIMITS = { queuedBytes: 32 * KIB, stallTimeoutMs: 5000 };

  it('because the called side takes nothing ends RESOURCE_EXHAUSTED, with the code stalled', async () => {
    rig = new Rig({ http2: LIMITS });
    await send(
      rig.caller,
      headers(1, block(REQUEST)),
      ...Array<Buffer>(4).fill(data(1, Buffer.alloc(15 * KIB))),
    );
    app = await rig.accept([4, 0]); // INITIAL_WINDOW_SIZE
    rig.clock.advance(7000);
    await settled();
    expect(app.told()).toEqual(['1 HEADERS', '1 RST CANCEL']);
    expect(rig.caller.told()[0]).toBe('1 HEADERS :status=200 grpc-status=8 hauberk-error=stalled END');
    expect(rig.context.metrics.errors.of('stalled').value).toBe(1);
  });

  it('because the caller takes nothing is reset: CANCEL to both sides', async () => {
    await underWay({ http2: LIMITS });
    await send(rig.caller, frame(T.SETTINGS, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]))); // windows of 0
    await send(app, headers(1, block(RESPONSE)), ...Array<Buffer>(4).fill(data(1, Buffer.alloc(15 * KIB))));
    for (let i = 0; i < 7; i++) {
      rig.clock.advance(1000);
      rig.down.connection.sweep(); // as egress and ingress do
    }
    await settled();
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200', '1 RST CANCEL']);
    expect(app.told()).toEqual(['1 RST CANCEL']);
    expect(rig.counted()).toEqual(['CANCELLED']);
  });
});

/** "HTTP to gRPC Status Code Mapping"; what it does not name is UNKNOWN. */
const STATUSES: Array<[http: number, grpc: string]> = [
  [200, 'UNKNOWN'],
  [204, 'UNKNOWN'],
  [301, 'UNKNOWN'],
  [400, 'INTERNAL'],
  [401, 'UNAUTHENTICATED'],
  [403, 'PERMISSION_DENIED'],
  [404, 'UNIMPLEMENTED'],
  [405, 'UNKNOWN'],
  [418, 'UNKNOWN'],
  [429, 'UNAVAILABLE'],
  [500, 'UNKNOWN'],
  [501, 'UNKNOWN'],
  [502, 'UNAVAILABLE'],
  [503, 'UNAVAILABLE'],
  [504, 'UNAVAILABLE'],
];

describe('an answer to a gRPC call without grpc-status', () => {
  it.each(STATUSES)('HTTP %i reaches the caller unchanged, and is counted as %s', async (http, grpc) => {
    await underWay();
    const fields: Fields = [
      [':status', String(http)],
      ['content-type', 'text/html'],
      ['x-by', 'something else'],
    ];
    const body = http !== 204;
    await send(app, headers(1, block(fields), body ? END_HEADERS : END_HEADERS | END_STREAM));
    if (body) await send(app, data(1, '<p>no</p>', END_STREAM));
    const [head, ...rest] = rig.caller.frames();
    expect(rig.caller.fields(head?.payload)).toEqual(fields);
    expect(rest.map(({ type }) => type)).toEqual(body ? [T.DATA, T.RST_STREAM] : [T.RST_STREAM]);
    expect(rig.counted()).toEqual([grpc]);
  });

  it('in its trailers is counted by its HTTP status too', async () => {
    await underWay();
    await send(
      app,
      headers(1, block([[':status', '503']])),
      headers(1, block([['x-end', '1']]), END_HEADERS | END_STREAM),
    );
    expect(rig.counted()).toEqual(['UNAVAILABLE']);
  });

  it('but with one is counted by that, whatever its HTTP status', async () => {
    await underWay();
    await send(
      app,
      answer(1, [
        [':status', '503'],
        ['grpc-status', '5'],
      ]),
    );
    expect(rig.counted()).toEqual(['NOT_FOUND']);
  });
});
