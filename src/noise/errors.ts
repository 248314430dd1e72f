/**
 * What can go wrong in src/noise. Caused by the remote (or the network), each fatal to the handshake:
 *
 * - `message-too-short`: a message ends before the fields of its pattern do.
 * - `message-too-long`: more than 65,535 bytes (Noise, section 3). With side `local`: what was to be sent.
 * - `authentication-failed`: a ciphertext does not authenticate. Fatal to a handshake; a CipherState stays as it was.
 * - `weak-public-key`: a Diffie-Hellman result was all zero, or a KEM's public key is none.
 * - `own-public-key`: the remote's static or ephemeral key is one of our own: a reflection.
 *
 * Caused by the caller:
 *
 * - `unknown-protocol`: a protocol name that is malformed or not supported.
 * - `missing-key`, `unexpected-key`: keys or PSKs given to a handshake do not fit its pattern.
 * - `out-of-turn`: a message written where one is to be read, or the reverse, or after the last; nothing changed.
 * - `not-finished`: split before the last message, or twice; nothing changed.
 * - `handshake-dead`: use of a handshake after a failed message or wipe().
 * - `nonce-exhausted`: a cipher state has used all its nonces; it encrypts and decrypts no more.
 * - `cipher-wiped`: use of a cipher state after wipe(), or of the direction that a one-way pattern does not have.
 */
export type NoiseErrorCode =
  | 'message-too-short'
  | 'message-too-long'
  | 'authentication-failed'
  | 'weak-public-key'
  | 'own-public-key'
  | 'unknown-protocol'
  | 'missing-key'
  | 'unexpected-key'
  | 'out-of-turn'
  | 'not-finished'
  | 'handshake-dead'
  | 'nonce-exhausted'
  | 'cipher-wiped';

export class NoiseError extends Error {
  override readonly name = 'NoiseError';
  readonly code: NoiseErrorCode;
  /** Who caused it: `remote` is also what the network did to the remote's bytes. */
  readonly side: 'local' | 'remote';

  constructor(
    code: NoiseErrorCode,
    side: 'local' | 'remote',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.code = code;
    this.side = side;
  }
}
