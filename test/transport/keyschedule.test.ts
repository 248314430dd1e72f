import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/crypto/secret.ts';
import { signedData } from '../../src/transport/identityproof.ts';
import { deriveSession } from '../../src/transport/keyschedule.ts';
import { prologue } from '../../src/transport/prologue.ts';
import { codeOf, crypto } from './world.ts';

const H = Buffer.alloc(32, 0x48);

describe('the key schedule', () => {
  it('derives a UUID of version 8 and a session key, and wipes the exporter', () => {
    const exporter = new Secret(Buffer.alloc(32, 0x45));
    const { id, key } = deriveSession(crypto, exporter, H);
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(key.bytes).toHaveLength(32);
    expect(codeOf(() => exporter.bytes)).toBe('key-wiped');
  });

  it('is HKDF-Expand of the exporter with label and H', () => {
    const prk = Buffer.alloc(32, 0x45);
    const { id, key } = deriveSession(crypto, Secret.copyOf(prk), H);
    // One block of HKDF-Expand (RFC 5869, section 2.3), written out.
    const expand = (label: string): Buffer =>
      crypto.hmacSha256(prk, Buffer.concat([Buffer.from(label), H, Buffer.of(1)]));
    expect(key.bytes.equals(expand('HBK1 session key'))).toBe(true);
    const bytes = expand('HBK1 session id').subarray(0, 16);
    bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80;
    bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
    expect(id.replaceAll('-', '')).toBe(bytes.toString('hex'));
  });

  it('separates sessions by H and by exporter', () => {
    const ids = [
      deriveSession(crypto, new Secret(Buffer.alloc(32, 1)), H).id,
      deriveSession(crypto, new Secret(Buffer.alloc(32, 2)), H).id,
      deriveSession(crypto, new Secret(Buffer.alloc(32, 1)), Buffer.alloc(32, 3)).id,
    ];
    expect(new Set(ids).size).toBe(3);
  });
});

describe('what is hashed and signed', () => {
  it('the prologue is label, protocol name, zero, hello and the hash of earlier bytes', () => {
    const hello = Buffer.from('hello');
    expect(prologue('Noise_X', hello).toString('latin1')).toBe('HBK1/1\0Noise_X\0hello');
    expect(prologue('Noise_X', hello, Buffer.from('earlier')).toString('latin1')).toBe(
      'HBK1/1\0Noise_X\0helloearlier',
    );
  });

  it('the signature covers 64 spaces, role, zero, h, static key and the leaf’s hash', () => {
    const leaf = Buffer.from('leaf');
    const key = Buffer.alloc(32, 0x6b);
    for (const role of ['initiator', 'responder'] as const) {
      const data = signedData(crypto, role, H, key, leaf);
      const expected = Buffer.concat([
        Buffer.from(`${' '.repeat(64)}HBK1 identity, ${role}\0`),
        H,
        key,
        createHash('sha256').update(leaf).digest(),
      ]);
      expect(data.equals(expected)).toBe(true);
    }
  });
});
