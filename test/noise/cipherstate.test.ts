import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CipherState } from '../../src/noise/cipherstate.ts';
import { crypto } from './fixture.ts';

const EMPTY = Buffer.alloc(0);
const KEY = Buffer.alloc(32, 7);
const error = (code: string, side = 'local') => expect.objectContaining({ name: 'NoiseError', code, side });

/** The nonce of section 12.4, spelt out as the twin of the reused buffer. */
function nonceOf(n: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(BigInt(n), 4);
  return nonce;
}

it('the nonce is 32 zero bits and the 64-bit big-endian counter, also beyond 2^32', () => {
  for (const first of [0, 1, 255, 2 ** 32 - 2, 2 ** 32, 2 ** 40 + 3, 2 ** 53 - 4]) {
    const state = new CipherState(crypto, KEY, first);
    const out = Buffer.alloc(20);
    for (let n = first; n < first + 3; n++) {
      expect(state.n).toBe(n);
      state.encryptInto(Buffer.from('data'), out, 0);
      expect(out).toEqual(crypto.aes256gcm(KEY).seal(nonceOf(n), EMPTY, Buffer.from('data')));
    }
  }
});

it('encryptInto, encryptWithAd, decrypt and decryptWithAd share one counter and agree', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.uint8Array(), fc.uint8Array())), (messages) => {
      const [send, receive] = [new CipherState(crypto, KEY), new CipherState(crypto, KEY)];
      for (const [into, ad, plaintext] of messages) {
        if (into) {
          const out = Buffer.alloc(plaintext.length + 19);
          expect(send.encryptInto(plaintext, out, 3)).toBe(out.length);
          expect(receive.decrypt(out.subarray(3))).toEqual(Buffer.from(plaintext));
        } else {
          expect(receive.decryptWithAd(ad, send.encryptWithAd(ad, plaintext))).toEqual(
            Buffer.from(plaintext),
          );
        }
      }
      expect([send.n, receive.n]).toEqual([messages.length, messages.length]);
    }),
    { numRuns: 50 },
  );
});

it('encrypts in place', () => {
  const out = Buffer.alloc(3 + 100 + 16, 5);
  new CipherState(crypto, KEY).encryptInto(out.subarray(3, 103), out, 3);
  expect(new CipherState(crypto, KEY).decrypt(out.subarray(3))).toEqual(Buffer.alloc(100, 5));
});

it('a message that does not authenticate leaves the counter where it was', () => {
  const [send, receive] = [new CipherState(crypto, KEY), new CipherState(crypto, KEY)];
  const message = send.encryptWithAd(EMPTY, Buffer.from('data'));
  const failed = error('authentication-failed', 'remote');
  for (const bad of [EMPTY, Buffer.alloc(15), message.subarray(1), Buffer.concat([message, Buffer.of(0)])]) {
    expect(() => receive.decrypt(bad)).toThrow(failed);
  }
  expect(receive.n).toBe(0);
  expect(receive.decrypt(message).toString()).toBe('data');
  expect(() => receive.decrypt(message), 'repeated').toThrow(failed);
  const [, third] = [send.encryptWithAd(EMPTY, EMPTY), send.encryptWithAd(EMPTY, EMPTY)];
  expect(() => receive.decrypt(third), 'one dropped').toThrow(failed);
});

it('a message that could not be written still uses up its nonce: no nonce is used twice', () => {
  const state = new CipherState(crypto, KEY);
  expect(() => state.encryptInto(Buffer.alloc(10), Buffer.alloc(25), 0)).toThrow(
    expect.objectContaining({ name: 'CryptoError', code: 'invalid-length' }),
  );
  expect(state.n).toBe(1);
});

it('messages have at most 65,535 bytes', () => {
  const [send, receive] = [new CipherState(crypto, KEY), new CipherState(crypto, KEY)];
  const out = Buffer.alloc(70_000);
  expect(() => send.encryptWithAd(EMPTY, Buffer.alloc(65_520))).toThrow(error('message-too-long'));
  expect(() => send.encryptInto(Buffer.alloc(65_520), out, 0)).toThrow(error('message-too-long'));
  expect(() => receive.decrypt(Buffer.alloc(65_536))).toThrow(error('message-too-long', 'remote'));
  expect(send.n).toBe(0);
  const end = send.encryptInto(Buffer.alloc(65_519), out, 0);
  expect(end).toBe(65_535);
  expect(receive.decrypt(out.subarray(0, end))).toHaveLength(65_519);
});

it('fails closed when its nonces are exhausted, and a rekey does not help', () => {
  const state = new CipherState(crypto, KEY, Number.MAX_SAFE_INTEGER - 1);
  state.encryptWithAd(EMPTY, EMPTY);
  for (let round = 0; round < 2; round++) {
    expect(() => state.encryptWithAd(EMPTY, EMPTY)).toThrow(error('nonce-exhausted'));
    expect(() => state.encryptInto(EMPTY, Buffer.alloc(16), 0)).toThrow(error('nonce-exhausted'));
    expect(() => state.decrypt(Buffer.alloc(16))).toThrow(error('nonce-exhausted'));
    state.rekey();
  }
});

it('rekey encrypts 32 zeros under nonce 2^64-1, takes the first 32 bytes and keeps the counter', () => {
  const [send, receive] = [new CipherState(crypto, KEY), new CipherState(crypto, KEY)];
  receive.decrypt(send.encryptWithAd(EMPTY, EMPTY));
  const stale = new CipherState(crypto, KEY, 1);
  send.rekey();
  receive.rekey();
  expect([send.n, receive.n]).toEqual([1, 1]);

  const reserved = Buffer.from('00000000ffffffffffffffff', 'hex');
  const key = crypto.aes256gcm(KEY).seal(reserved, EMPTY, Buffer.alloc(32)).subarray(0, 32);
  const message = send.encryptWithAd(EMPTY, Buffer.from('data'));
  expect(message).toEqual(crypto.aes256gcm(key).seal(nonceOf(1), EMPTY, Buffer.from('data')));
  expect(() => stale.decrypt(message)).toThrow(error('authentication-failed', 'remote'));
  expect(receive.decrypt(message).toString()).toBe('data');
});

it('a wiped cipher state refuses everything', () => {
  const state = new CipherState(crypto, KEY);
  expect(state.wiped).toBe(false);
  state.wipe();
  state.wipe();
  expect(state.wiped).toBe(true);
  const wiped = error('cipher-wiped');
  expect(() => state.encryptWithAd(EMPTY, EMPTY)).toThrow(wiped);
  expect(() => state.encryptInto(EMPTY, Buffer.alloc(16), 0)).toThrow(wiped);
  expect(() => state.decrypt(Buffer.alloc(16))).toThrow(wiped);
  expect(() => state.rekey()).toThrow(wiped);
});
