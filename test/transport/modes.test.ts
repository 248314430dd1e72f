import { beforeAll, describe, expect, it } from 'vitest';
import type { PostQuantumPolicy } from '../../src/config/config.ts';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import { encodeClientHello } from '../../src/transport/clienthello.ts';
import { HandshakeError } from '../../src/transport/errors.ts';
import { encodeFrame, MESSAGE, retryFrame } from '../../src/transport/frame.ts';
import { modesOf, XX, XXHFS } from '../../src/transport/mode.ts';
import { codeOf, makePair, shake, type Tamper } from './world.ts';

let pair: Awaited<ReturnType<typeof makePair>>;
beforeAll(async () => {
  pair = await makePair();
});

const POLICIES: readonly PostQuantumPolicy[] = ['required', 'preferred', 'off'];
const initiator = (policy: PostQuantumPolicy) => pair.initiator({ modes: modesOf(policy) });
const responder = (policy: PostQuantumPolicy) => pair.responder({ modes: modesOf(policy) });
/** An initiator that has sent its opening. */
const started = (policy: PostQuantumPolicy): ReturnType<typeof initiator> => {
  const machine = initiator(policy);
  machine.start();
  return machine;
};

const HELLO = 12;
const FRAME_HEADER = 3;
const MODE = 5; // offset in CLIENT_HELLO
const OFFERED = 7; // offset of the lower byte
const RETRY_TO_0 = '02000100';
const helloOf = (flight: Buffer | undefined): string => (flight as Buffer).subarray(0, HELLO).toString('hex');

/** Changes a flight's bytes at offsets. */
const put = (bytes: Buffer, ...changes: [at: number, value: number][]): Buffer => {
  const copy = Buffer.from(bytes);
  for (const [at, value] of changes) copy[at] = value;
  return copy;
};
const onFlight =
  (index: number, change: Tamper): Tamper =>
  (bytes, i) =>
    i === index ? change(bytes, i) : bytes;

describe('the policies of both ends', () => {
  const OUTCOMES: Record<string, { mode?: 0 | 1; retry?: boolean }> = {
    'required required': { mode: 1 },
    'required preferred': { mode: 1 },
    'required off': {},
    'preferred required': { mode: 1 },
    'preferred preferred': { mode: 1 },
    'preferred off': { mode: 0, retry: true },
    'off required': {},
    'off preferred': { mode: 0 },
    'off off': { mode: 0 },
  };
  const cases = POLICIES.flatMap((left) => POLICIES.map((right) => [left, right] as const));

  it.each(cases)('initiator %s, responder %s', (left, right) => {
    const { mode, retry = false } = OUTCOMES[`${left} ${right}`] as { mode?: 0 | 1; retry?: boolean };
    const run = () => shake(initiator(left), responder(right));
    if (mode === undefined) {
      expect(codeOf(run)).toBe('mode-refused');
      return;
    }
    const done = run();
    expect([done.initiator?.mode.id, done.responder?.mode.id]).toEqual([mode, mode]);
    expect(done.responder?.session.id).toBe(done.initiator?.session.id);
    expect(done.flights).toHaveLength(retry ? 5 : 3);
    const offered = { required: '0002', preferred: '0003', off: '0001' }[left];
    const first = left === 'off' ? '00' : '01';
    expect(helloOf(done.flights[0])).toBe(`48424b3101${first}${offered}00000000`);
    if (!retry) return;
    expect(done.flights[1]?.toString('hex')).toBe(RETRY_TO_0);
    expect(helloOf(done.flights[2])).toBe('48424b310100000300000000');
  });

  it('a handshake goes through RETRY byte by byte', () => {
    const done = shake(initiator('preferred'), responder('off'), { pieces: 1 });
    expect(done.responder?.session.id).toBe(done.initiator?.session.id);
    expect(done.flights).toHaveLength(5);
  });

  it('the noble provider’s ML-KEM understands that of the native one', async () => {
    const noble = await loadCryptoProvider('noble', { postQuantum: true });
    const staticKey = noble.generateX25519();
    const left = shake(pair.initiator({ crypto: noble, staticKey }), pair.responder());
    const right = shake(pair.initiator(), pair.responder({ crypto: noble, staticKey }));
    for (const done of [left, right]) {
      expect(done.initiator?.mode).toBe(XXHFS);
      expect(done.responder?.session.id).toBe(done.initiator?.session.id);
    }
  });
});

