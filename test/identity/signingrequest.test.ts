import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { expect, it } from 'vitest';
import { certificationRequest } from '../../src/identity/signingrequest.ts';
import { x509 } from './forge.ts';

it.each([
  ['P-256', () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey],
  ['Ed25519', () => generateKeyPairSync('ed25519').privateKey],
])(
  'a request for a %s key is PKCS #10 to another library, which finds the key and a good signature',
  async (_kind, make) => {
    for (let round = 0; round < 20; round++) {
      const key = make();
      const der = certificationRequest(key);
      const request = new x509.Pkcs10CertificateRequest(der);
      expect(await request.verify()).toBe(true);
      expect(request.subject).toBe('');
      expect(request.attributes).toEqual([]);
      expect(Buffer.from(request.rawData).equals(der)).toBe(true);
      const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
      expect(Buffer.from(request.publicKey.rawData).equals(spki)).toBe(true);
    }
  },
);

it('a key of another kind is not asked for', () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  expect(() => certificationRequest(privateKey)).toThrow(TypeError);
});
