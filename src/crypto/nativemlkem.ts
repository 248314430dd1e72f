import crypto, { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { CryptoError } from './errors.ts';
import { assertLength, MLKEM_CIPHERTEXT_LENGTH, MLKEM_PUBLIC_LENGTH, MLKEM_SEED_LENGTH } from './lengths.ts';
import type { MlKem768, MlKemKeyPair } from './mlkem.ts';
import { wipe } from './secret.ts';

/** SubjectPublicKeyInfo up to the 1,184 bytes of an ML-KEM-768 encapsulation key (RFC 9935, section 4). */
const SPKI_PREFIX = Buffer.from('308204b2300b0609608648016503040402038204a100', 'hex');
/** PKCS #8 up to the 64 bytes of a seed (RFC 9935, section 6). */
const PKCS8_PREFIX = Buffer.from('3054020100300b060960864801650304040204428040', 'hex');

/** What node:crypto has from Node 24.7 on, if its OpenSSL does ML-KEM; @types/node does not know it. */
interface Kem {
  generateKeyPairSync(
    type: 'ml-kem-768',
    options: { publicKeyEncoding: { format: 'der'; type: 'spki' } },
  ): { privateKey: KeyObject; publicKey: Buffer };
  encapsulate(key: KeyObject): { sharedKey: Buffer; ciphertext: Buffer };
  decapsulate(key: KeyObject, ciphertext: Uint8Array): Buffer;
}

// A member of the default export: a named import that the runtime lacks would not even load.
const { encapsulate, decapsulate } = crypto as unknown as Partial<Kem>;
const generate = generateKeyPairSync as unknown as Kem['generateKeyPairSync'];

class NativeMlKemKeyPair implements MlKemKeyPair {
  readonly publicKey: Buffer;
  #privateKey: KeyObject | undefined;

  constructor(privateKey: KeyObject, spki: Buffer) {
    this.#privateKey = privateKey;
    this.publicKey = spki.subarray(SPKI_PREFIX.length);
  }

  get privateKey(): KeyObject {
    if (this.#privateKey !== undefined) return this.#privateKey;
    throw new CryptoError('key-wiped', 'An ML-KEM key pair was used after it had been wiped');
  }

  wipe(): void {
    this.#privateKey = undefined;
  }
}

function generatePair(): NativeMlKemKeyPair {
  const { privateKey, publicKey } = generate('ml-kem-768', {
    publicKeyEncoding: { format: 'der', type: 'spki' },
  });
  return new NativeMlKemKeyPair(privateKey, publicKey);
}

/** node:crypto's ML-KEM-768, or undefined where this runtime has none. */
export function nativeMlKem768(): MlKem768 | undefined {
  if (encapsulate === undefined || decapsulate === undefined) return undefined;
  try {
    generatePair(); // the function may be there and OpenSSL, older or built without it, not do it
  } catch {
    return undefined;
  }
  return {
    generate: generatePair,

    fromSeed(seed) {
      assertLength('An ML-KEM seed', seed, MLKEM_SEED_LENGTH);
      const der = Buffer.concat([PKCS8_PREFIX, seed]);
      const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
      wipe(der);
      return new NativeMlKemKeyPair(
        privateKey,
        createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
      );
    },

    encapsulate(encapsulationKey) {
      assertLength('An ML-KEM-768 encapsulation key', encapsulationKey, MLKEM_PUBLIC_LENGTH);
      const { sharedKey, ciphertext } = encapsulate(importPublic(encapsulationKey));
      return { ciphertext, sharedSecret: sharedKey };
    },

    decapsulate(own, ciphertext) {
      assertLength('An ML-KEM-768 ciphertext', ciphertext, MLKEM_CIPHERTEXT_LENGTH);
      if (!(own instanceof NativeMlKemKeyPair)) {
        throw new CryptoError(
          'foreign-key',
          'An ML-KEM key pair of another provider was handed to the native one',
        );
      }
      return decapsulate(own.privateKey, ciphertext);
    },
  };
}

/** OpenSSL makes the modulus check of FIPS 203, section 7.2, when it reads the key. */
function importPublic(encapsulationKey: Uint8Array): KeyObject {
  const key = Buffer.concat([SPKI_PREFIX, encapsulationKey]);
  try {
    return createPublicKey({ key, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new CryptoError('weak-public-key', 'An ML-KEM-768 encapsulation key is not reduced modulo q', {
      cause,
    });
  }
}
