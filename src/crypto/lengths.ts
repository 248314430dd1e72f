import { CryptoError } from './errors.ts';

export const X25519_LENGTH = 32; // bytes: private key, public key and shared secret
export const HASH_LENGTH = 32; // bytes: SHA-256
export const KEY_LENGTH = 32; // bytes: AES-256
export const NONCE_LENGTH = 12; // bytes: AES-GCM
export const TAG_LENGTH = 16; // bytes: AES-GCM
export const MLKEM_PUBLIC_LENGTH = 1184; // bytes: ML-KEM-768 encapsulation key (FIPS 203, table 3)
export const MLKEM_CIPHERTEXT_LENGTH = 1088; // bytes: ML-KEM-768
export const MLKEM_MESSAGE_LENGTH = 32;
export const MLKEM_SEED_LENGTH = 64; // bytes: d || z
export const HKDF_MAX_LENGTH = 255 * HASH_LENGTH; // bytes: RFC 5869, section 2.3

/** Throws `invalid-length` unless `bytes` has `length` bytes; `what` starts the message. */
export function assertLength(what: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) {
    throw new CryptoError('invalid-length', `${what} has ${length} bytes, not ${bytes.length}`);
  }
}

/** The offset after `length` bytes at `at`; throws `invalid-length` unless they fit into `out`. */
export function endInside(out: Uint8Array, at: number, length: number): number {
  const end = at + length;
  if (!(at >= 0 && end <= out.length)) {
    throw new CryptoError(
      'invalid-length',
      `${length} bytes at ${at} do not fit into ${out.length} bytes of output`,
    );
  }
  return end;
}

/** Throws `invalid-length` unless HKDF-SHA-256 can give `length` bytes. */
export function assertHkdfLength(length: number): void {
  if (!(Number.isSafeInteger(length) && length >= 0 && length <= HKDF_MAX_LENGTH)) {
    throw new CryptoError(
      'invalid-length',
      `HKDF-SHA-256 gives at most ${HKDF_MAX_LENGTH} bytes, not ${length}`,
    );
  }
}
