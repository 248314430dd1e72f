import type * as Crypto from 'node:crypto';
import { expect, it, vi } from 'vitest';
import { nativeProvider } from '../../src/crypto/native.ts';
import { CipherState } from '../../src/noise/cipherstate.ts';

/** What OpenSSL has given out as ciphertext, in its own buffers. */
const given: Buffer[] = [];
vi.mock('node:crypto', async (original) => {
  const real = await original<typeof Crypto>();
  const createCipheriv = (...args: Parameters<typeof real.createCipheriv>) => {
    const cipher = real.createCipheriv(...args);
    const update = cipher.update.bind(cipher) as (data: Uint8Array) => Buffer;
    cipher.update = ((data: Uint8Array) => {
      const ciphertext = update(data);
      given.push(ciphertext);
      return ciphertext;
    }) as typeof cipher.update;
    return cipher;
  };
  return { ...real, createCipheriv };
});

it('a key that REKEY has made is not left in the buffer in which OpenSSL gave it', () => {
  const cipher = new CipherState(nativeProvider, Buffer.alloc(32, 1));
  cipher.encryptWithAd(Buffer.alloc(0), Buffer.from('a record'));
  expect(given.map((bytes) => bytes.every((byte) => byte === 0))).toEqual([false]);
  cipher.rekey();
  expect(given.map((bytes) => bytes.every((byte) => byte === 0))).toEqual([false, true]);
});