describe('RETRY', () => {
  it('leads to mode 1 whoever offers it but begins with mode 0, where mode 1 is required', () => {
    const done = shake(pair.initiator({ modes: [XX, XXHFS] }), responder('required'));
    expect(done.responder?.mode).toBe(XXHFS);
    expect(done.flights[1]?.toString('hex')).toBe('02000101');
  });

  it('comes at most once, to a mode that was offered and not just tried, and never to mode 2', () => {
    for (const mode of [1, 2, 3, 16, 255]) {
      expect(codeOf(() => started('preferred').receive(retryFrame(mode)))).toBe('bad-retry');
    }
    const twice = started('preferred');
    twice.receive(retryFrame(0));
    expect(codeOf(() => twice.receive(retryFrame(1)))).toBe('bad-retry');
    expect(codeOf(() => started('required').receive(retryFrame(0)))).toBe('bad-retry');
    expect(codeOf(() => started('off').receive(retryFrame(1)))).toBe('bad-retry');
  });

  it('is answered with the mode that was asked for and the same offer', () => {
    for (const second of [encodeClientHello(1, 3), encodeClientHello(0, 1), encodeClientHello(0, 7)]) {
      const b = responder('off');
      expect(b.receive(initiator('preferred').start())?.send?.toString('hex')).toBe(RETRY_TO_0);
      const frame = encodeFrame(MESSAGE, Buffer.alloc(32, 9));
      expect(codeOf(() => b.receive(Buffer.concat([second, frame])))).toBe('bad-retry');
    }
  });

  it('is sent to whatever mode offers one that is allowed, message 1 unread, and to no one else', () => {
    for (const [mode, extra] of [
      [1, 0],
      [2, 16],
      [9, 0],
    ] as const) {
      const opening = (offered: number): Buffer =>
        Buffer.concat([
          encodeClientHello(mode, offered),
          Buffer.alloc(extra),
          encodeFrame(MESSAGE, Buffer.alloc(1216)),
        ]);
      const bit = 1 << mode;
      expect(
        responder('off')
          .receive(opening(bit | 1))
          ?.send?.toString('hex'),
      ).toBe(RETRY_TO_0);
      expect(codeOf(() => responder('off').receive(opening(bit)))).toBe('mode-refused');
      if (mode !== 1)
        expect(codeOf(() => responder('required').receive(opening(bit | 1)))).toBe('mode-refused');
    }
  });
});

