import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Hang, type Payload, SayHello, Trickle } from '../harness/greeter-methods.ts';
import { type Direction, flipped, type Link, type Meddler, Mitm, type Unit } from '../harness/mitm.ts';
import { type Pair, type SidecarProcess, startPair } from '../harness/sidecars.ts';

const RECORD_TIMEOUT = 150; // ms; the default of 10 s would only make the tests slow
const TAG = 16;

let pair: Pair;
let mitm: Mitm;

beforeAll(async () => {
  mitm = await Mitm.start();
  const limits = {
    records: { timeout: `${RECORD_TIMEOUT}ms` },
    handshake: { ratePerAddress: 1_000_000, burstPerAddress: 1_000_000, maxEventLoopLag: '10s' },
    log: { level: 'error' },
  };
  pair = await startPair({ route: { endpoints: [mitm.address] }, web: limits, greeter: limits });
  mitm.target = pair.greeter.ingress;
});

beforeEach(() => {
  mitm.meddler = undefined;
});

/** The end of a connection as one side's audit has it. */
interface End {
  reason: string | undefined;
  detail: string | undefined;
}

const peerEnd = async (side: SidecarProcess, after: number): Promise<End> => {
  const { reason, detail } = await side.audit.event('connection.closed', (e) => e.side === 'peer', after);
  return { reason, detail };
};

/** A call that works; returns the session that it went by. */
async function hello(): Promise<string> {
  const answer = await pair.client.unary(SayHello, { name: 'Ada' });
  expect(answer.code, `${answer.hauberkError}: ${answer.details}`).toBe(0);
  return answer.message?.session as string;
}

const trickle = (): Promise<{
  code: number;
  hauberkError: string | undefined;
  messages: readonly Payload[];
}> => pair.client.serverStream(Trickle, { data: Buffer.from('the one message') }).answer;

/**
 * Attacks a session that works, during a call whose answer never ends by itself; what each side made of it.
 * Before it returns another call has worked, on another connection of the same session: that is resumed.
 */
async function attack(meddler: Meddler, more?: () => unknown): Promise<{ web: End; greeter: End }> {
  const before = await hello();
  const marks = { web: await pair.web.audit.mark(), greeter: await pair.greeter.audit.mark() };
  const connections = mitm.links.length;
  mitm.meddler = meddler;
  const call = trickle();
  await more?.();
  const { code, hauberkError } = await call;
  mitm.meddler = undefined;
  expect({ code, hauberkError }).toEqual({ code: 14, hauberkError: 'session-lost' });
  expect(await hello()).toBe(before);
  expect(mitm.links.length).toBeGreaterThan(connections);
  return {
    web: await peerEnd(pair.web, marks.web),
    greeter: await peerEnd(pair.greeter, marks.greeter),
  };
}

/** Applies `change` to the first record in a direction, and lets everything else pass. */
function once(
  direction: Direction,
  change: (bytes: Buffer, unit: Unit, link: Link) => Buffer | undefined,
): Meddler {
  let armed = true;
  return (unit, link) => {
    if (unit.direction !== direction || !armed) return unit.bytes;
    armed = false;
    return change(unit.bytes, unit, link);
  };
}

const concat = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts);

/** The side that notices an attack on a direction: its receiver. The other one just finds the connection gone. */
const receiver = { up: 'greeter', down: 'web' } as const;
const GONE = /^(truncated|socket-error)$/;

