import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { cryptoProvider, loadCryptoProvider } from '../../src/crypto/provider.ts';
import { Secret } from '../../src/crypto/secret.ts';

it('a secret does not print', () => {
  const secret = new Secret(Buffer.from('hunter2'));
  const prints = [
    String(secret),
    `${secret}`,
    JSON.stringify({ secret }),
    inspect(secret),
    inspect({ a: [secret] }, { depth: 9, showHidden: true }),
  ];
  for (const print of prints) {
    expect(print).toContain('[secret]');
    expect(print).not.toMatch(/hunter2|68 ?75 ?6e|104, ?117/);
  }
  expect(Object.keys(secret)).toEqual([]);
});

it('wiping zeroes the buffer that the secret owns, and its bytes cannot be used after it', () => {
  const bytes = Buffer.from('hunter2');
  const secret = new Secret(bytes);
  expect(secret.bytes).toBe(bytes);
  expect(secret.wiped).toBe(false);
  secret.wipe();
  secret.wipe();
  expect(secret.wiped).toBe(true);
  expect(bytes).toEqual(Buffer.alloc(7));
  expect(() => secret.bytes).toThrow(expect.objectContaining({ code: 'key-wiped' }));
});

it('a copied secret is independent of its original', () => {
  const bytes = Buffer.from('hunter2');
  const secret = Secret.copyOf(bytes);
  bytes.fill(0);
  expect(secret.bytes.toString()).toBe('hunter2');
});

it('key pairs of both providers print no key material', async () => {
  for (const crypto of [await loadCryptoProvider('noble'), cryptoProvider('native')]) {
    const scalar = Buffer.from('70076d0a7318a57d3c16c17251b26645df4c2f92ebc099b170b8aee9f8b9f1c4', 'hex');
    const pair = crypto.x25519FromPrivate(scalar);
    const prints =
      inspect(pair, { depth: 9, showHidden: true, getters: true }) + JSON.stringify(pair.privateKey);
    expect(prints).not.toMatch(/70 ?07 ?6d ?0a|112, ?7, ?109|cAdtCn/);
  }
});
