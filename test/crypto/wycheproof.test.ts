import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  type CryptoProviderName,
  loadCryptoProvider,
  type SignatureAlgorithm,
} from '../../src/crypto/provider.ts';

interface Test {
  tcId: number;
  comment: string;
  flags: string[];
  result: 'valid' | 'acceptable' | 'invalid';
}
interface XdhTest extends Test {
  public: string;
  private: string;
  shared: string;
}
interface AeadTest extends Test {
  key: string;
  iv: string;
  aad: string;
  msg: string;
  ct: string;
  tag: string;
}
interface HkdfTest extends Test {
  ikm: string;
  salt: string;
  info: string;
  size: number;
  okm: string;
}
interface VerifyTest extends Test {
  msg: string;
  sig: string;
}
interface Group<T> {
  publicKeyDer: string;
  tests: T[];
}

function load<T>(name: string): Group<T>[] {
  const url = new URL(`../vectors/wycheproof-${name}.json`, import.meta.url);
  return (JSON.parse(readFileSync(url, 'utf8')) as { testGroups: Group<T>[] }).testGroups;
}

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/** Runs `check` on every test and lists those for which it is false or throws; the list should be empty. */
function failures<T extends Test>(
  groups: Group<T>[],
  check: (test: T, group: Group<T>) => boolean,
): string[] {
  return groups.flatMap((group) =>
    group.tests
      .filter((test) => !check(test, group))
      .map(({ tcId, result, comment, flags }) => `${tcId} (${result}): ${comment} [${flags}]`),
  );
}

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

const x25519 = load<XdhTest>('x25519');
const aesGcm = load<AeadTest>('aes-256-gcm-iv96');
const hkdf = load<HkdfTest>('hkdf-sha256');
const signatures: [SignatureAlgorithm, Group<VerifyTest>[]][] = [
  ['ed25519', load('ed25519')],
  ['ecdsa-p256-sha256', load('ecdsa-p256-sha256')],
];

const count = (groups: Group<Test>[]): number => groups.flatMap(({ tests }) => tests).length;

it('the vector files are whole', () => {
  expect([x25519, aesGcm, hkdf, ...signatures.map(([, groups]) => groups)].map(count)).toEqual([
    518, 66, 86, 151, 484,
  ]);
});

describe.each<CryptoProviderName>(['native', 'noble'])('Wycheproof with the %s provider', async (name) => {
  const crypto = await loadCryptoProvider(name);

  // `acceptable` here means: a twist point, a non-canonical or a low-order public key. The first two are computed as
  // RFC 7748, section 5 says; a zero shared secret, and nothing else, is refused (its section 6.1).
  it('X25519: every shared secret matches, and all-zero ones are refused', () => {
    expect(
      failures(x25519, (test) => {
        const own = crypto.x25519FromPrivate(hex(test.private));
        const zero = test.flags.includes('ZeroSharedSecret');
        if (zero) return codeOf(() => crypto.dh(own, hex(test.public))) === 'weak-public-key';
        return crypto.dh(own, hex(test.public)).equals(hex(test.shared));
      }),
    ).toEqual([]);
  });

  it('AES-256-GCM: valid ones seal and open, invalid ones do not open', () => {
    expect(
      failures(aesGcm, (test) => {
        const aead = crypto.aes256gcm(hex(test.key));
        const sealed = Buffer.concat([hex(test.ct), hex(test.tag)]);
        const open = (): Buffer => aead.open(hex(test.iv), hex(test.aad), sealed);
        if (test.result !== 'valid') return codeOf(open) === 'authentication-failed';
        const out = Buffer.alloc(sealed.length + 5);
        const end = aead.sealInto(hex(test.iv), hex(test.aad), hex(test.msg), out, 3);
        return (
          open().equals(hex(test.msg)) &&
          aead.seal(hex(test.iv), hex(test.aad), hex(test.msg)).equals(sealed) &&
          end === sealed.length + 3 &&
          out.subarray(3, end).equals(sealed)
        );
      }),
    ).toEqual([]);
  });

  it('HKDF-SHA-256: every output matches, and more than 8,160 bytes are refused', () => {
    expect(
      failures(hkdf, (test) => {
        const prk = crypto.hkdfExtract(hex(test.salt), hex(test.ikm));
        const expand = (): Buffer => crypto.hkdfExpand(prk, hex(test.info), test.size);
        return test.result === 'valid' ? expand().equals(hex(test.okm)) : codeOf(expand) === 'invalid-length';
      }),
    ).toEqual([]);
  });

  // None of these are `acceptable`: every one is decided.
  it.each(signatures)('%s: valid signatures verify, invalid ones do not', (algorithm, groups) => {
    expect(
      failures(groups, (test, { publicKeyDer }) => {
        const verified = crypto.verifySignature(algorithm, hex(publicKeyDer), hex(test.msg), hex(test.sig));
        return verified === (test.result === 'valid');
      }),
    ).toEqual([]);
  });
});
