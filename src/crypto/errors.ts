/**
 * What can go wrong in src/crypto.
 *
 * - `authentication-failed`: an AEAD tag did not verify. Caused by the remote (or the network); fatal to the key's connection.
 * - `weak-public-key`: a Diffie-Hellman result was all zero, or a public key cannot be used at all. Caused by the remote; fatal.
 * - `invalid-length`: a key, nonce, tag or output has a length that the algorithm does not have. For a remote
 *   public key or ciphertext caused by the remote, otherwise a bug of the caller.
 * - `key-wiped`: a key was used after its wipe(). A bug of the caller.
 * - `foreign-key`: a key pair of one provider was handed to another. A bug of the caller.
 * - `provider-not-loaded`: `cryptoProvider('noble')` before `loadCryptoProvider('noble')` was awaited, or ML-KEM asked of
 *   a provider that was loaded without it. A bug of the caller.
 */
export type CryptoErrorCode =
  | 'authentication-failed'
  | 'weak-public-key'
  | 'invalid-length'
  | 'key-wiped'
  | 'foreign-key'
  | 'provider-not-loaded';

/** A failure of cryptography, such as the use of a key that has been wiped; `code` says which. */
export class CryptoError extends Error {
  override readonly name = 'CryptoError';
  /** What went wrong. */
  readonly code: CryptoErrorCode;

  constructor(code: CryptoErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
