import { createCipheriv, randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { discard } from '../../src/crypto/discard.ts';

it('frees what the runtime has allocated for a large result, at once', () => {
  const cipher = createCipheriv('aes-256-gcm', randomBytes(32), randomBytes(12));
  const large = cipher.update(Buffer.alloc(65_000));
  const memory = large.buffer;
  discard(large);
  expect(memory.byteLength).toBe(0);
  expect(large.length).toBe(0);
});

it('leaves alone what shares its memory with others, and what is small', () => {
  const whole = Buffer.allocUnsafeSlow(65_536);
  discard(whole.subarray(1));
  discard(whole.subarray(0, 65_535));
  expect(whole.length).toBe(65_536);
  const pooled = Buffer.from('pooled');
  discard(pooled);
  expect(pooled.toString()).toBe('pooled');
  const small = Buffer.alloc(8191);
  discard(small);
  expect(small.length).toBe(8191);
});

it('stands being told twice', () => {
  const large = Buffer.allocUnsafeSlow(65_536);
  discard(large);
  expect(() => discard(large)).not.toThrow();
});
