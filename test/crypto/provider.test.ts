import { createHash, createHmac, generateKeyPairSync, sign } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CryptoProvider,
  type CryptoProviderName,
  cryptoProvider,
  loadCryptoProvider,
  type SignatureAlgorithm,
} from '../../src/crypto/provider.ts';

const native = cryptoProvider('native');
const EMPTY = Buffer.alloc(0);
const NONCE = Buffer.alloc(12, 7);

const bytes = (constraints: fc.IntArrayConstraints = {}) =>
  fc.uint8Array(constraints).map((array) => Buffer.from(array));
const exactly = (length: number) => bytes({ minLength: length, maxLength: length });
const error = (code: string) => expect.objectContaining({ name: 'CryptoError', code });

describe('the two providers interoperate', async () => {
  const noble = await loadCryptoProvider('noble');
  const each: [CryptoProvider, CryptoProvider][] = [
    [native, noble],
    [noble, native],
  ];

  it('in X25519', () => {
    fc.assert(
      fc.property(exactly(32), exactly(32), (a, b) => {
        const [x, y] = [native.x25519FromPrivate(a), noble.x25519FromPrivate(b)];
        expect(noble.x25519FromPrivate(a).publicKey).toEqual(x.publicKey);
        expect(native.dh(x, y.publicKey)).toEqual(noble.dh(y, x.publicKey));
      }),
      { numRuns: 20 },
    );
    const [x, y] = [native.generateX25519(), noble.generateX25519()];
    expect(native.dh(x, y.publicKey)).toEqual(noble.dh(y, x.publicKey));
  });

  it('in AES-256-GCM', () => {
    fc.assert(
      fc.property(
        exactly(32),
        exactly(12),
        bytes(),
        bytes({ maxLength: 600 }),
        (key, nonce, ad, plaintext) => {
          for (const [one, other] of each) {
            const sealed = one.aes256gcm(key).seal(nonce, ad, plaintext);
            expect(other.aes256gcm(key).open(nonce, ad, sealed)).toEqual(plaintext);
          }
        },
      ),
    );
    const large = native.randomBytes(65_519);
    const key = native.randomBytes(32);
    for (const [one, other] of each) {
      const sealed = one.aes256gcm(key).seal(NONCE, EMPTY, large);
      expect(other.aes256gcm(key).open(NONCE, EMPTY, sealed).equals(large)).toBe(true);
    }
  });

  it('in SHA-256, HMAC and HKDF, however the input is cut', () => {
    fc.assert(
      fc.property(bytes(), fc.array(bytes(), { maxLength: 4 }), fc.nat(200), (key, parts, length) => {
        const whole = Buffer.concat(parts);
        expect(noble.sha256(...parts)).toEqual(native.sha256(whole));
        expect(native.sha256(...parts)).toEqual(noble.sha256(whole));
        expect(noble.hmacSha256(key, ...parts)).toEqual(native.hmacSha256(key, whole));
        expect(noble.hkdfExtract(key, whole)).toEqual(native.hkdfExtract(key, whole));
        const prk = native.sha256(key);
        expect(noble.hkdfExpand(prk, whole, length)).toEqual(native.hkdfExpand(prk, whole, length));
      }),
    );
    // Around the length of a block of a key, and beyond what is joined before it is hashed.
    for (const length of [0, 63, 64, 65, 4031, 4032, 4033, 4096, 4097, 20_000]) {
      const long = native.randomBytes(length);
      const [begin, end] = [long.subarray(0, length >> 1), long.subarray(length >> 1)];
      const digest = createHash('sha256').update(long).digest();
      const mac = createHmac('sha256', long).update(long).digest();
      for (const { sha256, hmacSha256 } of [native, noble]) {
        expect(sha256(begin, end)).toEqual(digest);
        expect(sha256(long)).toEqual(digest);
        expect(hmacSha256(long, begin, end)).toEqual(mac);
        expect(hmacSha256(begin, long)).toEqual(createHmac('sha256', begin).update(long).digest());
      }
    }
  });

  const signers = {
    ed25519: generateKeyPairSync('ed25519'),
    'ecdsa-p256-sha256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  };
  it.each(Object.keys(signers) as SignatureAlgorithm[])(
    'in %s: a signature and no mutation of it',
    (algorithm) => {
      const { privateKey, publicKey } = signers[algorithm];
      const spki = publicKey.export({ type: 'spki', format: 'der' });
      const digest = algorithm === 'ed25519' ? null : 'sha256';
      fc.assert(
        fc.property(bytes(), fc.nat(), fc.integer({ min: 1, max: 255 }), (data, position, flip) => {
          const signature = sign(digest, data, privateKey);
          const flipped = (original: Buffer): Buffer => {
            const copy = Buffer.from(original);
            copy[position % copy.length]! ^= flip;
            return copy;
          };
          for (const { verifySignature } of [native, noble]) {
            expect(verifySignature(algorithm, spki, data, signature)).toBe(true);
            expect(verifySignature(algorithm, spki, data, flipped(signature))).toBe(false);
            expect(verifySignature(algorithm, flipped(spki), data, signature)).toBe(false);
            expect(verifySignature(algorithm, spki, Buffer.concat([data, EMPTY, NONCE]), signature)).toBe(
              false,
            );
            expect(verifySignature(algorithm, spki, data, Buffer.concat([signature, Buffer.of(0)]))).toBe(
              false,
            );
          }
        }),
        { numRuns: 25 },
      );
    },
  );
});

describe.each<CryptoProviderName>(['native', 'noble'])('the %s provider', async (name) => {
  const crypto = await loadCryptoProvider(name);

  it('opens nothing that was changed in any bit, cut or lengthened', () => {
    const aead = crypto.aes256gcm(crypto.randomBytes(32));
    const sealed = aead.seal(NONCE, EMPTY, Buffer.from('attack at dawn'));
    const refused = error('authentication-failed');
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => aead.open(NONCE, EMPTY, changed)).toThrow(refused);
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(() => aead.open(NONCE, EMPTY, sealed.subarray(0, length))).toThrow(refused);
    }
    expect(() => aead.open(NONCE, EMPTY, Buffer.concat([sealed, Buffer.of(0)]))).toThrow(refused);
    expect(() => aead.open(Buffer.alloc(12), EMPTY, sealed)).toThrow(refused);
    expect(() => aead.open(NONCE, Buffer.of(0), sealed)).toThrow(refused);
    expect(aead.open(NONCE, EMPTY, sealed).toString()).toBe('attack at dawn');
  });

  it('seals in place, and not where there is no room', () => {
    const aead = crypto.aes256gcm(crypto.randomBytes(32));
    const expected = aead.seal(NONCE, EMPTY, Buffer.alloc(100, 1));
    const out = Buffer.alloc(121, 1);
    expect(aead.sealInto(NONCE, EMPTY, out.subarray(5, 105), out, 5)).toBe(121);
    expect(out.subarray(5)).toEqual(expected);

    const before = Buffer.from(out);
    for (const at of [6, 121, 200, -1, Number.NaN]) {
      expect(() => aead.sealInto(NONCE, EMPTY, Buffer.alloc(100), out, at)).toThrow(error('invalid-length'));
    }
    expect(out).toEqual(before);
  });

  it('copies AES keys, and refuses to use one after it has been wiped', () => {
    const key = crypto.randomBytes(32);
    const aead = crypto.aes256gcm(key);
    const sealed = aead.seal(NONCE, EMPTY, EMPTY);
    key.fill(0);
    expect(aead.seal(NONCE, EMPTY, EMPTY)).toEqual(sealed);
    aead.wipe();
    const wiped = error('key-wiped');
    expect(() => aead.seal(NONCE, EMPTY, EMPTY)).toThrow(wiped);
    expect(() => aead.sealInto(NONCE, EMPTY, EMPTY, Buffer.alloc(16), 0)).toThrow(wiped);
    expect(() => aead.open(NONCE, EMPTY, sealed)).toThrow(wiped);
  });

  it('refuses to use a key pair that was wiped or is of another provider', async () => {
    const remote = crypto.generateX25519().publicKey;
    const own = crypto.generateX25519();
    own.wipe();
    expect(() => crypto.dh(own, remote)).toThrow(error('key-wiped'));
    const foreign = (await loadCryptoProvider(name === 'native' ? 'noble' : 'native')).generateX25519();
    expect(() => crypto.dh(foreign, remote)).toThrow(error('foreign-key'));
  });

  it('refuses keys, nonces and outputs of a wrong length', () => {
    const wrong = error('invalid-length');
    const own = crypto.generateX25519();
    const aead = crypto.aes256gcm(Buffer.alloc(32));
    for (const length of [0, 16, 31, 33, 64]) {
      expect(() => crypto.aes256gcm(Buffer.alloc(length))).toThrow(wrong);
      expect(() => crypto.x25519FromPrivate(Buffer.alloc(length))).toThrow(wrong);
      expect(() => crypto.dh(own, Buffer.alloc(length, 9))).toThrow(wrong);
    }
    for (const length of [0, 8, 11, 13, 16]) {
      expect(() => aead.seal(Buffer.alloc(length), EMPTY, EMPTY)).toThrow(wrong);
      expect(() => aead.open(Buffer.alloc(length), EMPTY, Buffer.alloc(16))).toThrow(wrong);
    }
    for (const length of [8_161, -1, 1.5, Number.NaN]) {
      expect(() => crypto.hkdfExpand(Buffer.alloc(32), EMPTY, length)).toThrow(wrong);
    }
    expect(crypto.hkdfExpand(Buffer.alloc(32), EMPTY, 0)).toHaveLength(0);
    expect(crypto.hkdfExpand(Buffer.alloc(32), EMPTY, 8_160)).toHaveLength(8_160);
  });

  it('gives as many random bytes as asked for, and other ones each time', () => {
    expect(crypto.randomBytes(0)).toHaveLength(0);
    expect(crypto.randomBytes(32)).not.toEqual(crypto.randomBytes(32));
    expect(crypto.generateX25519().publicKey).not.toEqual(crypto.generateX25519().publicKey);
  });

  describe('verifySignature', () => {
    const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const ed25519 = generateKeyPairSync('ed25519');
    const der = (key: typeof p256.publicKey): Buffer => key.export({ type: 'spki', format: 'der' });
    const data = Buffer.from('data');

    it('refuses a key of another algorithm', () => {
      const ecdsa = sign('sha256', data, p256.privateKey);
      const eddsa = sign(null, data, ed25519.privateKey);
      expect(crypto.verifySignature('ed25519', der(p256.publicKey), data, ecdsa)).toBe(false);
      expect(crypto.verifySignature('ecdsa-p256-sha256', der(ed25519.publicKey), data, eddsa)).toBe(false);
      const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
      expect(crypto.verifySignature('ecdsa-p256-sha256', der(rsa), data, ecdsa)).toBe(false);
      const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
      const signature = sign('sha256', data, p384.privateKey);
      expect(crypto.verifySignature('ecdsa-p256-sha256', der(p384.publicKey), data, signature)).toBe(false);
    });

    it('refuses an SPKI that is cut, lengthened or holds a compressed point', () => {
      const spki = der(p256.publicKey);
      const signature = sign('sha256', data, p256.privateKey);
      expect(crypto.verifySignature('ecdsa-p256-sha256', spki, data, signature)).toBe(true);
      for (let length = 0; length < spki.length; length++) {
        expect(crypto.verifySignature('ecdsa-p256-sha256', spki.subarray(0, length), data, signature)).toBe(
          false,
        );
      }
      const longer = Buffer.concat([spki, Buffer.of(0)]);
      expect(crypto.verifySignature('ecdsa-p256-sha256', longer, data, signature)).toBe(false);

      const compressed = Buffer.concat([
        Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
        Buffer.of(2 + (spki.at(-1)! & 1)),
        spki.subarray(27, 59),
      ]);
      expect(crypto.verifySignature('ecdsa-p256-sha256', compressed, data, signature)).toBe(false);
    });

    it('refuses a P-256 point that is not on the curve', () => {
      const spki = Buffer.from(der(p256.publicKey));
      spki[spki.length - 1]! ^= 1;
      expect(
        crypto.verifySignature('ecdsa-p256-sha256', spki, data, sign('sha256', data, p256.privateKey)),
      ).toBe(false);
    });

    it('takes either form of an ECDSA s, as X.509 does', () => {
      const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
      const raw = sign('sha256', data, { key: p256.privateKey, dsaEncoding: 'ieee-p1363' });
      const integer = (bytes: Buffer): Buffer => {
        const first = bytes.findIndex((byte) => byte !== 0);
        const trimmed = bytes.subarray(first);
        const body = trimmed[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), trimmed]) : trimmed;
        return Buffer.concat([Buffer.of(2, body.length), body]);
      };
      const s = BigInt(`0x${raw.toString('hex', 32)}`);
      for (const form of [s, order - s]) {
        const half = Buffer.from(form.toString(16).padStart(64, '0'), 'hex');
        const body = Buffer.concat([integer(raw.subarray(0, 32)), integer(half)]);
        const signature = Buffer.concat([Buffer.of(0x30, body.length), body]);
        expect(crypto.verifySignature('ecdsa-p256-sha256', der(p256.publicKey), data, signature)).toBe(true);
      }
    });

    it('refuses Ed25519 keys of small order, under which one signature fits any message', () => {
      const prefix = der(ed25519.publicKey).subarray(0, 12);
      const identity = Buffer.concat([Buffer.of(1), Buffer.alloc(31)]);
      const signature = Buffer.concat([identity, Buffer.alloc(32)]);
      for (const sign of [0x00, 0x80]) {
        const key = Buffer.from(identity);
        key[31]! |= sign;
        expect(crypto.verifySignature('ed25519', Buffer.concat([prefix, key]), data, signature)).toBe(false);
      }
    });

    it('never throws on garbage', () => {
      const spki = der(p256.publicKey);
      fc.assert(
        fc.property(bytes({ maxLength: 120 }), bytes({ maxLength: 120 }), (key, signature) => {
          for (const algorithm of ['ed25519', 'ecdsa-p256-sha256'] as const) {
            expect(crypto.verifySignature(algorithm, key, data, signature)).toBe(false);
            expect(crypto.verifySignature(algorithm, spki, data, signature)).toBe(false);
          }
        }),
        { numRuns: 50 },
      );
    });
  });
});
