import { expect, it } from 'vitest';
import { cryptoProvider, loadCryptoProvider } from '../../src/crypto/provider.ts';

it('the noble provider is there once it has been loaded, the native one always', async () => {
  expect(() => cryptoProvider('noble')).toThrow(
    expect.objectContaining({ name: 'CryptoError', code: 'provider-not-loaded' }),
  );
  const noble = await loadCryptoProvider('noble');
  expect(noble.name).toBe('noble');
  expect(cryptoProvider('noble')).toBe(noble);
  expect(await loadCryptoProvider('native')).toBe(cryptoProvider('native'));
});