describe('a downgrade', () => {
  it('by whoever strips mode 1 from the offer makes the handshake fail', () => {
    const attempt = (tamper: Tamper, right: PostQuantumPolicy = 'preferred') =>
      codeOf(() => shake(initiator('preferred'), responder(right), { tamper }));
    // Only the offer, or the mode with it: the responder answers in mode 0, and message 1 does not fit that.
    expect(attempt(onFlight(0, (bytes) => put(bytes, [OFFERED, 1])))).toBe('bad-hello');
    const asMode0 = (bytes: Buffer): Buffer => put(bytes, [MODE, 0], [OFFERED, 1]);
    expect(attempt(onFlight(0, asMode0))).toBe('unexpected-bytes');
    // With a message 1 that does fit, the initiator does not believe the answer.
    const fitting = (bytes: Buffer): Buffer =>
      Buffer.concat([
        asMode0(bytes).subarray(0, HELLO),
        encodeFrame(MESSAGE, bytes.subarray(HELLO + FRAME_HEADER, HELLO + FRAME_HEADER + 32)),
      ]);
    expect(attempt(onFlight(0, fitting))).toMatch(/^(decrypt-failed|message-too-short)$/);
    // Where nothing else would show it, that the offer was changed does.
    expect(attempt(onFlight(0, (bytes) => put(bytes, [OFFERED, 2])))).toBe('decrypt-failed');
    expect(attempt(onFlight(0, (bytes) => put(bytes, [OFFERED, 7])))).toBe('decrypt-failed');
    // Where the responder would have said RETRY anyway, what was offered is bound to what follows.
    const offerLess: Tamper = (bytes, i) => (i === 0 || i === 2 ? put(bytes, [OFFERED, 1]) : bytes);
    expect(attempt(offerLess, 'off')).toBe('bad-hello');
    const offerMore: Tamper = (bytes, i) => (i === 0 || i === 2 ? put(bytes, [OFFERED, 7]) : bytes);
    expect(attempt(offerMore, 'off')).toBe('decrypt-failed');
  });

  it('by a forged RETRY makes the handshake fail', () => {
    const a = started('preferred');
    const second = a.receive(retryFrame(0))?.send as Buffer;
    expect(helloOf(second)).toBe('48424b310100000300000000');
    const message2 = responder('preferred').receive(second)?.send as Buffer;
    expect(codeOf(() => a.receive(message2))).toBe('decrypt-failed');
  });

  it('by a RETRY that the responder is made to send makes the handshake fail', () => {
    // The first hello speaks of a mode that the responder does not know, and of mode 0 beside it.
    const provoke = (bytes: Buffer): Buffer => put(bytes, [MODE, 5], [OFFERED, (1 << 5) | 1]);
    const attempt = (tamper: Tamper) =>
      codeOf(() => shake(initiator('preferred'), responder('preferred'), { tamper }));
    expect(attempt(onFlight(0, provoke))).toBe('bad-retry');
    const both: Tamper = (bytes, i) => {
      if (i === 0) return provoke(bytes);
      return i === 2 ? put(bytes, [OFFERED, (1 << 5) | 1]) : bytes;
    };
    expect(attempt(both)).toBe('decrypt-failed');
    // With mode 1 still on offer the RETRY is to mode 1, which was just tried.
    expect(attempt(onFlight(0, (bytes) => put(bytes, [MODE, 5], [OFFERED, (1 << 5) | 3])))).toBe('bad-retry');
  });

  it('is not there for whoever requires mode 1, at either end', () => {
    for (const mode of [0, 1, 2]) {
      expect(codeOf(() => started('required').receive(retryFrame(mode)))).toBe('bad-retry');
    }
    const mode0 = Buffer.concat([encodeClientHello(0, 1), encodeFrame(MESSAGE, Buffer.alloc(32, 9))]);
    expect(codeOf(() => responder('required').receive(mode0))).toBe('mode-refused');
    // Even its own RETRY to mode 1 can not be answered in mode 0.
    const both = Buffer.concat([encodeClientHello(0, 3), encodeFrame(MESSAGE, Buffer.alloc(32, 9))]);
    const b = responder('required');
    expect(b.receive(both)?.send?.toString('hex')).toBe('02000101');
    expect(codeOf(() => b.receive(both))).toBe('bad-retry');
  });

  it('by any changed bit of either CLIENT_HELLO, frame header or the RETRY makes the handshake fail', () => {
    const HEADERS = HELLO + FRAME_HEADER;
    const found = new Set<string>();
    for (const [index, length] of [HEADERS, 4, HEADERS].entries()) {
      for (let bit = 0; bit < length * 8; bit++) {
        const at = bit >> 3;
        const tamper = onFlight(index, (bytes) => put(bytes, [at, (bytes[at] as number) ^ (1 << (bit & 7))]));
        const code = outcome(() => shake(initiator('preferred'), responder('off'), { tamper }));
        expect(code, `bit ${bit} of flight ${index}`).not.toBe('done');
        found.add(code);
      }
    }
    for (const code of ['bad-retry', 'bad-hello', 'unknown-version', 'bad-frame']) {
      expect(found).toContain(code);
    }
    expect(found).not.toContain('internal-error');
  });

  it('by a changed byte of either message 1 makes the handshake fail', () => {
    const from = HELLO + FRAME_HEADER;
    for (const [index, length, step] of [
      [0, 1216, 19],
      [2, 32, 1],
    ] as const) {
      for (let at = from; at < from + length; at += step) {
        const tamper = onFlight(index, (bytes) => put(bytes, [at, (bytes[at] as number) ^ 1]));
        const code = outcome(() => shake(initiator('preferred'), responder('off'), { tamper }));
        expect(code, `byte ${at} of flight ${index}`).toBe('decrypt-failed');
      }
    }
  });

  it('does not come of a failure: what is offered next is the same', () => {
    const failures: Array<(a: ReturnType<typeof started>) => unknown> = [
      (a) => a.receive(Buffer.from('0300020101', 'hex')),
      (a) => a.receive(retryFrame(2)),
      (a) => a.receive(encodeFrame(MESSAGE, Buffer.alloc(1300))),
      (a) => {
        const second = a.receive(retryFrame(0))?.send as Buffer;
        return a.receive(responder('off').receive(second)?.send as Buffer);
      },
    ];
    for (const fail of failures) {
      expect(codeOf(() => fail(started('preferred')))).not.toBe('nothing was thrown');
      expect(helloOf(initiator('preferred').start())).toBe('48424b310101000300000000');
    }
  });
});

/** The code of the failure; `waits` where a grown length makes a machine wait for its deadline. */
function outcome(run: () => ReturnType<typeof shake>): string {
  try {
    const { initiator: left, responder: right } = run();
    return left !== undefined || right !== undefined ? 'done' : 'waits';
  } catch (error) {
    expect(error).toBeInstanceOf(HandshakeError);
    return (error as HandshakeError).code;
  }
}
