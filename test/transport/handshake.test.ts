import { beforeAll, describe, expect, it } from 'vitest';
import { HandshakeState } from '../../src/noise/handshakestate.ts';
import { encodeClientHello } from '../../src/transport/clienthello.ts';
import { HandshakeError } from '../../src/transport/errors.ts';
import { encodeFrame, MESSAGE } from '../../src/transport/frame.ts';
import { proveIdentity } from '../../src/transport/identityproof.ts';
import { XX, XXHFS } from '../../src/transport/mode.ts';
import { prologue } from '../../src/transport/prologue.ts';
import { MAX_LENGTH } from '../../src/transport/record.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust } from '../harness/trust.ts';
import { codeOf, crypto, feed, makePair, shake } from './world.ts';

/** Of the long messages of mode 1 every byte would take too long: after so many at the start, some this far apart. */
const DENSE = 64;
const STRIDE = 23;

const flip = (bytes: Buffer, at: number, bit = 0x01): Buffer => {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ bit;
  return copy;
};

describe.each([XX, XXHFS])('mode $id', (mode) => {
  const hello = encodeClientHello(mode.id, 1 << mode.id);
  let pair: Awaited<ReturnType<typeof makePair>>;
  beforeAll(async () => {
    pair = await makePair([mode]);
  });

  describe('a handshake', () => {
    it('gives both ends the same session, each other’s identity and keys that fit', () => {
      const { initiator, responder } = shake(pair.initiator(), pair.responder());
      expect(initiator?.session.id).toMatch(
        /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      );
      expect(responder?.session.id).toBe(initiator?.session.id);
      expect(responder?.session.key.bytes.equals(initiator?.session.key.bytes as Buffer)).toBe(true);
      expect(initiator?.peer.spiffeId).toBe(pair.greeter.spiffeId);
      expect(responder?.peer.spiffeId).toBe(pair.web.spiffeId);
      const sealed = initiator?.send.encryptWithAd(Buffer.alloc(0), Buffer.from('hi')) as Buffer;
      expect(responder?.receive.decrypt(sealed).toString()).toBe('hi');
      const back = responder?.send.encryptWithAd(Buffer.alloc(0), Buffer.from('ho')) as Buffer;
      expect(initiator?.receive.decrypt(back).toString()).toBe('ho');
    });

    it('never founds the same session twice', () => {
      const ids = [1, 2, 3].map(() => shake(pair.initiator(), pair.responder()).initiator?.session.id);
      expect(new Set(ids).size).toBe(3);
    });

    it('works byte by byte, and acts on the last byte of a flight, not before', () => {
      const { initiator, responder } = shake(pair.initiator(), pair.responder(), { pieces: 1 });
      expect(responder?.session.id).toBe(initiator?.session.id);
    });

    it('has messages of the lengths that the mode says', async () => {
      // Ed25519, whose signatures all have the same length.
      const identity = await pair.trust.identity('web', { leafKey: 'ed25519' });
      const { flights } = shake(pair.initiator({ identity }), pair.responder());
      const announcement = { maxRecord: MAX_LENGTH, instance: undefined };
      const any = Buffer.alloc(32);
      const p2 = proveIdentity(crypto, 'responder', pair.greeter, any, any, {
        ...announcement,
        expectedPeer: undefined,
      }).length;
      const p3 = proveIdentity(crypto, 'initiator', identity, any, any, {
        ...announcement,
        expectedPeer: pair.greeter.spiffeId,
      }).length;
      const [m1, m2, m3] = mode.id === 0 ? [32, 96, 64] : [1216, 1200, 64];
      expect(flights.map(({ length }) => length)).toEqual([12 + 3 + m1, 3 + m2 + p2, 3 + m3 + p3]);
      expect(mode.overhead).toEqual([m1, m2, m3]);
      expect(flights[0]?.subarray(0, 12)).toEqual(hello);
    });

    it('hands over the bytes after message 3 as the first records', () => {
      const a = pair.initiator();
      const b = pair.responder();
      const step = feed(b, a.start(), 999) as { send: Buffer };
      const message3 = a.receive(step.send)?.send as Buffer;
      expect(b.receive(Buffer.concat([message3, Buffer.from('records')]))?.rest?.toString()).toBe('records');
    });

    it('carries what each end accepts and is', () => {
      const instance = Buffer.from('12345678');
      const done = shake(pair.initiator({ maxRecord: 4096, instance }), pair.responder({ maxRecord: 2048 }));
      expect(done.responder?.peerMaxRecord).toBe(4096);
      expect(done.responder?.peerInstance).toBe(instance.toString('hex'));
      expect(done.initiator?.peerMaxRecord).toBe(2048);
      expect(done.initiator?.peerInstance).toBeUndefined();
    });
  });

  describe('every byte of every handshake message counts', () => {
    it('a flipped bit anywhere ends the handshake', async () => {
      // Ed25519, because ECDSA signatures and with them the flights vary in length.
      const identity = await pair.trust.identity('web', { leafKey: 'ed25519' });
      const { flights } = shake(pair.initiator({ identity }), pair.responder());
      const found = new Set<string>();
      for (const [index, flight] of flights.entries()) {
        for (let at = 0; at < flight.length; at += mode.id === 0 || at < DENSE ? 1 : STRIDE) {
          const tamper = (bytes: Buffer, i: number): Buffer =>
            i === index && at < bytes.length ? flip(bytes, at) : bytes;
          let code = 'nothing was thrown';
          try {
            const done = shake(pair.initiator({ identity }), pair.responder(), { tamper });
            // A length that grew: the machine waits for bytes that never come, and the driver's deadline ends it.
            if (done.initiator === undefined || done.responder === undefined) code = 'waits';
          } catch (error) {
            expect(error).toBeInstanceOf(HandshakeError);
            code = (error as HandshakeError).code;
          }
          expect(code, `byte ${at} of flight ${index}`).not.toBe('nothing was thrown');
          found.add(code);
        }
      }
      expect(found).toContain('decrypt-failed');
      expect(found).not.toContain('internal-error');
    });

    it('a truncated flight is waited for, one byte more is refused', () => {
      for (const index of [0, 1, 2]) {
        const cut = shake(pair.initiator(), pair.responder(), {
          tamper: (bytes, i) => (i === index ? bytes.subarray(0, -1) : bytes),
        });
        expect(cut.responder).toBeUndefined();
        const more = (): unknown =>
          shake(pair.initiator(), pair.responder(), {
            tamper: (bytes, i) => (i === index ? Buffer.concat([bytes, Buffer.of(0)]) : bytes),
          });
        if (index < 2) expect(codeOf(more)).toBe('unexpected-bytes');
      }
    });

    it('a message inside a frame of another length is refused', () => {
      const reframe = (bytes: Buffer, at: number, change: number): Buffer => {
        const message = bytes.subarray(at + 3);
        const body =
          change < 0 ? message.subarray(0, change) : Buffer.concat([message, Buffer.alloc(change)]);
        return Buffer.concat([bytes.subarray(0, at), encodeFrame(MESSAGE, body)]);
      };
      const attempt = (index: number, change: number): string =>
        codeOf(() =>
          shake(pair.initiator(), pair.responder(), {
            tamper: (bytes, i) => (i === index ? reframe(bytes, index === 0 ? 12 : 0, change) : bytes),
          }),
        );
      expect(attempt(0, -1)).toBe('message-too-short');
      expect(attempt(0, 1)).toBe('unexpected-bytes');
      for (const change of [-1, 1]) {
        expect(attempt(1, change)).toBe('decrypt-failed');
        expect(attempt(2, change)).toBe('decrypt-failed');
      }
      expect(attempt(1, -5000)).toBe('message-too-short');
      expect(attempt(2, -5000)).toBe('message-too-short');
    });

    it('oversize messages are refused by their header', () => {
      const a = pair.initiator();
      a.start();
      expect(codeOf(() => a.receive(Buffer.of(MESSAGE, 0x40, 0x01)))).toBe('message-too-large');
      expect(
        codeOf(() => pair.responder().receive(Buffer.concat([hello, Buffer.of(MESSAGE, 0x06, 0x01)]))),
      ).toBe('message-too-large');
      expect(
        pair.responder().receive(Buffer.concat([hello, Buffer.of(MESSAGE, 0x06, 0x00)])),
      ).toBeUndefined();
    });

    it('a machine that has failed stays dead', () => {
      const a = pair.initiator();
      const b = pair.responder();
      const good = b.receive(a.start())?.send as Buffer;
      expect(codeOf(() => a.receive(flip(good, good.length - 1)))).toBe('decrypt-failed');
      expect(codeOf(() => a.receive(good))).not.toBe('nothing was thrown');
    });
  });

  describe('replay and reflection', () => {
    it('our own message 1 as an answer is refused', () => {
      const a = pair.initiator();
      const opening = a.start();
      expect(codeOf(() => a.receive(opening))).toBe('unexpected-frame');
      const b = pair.initiator();
      expect(codeOf(() => b.receive(b.start().subarray(12)))).toBe('reflected-key');
    });

    it('a peer with our own static key is refused by both ends', () => {
      const staticKey = crypto.generateX25519();
      expect(codeOf(() => shake(pair.initiator({ staticKey }), pair.responder({ staticKey })))).toBe(
        'reflected-key',
      );
    });

    it('a responder refuses to be answered with its own message 2', () => {
      const b = pair.responder();
      const message2 = b.receive(pair.initiator().start())?.send as Buffer;
      expect(codeOf(() => b.receive(message2))).not.toBe('nothing was thrown');
    });

    it('messages of another handshake do not fit', () => {
      const recorded = shake(pair.initiator(), pair.responder()).flights;
      for (const index of [1, 2]) {
        const replay = (bytes: Buffer, i: number): Buffer =>
          i === index ? (recorded[index] as Buffer) : bytes;
        expect(codeOf(() => shake(pair.initiator(), pair.responder(), { tamper: replay }))).toBe(
          'decrypt-failed',
        );
      }
    });

    it('a recorded opening gets a message 2 and no further', () => {
      const recorded = shake(pair.initiator(), pair.responder()).flights;
      const b = pair.responder();
      expect(b.receive(recorded[0] as Buffer)?.established).toBeUndefined();
      expect(codeOf(() => b.receive(recorded[2] as Buffer))).toBe('decrypt-failed');
    });

    it('low-order ephemeral keys are refused', () => {
      const lowOrder = [
        Buffer.alloc(32),
        Buffer.concat([Buffer.of(1), Buffer.alloc(31)]),
        Buffer.from('e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800', 'hex'),
        Buffer.from('ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f', 'hex'),
      ];
      const e1 = Buffer.alloc(mode.id === 0 ? 0 : 1184);
      for (const key of lowOrder) {
        const opening = Buffer.concat([hello, encodeFrame(MESSAGE, Buffer.concat([key, e1]))]);
        expect(codeOf(() => pair.responder().receive(opening))).toBe('weak-key');
        const substitute = (bytes: Buffer, i: number): Buffer =>
          i === 1 ? Buffer.concat([bytes.subarray(0, 3), key, bytes.subarray(35)]) : bytes;
        expect(codeOf(() => shake(pair.initiator(), pair.responder(), { tamper: substitute }))).toBe(
          'weak-key',
        );
      }
    });
  });

  describe('who the peer is', () => {
    it('an initiator that finds another service sends no message 3', async () => {
      const other = await pair.trust.identity('other');
      const b = pair.responder({ identity: other });
      const a = pair.initiator();
      const message2 = b.receive(a.start())?.send as Buffer;
      try {
        a.receive(message2);
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({ code: 'wrong-peer', peer: other.spiffeId, alert: undefined });
      }
    });

    it('a responder refuses whoever wants someone else', () => {
      const options = {
        crypto,
        identity: pair.web,
        expectedPeer: 'spiffe://shop.example/ns/default/sa/other',
      };
      const { responder, message3 } = forgedInitiator((h, staticKey) =>
        proveIdentity(crypto, 'initiator', options.identity, h, staticKey, {
          expectedPeer: options.expectedPeer,
          maxRecord: 65535,
          instance: undefined,
        }),
      );
      try {
        responder.receive(message3);
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({ code: 'misdirected', peer: pair.web.spiffeId });
      }
    });

    it('a foreign trust domain is refused by both ends', async () => {
      const foreign = await makeTrust({ trustDomain: 'evil.example', clock: new FakeClock() });
      const same = await makeTrust({ clock: new FakeClock() });
      const [evil, twin] = await Promise.all([foreign.identity('web'), same.identity('web')]);
      for (const identity of [evil, twin]) {
        expect(codeOf(() => shake(pair.initiator({ identity }), pair.responder()))).toBe('untrusted-peer');
      }
      const greeter = await same.identity('greeter');
      expect(codeOf(() => shake(pair.initiator(), pair.responder({ identity: greeter })))).toBe(
        'untrusted-peer',
      );
    });

    it('an expired certificate is refused, by its owner first', async () => {
      const short = await pair.trust.identity('greeter', { ttlMs: 60_000 });
      const clock = new FakeClock();
      clock.advance(120_000);
      const now = (): number => clock.now();
      try {
        shake(pair.initiator({ now }), pair.responder({ identity: short }));
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({ code: 'untrusted-peer', cause: { code: 'expired' } });
      }
      expect(codeOf(() => pair.responder({ identity: short, now }))).toBe('local-identity-expired');
      expect(codeOf(() => pair.initiator({ identity: short, now }))).toBe('local-identity-expired');
    });

    it('a certificate is worth nothing without its key', () => {
      const thief = {
        ...pair.web,
        chain: pair.greeter.chain,
        signatureAlgorithm: pair.greeter.signatureAlgorithm,
      };
      const identity = { ...thief, sign: (data: Uint8Array) => pair.web.sign(data) };
      expect(codeOf(() => shake(pair.initiator({ identity }), pair.responder()))).toBe('bad-signature');
    });

    it('the signature algorithm must be that of the leaf’s key', () => {
      const signatureAlgorithm = pair.web.signatureAlgorithm === 0x0403 ? 0x0807 : 0x0403;
      const identity = {
        ...pair.web,
        signatureAlgorithm,
        sign: (data: Uint8Array) => pair.web.sign(data),
      } as const;
      expect(codeOf(() => shake(pair.initiator({ identity }), pair.responder()))).toBe('bad-signature');
    });

    it('the signature is bound to role, transcript, static key and leaf', () => {
      const announcement = { expectedPeer: pair.greeter.spiffeId, maxRecord: 65535, instance: undefined };
      const attempts: Array<(h: Buffer, key: Buffer) => Buffer> = [
        (h, key) => proveIdentity(crypto, 'responder', pair.web, h, key, announcement),
        (h, key) => proveIdentity(crypto, 'initiator', pair.web, flip(h, 0), key, announcement),
        (h, key) => proveIdentity(crypto, 'initiator', pair.web, h, flip(key, 31), announcement),
        (h, key) => {
          const identity = {
            ...pair.web,
            chain: pair.web.chain,
            sign: (data: Uint8Array) => pair.web.sign(flip(Buffer.from(data), data.length - 1)),
          };
          return proveIdentity(crypto, 'initiator', identity, h, key, announcement);
        },
      ];
      for (const attempt of attempts) {
        const { responder, message3 } = forgedInitiator(attempt);
        expect(codeOf(() => responder.receive(message3))).toBe('bad-signature');
      }
      const { responder, message3 } = forgedInitiator((h, key) =>
        proveIdentity(crypto, 'initiator', pair.web, h, key, announcement),
      );
      expect(responder.receive(message3)?.established?.peer.spiffeId).toBe(pair.web.spiffeId);
    });

    it('a peer without a certificate is refused', () => {
      const { responder, message3 } = forgedInitiator(() => Buffer.alloc(0));
      expect(codeOf(() => responder.receive(message3))).toBe('no-certificate');
    });
  });

  describe('alerts and load', () => {
    it('an alert ends the initiator’s attempt and says what it claims', () => {
      const a = pair.initiator();
      a.start();
      expect(() => a.receive(Buffer.from('0300020105', 'hex'))).toThrow(/highest is 5 \(not authenticated\)/);
    });

    it('an overloaded responder refuses before it computes any key', () => {
      const b = pair.responder({ overloaded: () => true });
      expect(codeOf(() => b.receive(pair.initiator().start()))).toBe('overloaded');
    });
  });

  /** An initiator of which the test writes the payload of message 3. */
  function forgedInitiator(payload: (h: Buffer, staticKey: Buffer) => Buffer): {
    responder: ReturnType<typeof pair.responder>;
    message3: Buffer;
  } {
    const s = crypto.generateX25519();
    const noise = new HandshakeState({
      crypto,
      protocol: mode.protocol,
      initiator: true,
      prologue: prologue(mode.protocol, hello),
      s,
    });
    const responder = pair.responder();
    const opening = Buffer.concat([hello, encodeFrame(MESSAGE, noise.writeMessage())]);
    const message2 = responder.receive(opening)?.send as Buffer;
    noise.readMessage(message2.subarray(3));
    const message3 = noise.writeMessage((h) => payload(h, s.publicKey));
    return { responder, message3: encodeFrame(MESSAGE, message3) };
  }
});
