import type { KeyObject } from 'node:crypto';
import type { Secret } from './secret.ts';

/** A key pair of the ML-KEM-768 that made it. */
export interface MlKemKeyPair {
  /** The encapsulation key: 1,184 bytes. */
  readonly publicKey: Buffer;
  /** The decapsulation key, for the ML-KEM-768 that made it only; prints no key material. */
  readonly privateKey: Secret | KeyObject;
  /** Makes the pair unusable. Zeroes the private key, or (native) gives it up to OpenSSL, which cleanses it on collection. */
  wipe(): void;
}

/** ML-KEM-768 (FIPS 203), with its input checks. Errors are CryptoError. */
export interface MlKem768 {
  generate(): MlKemKeyPair;
  /** ML-KEM.KeyGen_internal (section 6.1); `seed`: d || z, 64 bytes, copied. For published vectors. */
  fromSeed(seed: Uint8Array): MlKemKeyPair;
  /**
   * For an encapsulation key of the remote. The caller wipes the shared secret (32 bytes); the ciphertext has 1,088.
   * Throws `weak-public-key` if the key fails the modulus check (section 7.2).
   */
  encapsulate(encapsulationKey: Uint8Array): { ciphertext: Buffer; sharedSecret: Buffer };
  /**
   * The 32-byte shared secret, which the caller wipes. A ciphertext that was made for another key, or changed, gives
   * a secret that nobody else knows (implicit rejection): only what is done with it shows that.
   */
  decapsulate(own: MlKemKeyPair, ciphertext: Uint8Array): Buffer;
}