describe.each(['up', 'down'] as const)('somebody who meddles with records (%s)', (direction) => {
  const noticed = async (meddler: Meddler, more?: () => unknown): Promise<End> => {
    const ends = await attack(meddler, more);
    const other = direction === 'up' ? ends.web : ends.greeter;
    expect(other.reason).toMatch(GONE);
    return ends[receiver[direction]];
  };

  it.each([
    ['changes a bit of the ciphertext', (r: Buffer) => flipped(r, 2)],
    ['changes a bit of the tag', (r: Buffer) => flipped(r, r.length - 1, 7)],
    ['repeats a record', (r: Buffer) => concat(r, r)],
    ['repeats a byte', (r: Buffer) => concat(r.subarray(0, 9), r.subarray(8))],
    ['puts a byte in front', (r: Buffer) => concat(Buffer.of(0), r)],
    [
      'sends a record of the least length in front',
      (r: Buffer) => concat(Buffer.of(0, 19), Buffer.alloc(19), r),
    ],
    ['makes a length shorter than any record', (r: Buffer) => concat(Buffer.of(0, 18), r.subarray(2))],
    [
      'swaps two bytes',
      (r: Buffer) => concat(r.subarray(0, 4), r.subarray(5, 6), r.subarray(4, 5), r.subarray(6)),
    ],
    [
      'makes a record shorter, length field and all',
      (r: Buffer) => {
        const cut = Buffer.from(r.subarray(0, -1));
        cut.writeUInt16BE(cut.length - 2);
        return cut;
      },
    ],
  ])('who %s is found out at once', async (_what, change) => {
    const { reason, detail } = await noticed(once(direction, change));
    expect(reason).toBe('bad-record');
    expect(detail).toMatch(/does not authenticate|A record of \d+ bytes/);
  });

  it.each([
    ['drops a byte', (r: Buffer) => concat(r.subarray(0, 20), r.subarray(21))],
    ['cuts the end off', (r: Buffer) => r.subarray(0, -1)],
    ['promises by a length bytes that never come', (r: Buffer) => flipped(r, 0, 7)],
    ['appends a byte', (r: Buffer) => concat(r, Buffer.of(0))],
  ])('who %s is waited for, but not for long', async (_what, change) => {
    const { reason, detail } = await noticed(once(direction, change));
    expect(reason).toBe('record-timeout');
    expect(detail).toBe(`A record did not complete within ${RECORD_TIMEOUT} ms`);
  });

  it('who drops a record is found out by the next one', async () => {
    let dropped: () => void = () => {};
    const drop = new Promise<void>((resolve) => {
      dropped = resolve;
    });
    let second: Promise<{ code: number }> | undefined;
    const { reason } = await noticed(
      once(direction, () => {
        dropped();
        return undefined;
      }),
      async () => {
        await drop;
        second = trickle();
      },
    );
    expect(reason).toBe('bad-record');
    expect((await second)?.code).toBe(14);
  });

  it('who sends two records in the other order is found out', async () => {
    let held: Buffer | undefined;
    let arrived: () => void = () => {};
    const first = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const { reason } = await noticed(
      (unit) => {
        if (unit.direction !== direction) return unit.bytes;
        if (held === undefined) {
          held = unit.bytes;
          arrived();
          return undefined;
        }
        const both = concat(unit.bytes, held);
        held = Buffer.alloc(0);
        return both;
      },
      async () => {
        await first;
        void trickle();
      },
    );
    expect(reason).toBe('bad-record');
  });

  it('who sends a record back to whoever sealed it is found out', async () => {
    const { reason } = await attack((unit, link) => {
      if (unit.direction !== direction) return unit.bytes;
      link.inject(direction === 'up' ? 'down' : 'up', unit.bytes);
      return undefined;
    }).then((ends) => (direction === 'up' ? ends.web : ends.greeter));
    expect(reason).toBe('bad-record');
  });

  it('who ends the stream of bytes cannot make it look like a good end', async () => {
    const between = await noticed(
      once(direction, (_bytes, _unit, link) => {
        link.finish(direction);
        return undefined;
      }),
    );
    expect(between).toEqual({ reason: 'truncated', detail: 'The connection ended without CLOSE' });
    const within = await noticed(
      once(direction, (bytes, _unit, link) => {
        link.inject(direction, bytes.subarray(0, bytes.length - TAG));
        link.finish(direction);
        return undefined;
      }),
    );
    expect(within.reason).toBe('truncated');
    expect(within.detail).toContain('in the middle of a record');
  });

  it('who puts in a record of an earlier connection is found out', async () => {
    const earlier = mitm.links.findLast((link) => link.sent[direction].length > 3) as Link;
    await hello();
    const records = earlier.sent[direction].filter(({ kind }) => kind === 'record');
    const { reason } = await noticed(
      once(direction, (_bytes, { index }) => (records[index] ?? records.at(-1))?.bytes),
    );
    expect(reason).toBe('bad-record');
  });

  it('finds out a change of any one byte of a record, wherever it is', async () => {
    const mark = await pair[receiver[direction]].audit.mark();
    let length = Number.POSITIVE_INFINITY;
    let attacks = 0;
    for (let at = 2; at < length; at++) {
      await hello();
      mitm.meddler = once(direction, (bytes) => {
        length = Math.min(length, bytes.length);
        return flipped(bytes, at, at % 8);
      });
      const { code, hauberkError } = await trickle();
      mitm.meddler = undefined;
      expect({ at, code, hauberkError }).toEqual({ at, code: 14, hauberkError: 'session-lost' });
      attacks++;
    }
    expect(attacks).toBeGreaterThan(40);
    const ends = await pair[receiver[direction]].audit.events(
      'connection.closed',
      attacks,
      (event) => event.side === 'peer',
      mark,
    );
    expect(new Set(ends.map(({ reason }) => reason))).toEqual(new Set(['bad-record']));
  });

  it('finds out a change of any bit of a length', async () => {
    for (let bit = 0; bit < 16; bit++) {
      const { reason } = await noticed(once(direction, (bytes) => flipped(bytes, bit >> 3, bit & 7)));
      expect(reason, `bit ${bit}`).toMatch(/^(bad-record|record-timeout)$/);
    }
  });
});

describe('somebody who only delays', () => {
  it('gains no more than the delay', async () => {
    const session = await hello();
    const held: Array<() => void> = [];
    mitm.meddler = (unit, link) => {
      held.push(() => link.inject(unit.direction, unit.bytes));
      return undefined;
    };
    const { code } = await pair.client.unary(Hang, { data: Buffer.alloc(0) }, { deadlineMs: 100 });
    expect(code).toBe(4);
    mitm.meddler = undefined;
    for (const release of held) release();
    expect(await hello()).toBe(session);
  });
});

it('none of this upset either sidecar', async () => {
  for (const sidecar of [pair.web, pair.greeter]) {
    expect(sidecar.log).toBe('');
    expect(await sidecar.probe('/readyz')).toMatchObject({ status: 200 });
    expect((await sidecar.audit.all()).filter(({ type }) => type === 'flood.detected')).toEqual([]);
  }
});
