import { expect, it } from 'vitest';
import { parseProtocolName } from '../../src/noise/protocolname.ts';
import { protocolOf } from './fixture.ts';

const hybridOf = (pattern: string): string => `Noise_${pattern}hfs_25519+MLKEM768_AESGCM_SHA256`;

const tokens = (pattern: string, nameOf = protocolOf): string =>
  parseProtocolName(nameOf(pattern))
    .messages.map((message) => message.join(' '))
    .join(' | ');

it('modifiers put psk tokens where section 9.4 says', () => {
  expect(tokens('XX')).toBe('e | e ee s es | s se');
  expect(tokens('NNpsk0')).toBe('psk e | e ee');
  expect(tokens('XXpsk3')).toBe('e | e ee s es | s se psk');
  expect(tokens('XXpsk0+psk1+psk2+psk3')).toBe('psk e psk | e ee s es psk | s se psk');
  expect(tokens('Npsk0')).toBe('psk e es');
  expect(tokens('IKpsk2')).toBe('e es s ss | e ee se psk');
});

it('hfs puts e1 behind the first e and ekem1 behind ee', () => {
  expect(tokens('XX', hybridOf)).toBe('e e1 | e ee ekem1 s es | s se');
  expect(tokens('NN', hybridOf)).toBe('e e1 | e ee ekem1');
  expect(tokens('IK', hybridOf)).toBe('e e1 es s ss | e ee ekem1 se');
  expect(parseProtocolName(hybridOf('XX')).name).toBe('XXhfs');
});

it.each([
  'Noise_XXhfs_25519_AESGCM_SHA256',
  'Noise_XX_25519+MLKEM768_AESGCM_SHA256',
  'Noise_XXhfs_25519+MLKEM512_AESGCM_SHA256',
  'Noise_XXhfs+psk0_25519+MLKEM768_AESGCM_SHA256',
  'Noise_XXpsk0_25519+MLKEM768_AESGCM_SHA256',
  'Noise_Nhfs_25519+MLKEM768_AESGCM_SHA256',
  '',
  'Noise_XX',
  'Noise_XX_25519_ChaChaPoly_SHA256',
  'Noise_XX_25519_AESGCM_SHA512',
  'Noise_XX_448_AESGCM_SHA256',
  'NoisePSK_XX_25519_AESGCM_SHA256',
  'Noise_YY_25519_AESGCM_SHA256',
  'Noise__25519_AESGCM_SHA256',
  'Noise_xx_25519_AESGCM_SHA256',
  'Noise_XX1_25519_AESGCM_SHA256',
  'Noise_NNpsk3_25519_AESGCM_SHA256',
  'Noise_Npsk2_25519_AESGCM_SHA256',
  'Noise_NNpsk0+psk0_25519_AESGCM_SHA256',
  'Noise_NNpsk2+psk0_25519_AESGCM_SHA256',
  'Noise_NNpsk0psk2_25519_AESGCM_SHA256',
  'Noise_NN+psk0_25519_AESGCM_SHA256',
  'Noise_NNpsk0+_25519_AESGCM_SHA256',
  'Noise_NNfallback_25519_AESGCM_SHA256',
  'Noise_XX_25519_AESGCM_SHA256 ',
  'Noise_XX_25519_AESGCM_SHA256\n',
])('%j is refused', (name) => {
  expect(() => parseProtocolName(name)).toThrow(
    expect.objectContaining({ name: 'NoiseError', code: 'unknown-protocol', side: 'local' }),
  );
});
