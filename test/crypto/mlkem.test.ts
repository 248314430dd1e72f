import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { describe, expect, it } from 'vitest';
import { nativeMlKem768 } from '../../src/crypto/nativemlkem.ts';
import { nobleMlKem768 } from '../../src/crypto/noblemlkem.ts';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';

interface Vector {
  tcId: number;
  comment?: string;
  result: 'valid' | 'invalid';
  seed: string;
  ek: string;
  dk: string;
  m: string;
  c: string;
  K: string;
}

function wycheproof(name: string): Vector[] {
  const url = new URL(`../vectors/wycheproof-mlkem768-${name}.json`, import.meta.url);
  const { testGroups } = JSON.parse(readFileSync(url, 'utf8')) as { testGroups: { tests: Vector[] }[] };
  return testGroups.flatMap(({ tests }) => tests);
}

/** CCTV's files: `name = hex` lines. */
function cctv(name: string): Record<string, Buffer> {
  const url = new URL(`../vectors/cctv-mlkem768-${name}.txt`, import.meta.url);
  const lines = readFileSync(url, 'utf8').trim().split('\n');
  return Object.fromEntries(lines.map((line) => line.split(' = ')).map(([key, value]) => [key, hex(value)]));
}

const hex = (text = ''): Buffer => Buffer.from(text, 'hex');
const error = (code: string) => expect.objectContaining({ name: 'CryptoError', code });
const keygen = wycheproof('keygen');
const encaps = wycheproof('encaps');
const decaps = wycheproof('decaps');
const strcmp = cctv('strcmp');
const unlucky = cctv('unluckysample');

const native = nativeMlKem768();
const PROVIDERS = [
  { name: 'noble', mlkem: nobleMlKem768 },
  ...(native === undefined ? [] : [{ name: 'native', mlkem: native }]),
];

it('the vector files are whole', () => {
  expect([keygen, encaps, decaps].map(({ length }) => length)).toEqual([8, 24, 25]);
  expect([strcmp, unlucky].map((vector) => Object.keys(vector).length)).toEqual([3, 7]);
});

it('native is there exactly where node:crypto has it', () => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  expect(native !== undefined).toBe(major > 24 || (major === 24 && minor >= 7));
});

