import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HandshakeState } from '../../src/noise/handshakestate.ts';
import { PATTERNS } from '../../src/noise/patterns.ts';
import { crypto, Parties, PROLOGUE, protocolOf } from './fixture.ts';

const EMPTY = Buffer.alloc(0);
const error = (code: string, side?: string) =>
  expect.objectContaining({ name: 'NoiseError', code, ...(side && { side }) });

/** Nothing works on a dead handshake, and it knows nothing any more. */
function expectDead(handshake: HandshakeState): void {
  const dead = error('handshake-dead', 'local');
  expect(handshake.dead).toBe(true);
  expect(handshake.finished).toBe(false);
  expect(handshake.remoteStatic).toBeUndefined();
  expect(handshake.remoteEphemeral).toBeUndefined();
  expect(() => handshake.writeMessage()).toThrow(dead);
  expect(() => handshake.readMessage(EMPTY)).toThrow(dead);
  expect(() => handshake.split()).toThrow(dead);
  expect(() => handshake.handshakeHash).toThrow(dead);
}

/** Reads `message`; either it fails and the handshake is dead, or it and all that follow can no longer succeed. */
function expectRefusedSoon(reader: HandshakeState, writer: HandshakeState, message: Buffer): void {
  let sides = [reader, writer] as const;
  let next = message;
  for (;;) {
    try {
      sides[0].readMessage(next);
    } catch (cause) {
      expect(cause).toEqual(error((cause as { code: string }).code, 'remote'));
      expectDead(sides[0]);
      return;
    }
    if (sides[0].finished) break;
    next = sides[0].writeMessage(EMPTY);
    sides = [sides[1], sides[0]];
  }
  const [one, two] = [reader.split(), writer.split()];
  expect(one.handshakeHash).not.toEqual(two.handshakeHash);
  expect(one.exporter.bytes).not.toEqual(two.exporter.bytes);
}

const CASES = ['XX', 'NNpsk0', 'IK', 'KK', 'NXpsk0+psk2', 'Xpsk1', 'XXpsk3'];

describe.each(CASES)('%s', (pattern) => {
  const parties = new Parties(pattern);
  const numbers = Array.from({ length: parties.messages }, (_, index) => index);

  it.each(numbers)('message %i cut at any length is refused, and the handshake is dead', (done) => {
    const whole = parties.after(done)[0].writeMessage(Buffer.from('payload')).length;
    for (let length = 0; length < whole; length++) {
      const [writer, reader] = parties.after(done);
      const message = writer.writeMessage(Buffer.from('payload'));
      expectRefusedSoon(reader, writer, message.subarray(0, length));
    }
  });

  it.each(numbers)('message %i with a bit flipped in any byte never gives two agreeing sides', (done) => {
    const whole = parties.after(done)[0].writeMessage(Buffer.from('payload')).length;
    for (let byte = 0; byte < whole; byte++) {
      const [writer, reader] = parties.after(done);
      const message = writer.writeMessage(Buffer.from('payload'));
      message[byte]! ^= 1 << (byte & 7);
      expectRefusedSoon(reader, writer, message);
    }
  });

  it('is refused with any other prologue', () => {
    const { protocol, psks, initiatorStatic: s, responderStatic } = parties;
    const rs = PATTERNS.get(pattern.replace(/psk.*/, ''))!.responderKnown
      ? { rs: responderStatic.publicKey }
      : {};
    const writer = new HandshakeState({
      crypto,
      protocol,
      initiator: true,
      prologue: Buffer.from('other'),
      s,
      psks,
      ...rs,
    });
    expectRefusedSoon(parties.responder(), writer, writer.writeMessage(EMPTY));
  });
});

