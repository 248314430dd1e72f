import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { CryptoError } from './errors.ts';
import {
  assertLength,
  MLKEM_CIPHERTEXT_LENGTH,
  MLKEM_MESSAGE_LENGTH,
  MLKEM_PUBLIC_LENGTH,
  MLKEM_SEED_LENGTH,
} from './lengths.ts';
import type { MlKem768, MlKemKeyPair } from './mlkem.ts';
import { Secret, unmovedBuffer, wipe } from './secret.ts';

class NobleMlKemKeyPair implements MlKemKeyPair {
  readonly publicKey: Buffer;
  readonly privateKey: Secret;

  constructor({ publicKey, secretKey }: { publicKey: Uint8Array; secretKey: Uint8Array }) {
    this.publicKey = bufferOf(publicKey);
    this.privateKey = new Secret(bufferOf(secretKey));
  }

  wipe(): void {
    this.privateKey.wipe();
  }
}

/** The same bytes as a Buffer. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What `use` makes of random bytes, which are wiped; the library's own would stay in V8's heap. */
function withRandom<T>(length: number, use: (bytes: Uint8Array) => T): T {
  const bytes = unmovedBuffer(length);
  try {
    return use(globalThis.crypto.getRandomValues(bytes));
  } finally {
    wipe(bytes);
  }
}

/**
 * ML-KEM-768 of @noble/post-quantum: some ten times slower than OpenSSL, and not constant-time where JavaScript cannot
 * be. A key pair serves one handshake, so a remote gets one decapsulation out of it, and never its result.
 */
export const nobleMlKem768: MlKem768 = {
  generate: () => withRandom(MLKEM_SEED_LENGTH, (seed) => new NobleMlKemKeyPair(ml_kem768.keygen(seed))),

  fromSeed(seed) {
    assertLength('An ML-KEM seed', seed, MLKEM_SEED_LENGTH);
    return new NobleMlKemKeyPair(ml_kem768.keygen(seed));
  },

  encapsulate(encapsulationKey) {
    assertLength('An ML-KEM-768 encapsulation key', encapsulationKey, MLKEM_PUBLIC_LENGTH);
    try {
      const { cipherText, sharedSecret } = withRandom(MLKEM_MESSAGE_LENGTH, (message) =>
        ml_kem768.encapsulate(encapsulationKey, message),
      );
      return { ciphertext: bufferOf(cipherText), sharedSecret: bufferOf(sharedSecret) };
    } catch (cause) {
      throw new CryptoError('weak-public-key', 'An ML-KEM-768 encapsulation key is not reduced modulo q', {
        cause,
      });
    }
  },

  decapsulate(own, ciphertext) {
    assertLength('An ML-KEM-768 ciphertext', ciphertext, MLKEM_CIPHERTEXT_LENGTH);
    if (!(own instanceof NobleMlKemKeyPair)) {
      throw new CryptoError(
        'foreign-key',
        'An ML-KEM key pair of another provider was handed to the noble one',
      );
    }
    return bufferOf(ml_kem768.decapsulate(ciphertext, own.privateKey.bytes));
  },
};