describe.each(PROVIDERS)('ML-KEM-768 of $name', ({ name, mlkem }) => {
  it('Wycheproof: a seed gives its encapsulation key', () => {
    for (const { seed, ek, tcId } of keygen) {
      expect(mlkem.fromSeed(hex(seed)).publicKey.toString('hex'), `${tcId}`).toBe(ek);
    }
  });

  it('Wycheproof: valid encapsulation keys are taken, those not reduced modulo q refused', () => {
    for (const { ek, result, tcId } of encaps) {
      const attempt = () => mlkem.encapsulate(hex(ek));
      if (result === 'invalid') expect(attempt, `${tcId}`).toThrow(error('weak-public-key'));
      else expect(attempt().ciphertext, `${tcId}`).toHaveLength(1088);
    }
    expect(encaps.filter(({ result }) => result === 'invalid')).toHaveLength(16);
  });

  it('Wycheproof: ciphertexts give their secrets; keys and ciphertexts of other lengths are refused', () => {
    for (const { seed, ek, c, K, result, tcId } of decaps) {
      const attempt = () => {
        const own = mlkem.fromSeed(hex(seed));
        expect(own.publicKey.toString('hex')).toBe(ek);
        return mlkem.decapsulate(own, hex(c)).toString('hex');
      };
      if (result === 'invalid') expect(attempt, `${tcId}`).toThrow(error('invalid-length'));
      else expect(attempt(), `${tcId}`).toBe(K);
    }
  });

  // Its d and z are those of the draft of FIPS 203, whose key generation hashed d alone: the keys are given whole.
  it('CCTV: encapsulates for a key whose sampling needs the most rejections', () => {
    const { ciphertext, sharedSecret } = mlkem.encapsulate(unlucky['ek'] as Buffer);
    expect(Buffer.from(ml_kem768.decapsulate(ciphertext, unlucky['dk'] as Buffer))).toEqual(sharedSecret);
  });

  it('agrees with every other, in both directions', () => {
    for (const { mlkem: other } of PROVIDERS) {
      for (let i = 0; i < 20; i++) {
        const own = mlkem.generate();
        const { ciphertext, sharedSecret } = other.encapsulate(own.publicKey);
        expect([own.publicKey.length, ciphertext.length, sharedSecret.length]).toEqual([1184, 1088, 32]);
        expect(mlkem.decapsulate(own, ciphertext)).toEqual(sharedSecret);
      }
    }
  });

  it('answers a changed ciphertext with another secret, the same each time and the same as all others', () => {
    const seed = Buffer.alloc(64, 7);
    const own = mlkem.fromSeed(seed);
    const { ciphertext, sharedSecret } = mlkem.encapsulate(own.publicKey);
    for (const at of [0, 500, 1087]) {
      const changed = Buffer.from(ciphertext);
      changed[at]! ^= 1;
      const rejected = mlkem.decapsulate(own, changed);
      expect(rejected).toHaveLength(32);
      expect(rejected.equals(sharedSecret)).toBe(false);
      for (const { mlkem: other } of PROVIDERS) {
        expect(other.decapsulate(other.fromSeed(seed), changed)).toEqual(rejected);
      }
    }
  });

  it('never gives the same key or secret twice', () => {
    const pairs = Array.from({ length: 5 }, () => mlkem.generate());
    expect(new Set(pairs.map(({ publicKey }) => publicKey.toString('hex'))).size).toBe(5);
    const { publicKey } = pairs[0] as (typeof pairs)[0];
    const secrets = pairs.map(() => mlkem.encapsulate(publicKey).sharedSecret.toString('hex'));
    expect(new Set(secrets).size).toBe(5);
  });

  it('refuses other lengths, keys of others and keys that were wiped', () => {
    const own = mlkem.generate();
    const { ciphertext } = mlkem.encapsulate(own.publicKey);
    const wrong = error('invalid-length');
    for (const length of [0, 1183, 1185]) {
      expect(() => mlkem.encapsulate(Buffer.alloc(length))).toThrow(wrong);
    }
    for (const length of [0, 1087, 1089]) {
      expect(() => mlkem.decapsulate(own, Buffer.alloc(length))).toThrow(wrong);
    }
    for (const length of [0, 63, 65]) expect(() => mlkem.fromSeed(Buffer.alloc(length))).toThrow(wrong);
    const foreign = { ...own, publicKey: own.publicKey, privateKey: own.privateKey, wipe: () => {} };
    expect(() => mlkem.decapsulate(foreign, ciphertext)).toThrow(error('foreign-key'));
    own.wipe();
    own.wipe();
    expect(() => mlkem.decapsulate(own, ciphertext)).toThrow(error('key-wiped'));
  });

  it('prints no key material, and zeroes what it can', () => {
    const own = mlkem.generate();
    const { privateKey } = own;
    const shown = inspect({ privateKey }, { depth: 9, showHidden: true }) + JSON.stringify({ privateKey });
    expect(shown).toContain(name === 'noble' ? '[secret]' : 'PrivateKeyObject');
    if (!('bytes' in privateKey)) return;
    const { bytes } = privateKey;
    expect(shown).not.toContain(bytes.toString('hex').slice(0, 16));
    own.wipe();
    expect(bytes.every((byte) => byte === 0)).toBe(true);
  });
});

// The provider draws its randomness itself; the library below it is what can be given `m`.
it('noble: an encapsulation without randomness gives the published ciphertext and secret', () => {
  for (const { ek, m, c, K, result } of encaps) {
    if (result === 'invalid') continue;
    const { cipherText, sharedSecret } = ml_kem768.encapsulate(hex(ek), hex(m));
    expect([cipherText, sharedSecret].map((bytes) => Buffer.from(bytes).toString('hex'))).toEqual([c, K]);
  }
  const { cipherText, sharedSecret } = ml_kem768.encapsulate(unlucky['ek'] as Buffer, unlucky['m'] as Buffer);
  expect([Buffer.from(cipherText), Buffer.from(sharedSecret)]).toEqual([unlucky['c'], unlucky['K']]);
});

it('noble: the decapsulation key is that of FIPS 203, and those of CCTV decapsulate', () => {
  for (const { seed, dk } of keygen) {
    const { privateKey } = nobleMlKem768.fromSeed(hex(seed));
    expect('bytes' in privateKey && privateKey.bytes.toString('hex')).toBe(dk);
  }
  for (const { c, dk, K } of [strcmp, unlucky]) {
    expect(Buffer.from(ml_kem768.decapsulate(c as Buffer, dk as Buffer))).toEqual(K);
  }
});

describe('loading', () => {
  it.each(['native', 'noble'] as const)('%s has ML-KEM only if it was asked for', async (name) => {
    expect((await loadCryptoProvider(name)).mlkem768).toBeUndefined();
    const { mlkem768 } = await loadCryptoProvider(name, { postQuantum: true });
    expect(mlkem768?.generate().publicKey).toHaveLength(1184);
    if (name === 'noble' || native === undefined) expect(mlkem768).toBe(nobleMlKem768);
    else expect(mlkem768).not.toBe(nobleMlKem768);
    expect((await loadCryptoProvider(name)).mlkem768).toBeUndefined();
  });
});