describe('XX', () => {
  const parties = new Parties('XX');

  it('has the message sizes of HBK/1 mode 0: 32, 96+P and 64+P', () => {
    const [initiator, responder] = parties.after(0);
    const first = initiator.writeMessage();
    responder.readMessage(first);
    const second = responder.writeMessage(Buffer.alloc(1000));
    initiator.readMessage(second);
    const third = initiator.writeMessage(Buffer.alloc(2000));
    expect([first.length, second.length, third.length]).toEqual([32, 1096, 2064]);
  });

  it('tells each side the other one, its own static key and the same hash', () => {
    const [responder, initiator] = parties.after(3);
    expect(initiator.remoteStatic).toEqual(parties.responderStatic.publicKey);
    expect(responder.remoteStatic).toEqual(parties.initiatorStatic.publicKey);
    expect(initiator.localStatic).toEqual(parties.initiatorStatic.publicKey);
    expect(initiator.remoteEphemeral).toHaveLength(32);
    expect(initiator.remoteEphemeral).not.toEqual(responder.remoteEphemeral);
    expect(initiator.handshakeHash).toEqual(responder.handshakeHash);
  });

  it('gives the payload function h, which the reader gets as payloadHash, when the remote is known', () => {
    const [responder, initiator] = parties.after(1);
    let seen: Buffer | undefined;
    const message = responder.writeMessage((h) => {
      seen = h;
      return Buffer.from('signed');
    });
    const { payload, payloadHash } = initiator.readMessage(message);
    expect(payload.toString()).toBe('signed');
    expect(payloadHash).toEqual(seen);
    expect(payloadHash).not.toEqual(initiator.handshakeHash);
  });

  it('hands out copies of h, so that nobody can change the transcript', () => {
    const [responder, initiator] = parties.after(1);
    responder.handshakeHash.fill(0);
    const message = responder.writeMessage((h) => h.fill(0));
    initiator.readMessage(message).payloadHash.fill(0);
    expect(initiator.handshakeHash).toEqual(responder.handshakeHash);
  });

  it('is dead when the payload function throws, and the error passes through', () => {
    const [responder] = parties.after(1);
    const cause = new Error('no key to sign with');
    expect(() =>
      responder.writeMessage(() => {
        throw cause;
      }),
    ).toThrow(cause);
    expectDead(responder);
  });

  it('refuses our own message sent back', () => {
    const initiator = parties.initiator();
    const message = initiator.writeMessage();
    const reflected = Buffer.concat([message, Buffer.alloc(64)]);
    expect(() => initiator.readMessage(reflected)).toThrow(error('own-public-key', 'remote'));
    expectDead(initiator);
  });

  it('refuses a remote that has our own static key', () => {
    const s = parties.initiatorStatic;
    const { protocol } = parties;
    const twin = new HandshakeState({ crypto, protocol, initiator: false, prologue: PROLOGUE, s });
    const initiator = parties.initiator();
    twin.readMessage(initiator.writeMessage());
    const second = twin.writeMessage();
    expect(() => initiator.readMessage(second)).toThrow(error('own-public-key', 'remote'));
    expectDead(initiator);
  });

  it('refuses a remote ephemeral key that is our static one', () => {
    const responder = parties.responder();
    expect(() => responder.readMessage(parties.responderStatic.publicKey)).toThrow(error('own-public-key'));
    expectDead(responder);
  });

  it('refuses a low-order ephemeral key', () => {
    for (const u of [Buffer.alloc(32), Buffer.concat([Buffer.of(1), Buffer.alloc(31)])]) {
      const responder = parties.responder();
      responder.readMessage(u);
      expect(() => responder.writeMessage()).toThrow(error('weak-public-key', 'remote'));
      expectDead(responder);

      const initiator = parties.initiator();
      initiator.writeMessage();
      expect(() => initiator.readMessage(Buffer.concat([u, Buffer.alloc(64)]))).toThrow(
        error('weak-public-key'),
      );
      expectDead(initiator);
    }
  });

  it('takes and gives messages up to 65,535 bytes, and no longer ones', () => {
    const room = 65_535 - 96;
    const [responder, initiator] = parties.after(1);
    const message = responder.writeMessage(Buffer.alloc(room));
    expect(message).toHaveLength(65_535);
    expect(initiator.readMessage(message).payload).toHaveLength(room);

    const [writer, reader] = parties.after(1);
    expect(() => writer.writeMessage(Buffer.alloc(room + 1))).toThrow(error('message-too-long', 'local'));
    expectDead(writer);
    expect(() => reader.readMessage(Buffer.alloc(65_536))).toThrow(error('message-too-long', 'remote'));
    expectDead(reader);
  });

  it('a call out of turn changes nothing', () => {
    const [initiator, responder] = parties.after(0);
    const outOfTurn = error('out-of-turn', 'local');
    expect(() => responder.writeMessage()).toThrow(outOfTurn);
    expect(() => initiator.readMessage(Buffer.alloc(32))).toThrow(outOfTurn);
    expect(() => initiator.split()).toThrow(error('not-finished', 'local'));
    responder.readMessage(initiator.writeMessage());
    expect(() => initiator.writeMessage()).toThrow(outOfTurn);
    initiator.readMessage(responder.writeMessage());
    responder.readMessage(initiator.writeMessage());
    for (const side of [initiator, responder]) {
      expect(side.finished).toBe(true);
      expect(() => side.writeMessage()).toThrow(outOfTurn);
      expect(() => side.readMessage(EMPTY)).toThrow(outOfTurn);
    }
    expect(initiator.split().handshakeHash).toEqual(responder.split().handshakeHash);
  });

  it('splits once', () => {
    const [side] = parties.after(3);
    side.split();
    expect(() => side.split()).toThrow(error('not-finished'));
    expect(side.remoteStatic).toEqual(parties.initiatorStatic.publicKey);
  });

  it('is dead after wipe(), but what it had yielded is not', () => {
    const [one, two] = parties.after(3);
    const [a, b] = [one.split(), two.split()];
    one.wipe();
    two.wipe();
    expectDead(one);
    expect(b.receive.decrypt(a.send.encryptWithAd(EMPTY, PROLOGUE))).toEqual(PROLOGUE);
    expect(parties.initiatorStatic.privateKey).toBeDefined();
  });

  it('two handshakes of the same parties share no hash, key or exporter', () => {
    const [[a], [b]] = [parties.after(3), parties.after(3)];
    const [x, y] = [a.split(), b.split()];
    expect(x.handshakeHash).not.toEqual(y.handshakeHash);
    expect(x.exporter.bytes).not.toEqual(y.exporter.bytes);
    expect(x.send.encryptWithAd(EMPTY, EMPTY)).not.toEqual(y.send.encryptWithAd(EMPTY, EMPTY));
  });

  it('random bytes as any message never throw anything but a NoiseError', () => {
    fc.assert(
      fc.property(fc.nat(2), fc.uint8Array({ maxLength: 200 }), (done, bytes) => {
        const [, reader] = parties.after(done);
        try {
          reader.readMessage(bytes);
          // Only message 1 authenticates nothing.
          expect(done).toBe(0);
        } catch (cause) {
          expect(cause).toEqual(error((cause as { code: string }).code, 'remote'));
          expectDead(reader);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('one-way patterns', () => {
  it.each(['N', 'K', 'X'])('%s: only the initiator sends afterwards', (pattern) => {
    const [, initiator] = new Parties(pattern).after(1);
    const { send, receive } = initiator.split();
    expect(send.encryptWithAd(EMPTY, EMPTY)).toHaveLength(16);
    expect(() => receive.decrypt(Buffer.alloc(16))).toThrow(error('cipher-wiped'));
  });
});

describe('keys that do not fit the pattern', () => {
  const s = crypto.generateX25519();
  const rs = crypto.generateX25519().publicKey;
  const psk = Buffer.alloc(32, 1);
  const make = (pattern: string, initiator: boolean, keys: object) => () =>
    new HandshakeState({ crypto, protocol: protocolOf(pattern), initiator, prologue: EMPTY, ...keys });

  it.each<[string, boolean, object, string]>([
    ['XX', true, {}, 'missing-key'],
    ['XX', false, {}, 'missing-key'],
    ['NK', true, {}, 'missing-key'],
    ['NK', false, {}, 'missing-key'],
    ['KN', true, {}, 'missing-key'],
    ['KN', false, {}, 'missing-key'],
    ['NK', true, { rs: rs.subarray(1) }, 'missing-key'],
    ['XX', true, { s, rs }, 'unexpected-key'],
    ['NNpsk0', true, {}, 'missing-key'],
    ['NNpsk0', true, { psks: [psk.subarray(1)] }, 'missing-key'],
    ['NNpsk0', true, { psks: [psk, psk] }, 'unexpected-key'],
    ['NN', true, { psks: [psk] }, 'unexpected-key'],
    ['IK', true, { s, rs: s.publicKey }, 'own-public-key'],
  ])('%s, initiator %s, %o: %s', (pattern, initiator, keys, code) => {
    expect(make(pattern, initiator, keys)).toThrow(error(code));
  });

  it('a wrong PSK is refused on the first message', () => {
    const protocol = protocolOf('NNpsk0');
    const side = (initiator: boolean, psks: Buffer[]) =>
      new HandshakeState({ crypto, protocol, initiator, prologue: EMPTY, psks });
    const message = side(true, [psk]).writeMessage();
    expect(message).toHaveLength(48);
    const responder = side(false, [Buffer.alloc(32, 2)]);
    expect(() => responder.readMessage(message)).toThrow(error('authentication-failed', 'remote'));
    expectDead(responder);
  });

  it('PSKs are copied, and the copies alone are wiped', () => {
    const protocol = protocolOf('NNpsk0');
    const one = new HandshakeState({ crypto, protocol, initiator: true, prologue: EMPTY, psks: [psk] });
    one.writeMessage();
    one.wipe();
    expect(psk).toEqual(Buffer.alloc(32, 1));
  });
});
