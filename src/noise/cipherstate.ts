import { CryptoError } from '../crypto/errors.ts';
import { KEY_LENGTH, NONCE_LENGTH, TAG_LENGTH } from '../crypto/lengths.ts';
import type { Aead, CryptoProvider } from '../crypto/provider.ts';
import { wipe } from '../crypto/secret.ts';
import { NoiseError } from './errors.ts';

export const MAX_MESSAGE_LENGTH = 65_535; // bytes (Noise, section 3)

// The AESGCM nonce (section 12.4): 32 zero bits, then n as a 64-bit big-endian integer.
const NONCE_HIGH = 4; // offset of the upper 32 bits of n
const NONCE_LOW = 8; // offset of the lower 32 bits of n
const TWO_TO_32 = 2 ** 32;

/** Nonces from here on are not used: a JavaScript number does not count further. Far below the reserved 2^64-1. */
const NONCE_LIMIT = Number.MAX_SAFE_INTEGER;
/** 2^64-1 (section 4.2). */
const REKEY_NONCE = Buffer.from('00000000ffffffffffffffff', 'hex');

const EMPTY = Buffer.alloc(0);

/**
 * A key and the counter of its nonces (Noise, section 5.1), for one direction. It always has a key: before the first
 * MixKey a SymmetricState has no CipherState.
 */
export class CipherState {
  readonly #crypto: CryptoProvider;
  #aead: Aead | undefined;
  #n: number;
  readonly #nonce = Buffer.alloc(NONCE_LENGTH);

  /** `key`: 32 bytes, copied; the caller wipes its own. `n`: the first nonce, 0 except in tests. */
  constructor(crypto: CryptoProvider, key: Uint8Array, n = 0) {
    this.#crypto = crypto;
    this.#aead = crypto.aes256gcm(key);
    this.#n = n;
  }

  /** The nonce of the next message: how many there have been, over all rekeys. */
  get n(): number {
    return this.#n;
  }

  get wiped(): boolean {
    return this.#aead === undefined;
  }

  /** Returns ciphertext || tag in a buffer of its own. */
  encryptWithAd(ad: Uint8Array, plaintext: Uint8Array): Buffer {
    const out = Buffer.allocUnsafe(plaintext.length + TAG_LENGTH);
    this.#seal(ad, plaintext, out, 0);
    return out;
  }

  /**
   * Writes ciphertext || tag, with empty associated data, to `out` from `at` on and returns the offset after it.
   * `plaintext` may be the very bytes that are overwritten.
   */
  encryptInto(plaintext: Uint8Array, out: Buffer, at: number): number {
    return this.#seal(EMPTY, plaintext, out, at);
  }

  /**
   * Returns the plaintext in a buffer of its own. `authentication-failed` leaves the state as it was, as section 5.1
   * has it; whether there is a second try is the caller's matter.
   */
  decryptWithAd(ad: Uint8Array, ciphertextAndTag: Uint8Array): Buffer {
    if (ciphertextAndTag.length > MAX_MESSAGE_LENGTH) throw tooLong('remote', ciphertextAndTag.length);
    const aead = this.#usable();
    try {
      const plaintext = aead.open(this.#nonce, ad, ciphertextAndTag);
      this.#n += 1;
      return plaintext;
    } catch (cause) {
      if (!(cause instanceof CryptoError && cause.code === 'authentication-failed')) throw cause;
      throw new NoiseError(
        'authentication-failed',
        'remote',
        `Message ${this.#n} under this key does not authenticate`,
        { cause },
      );
    }
  }

  /** decryptWithAd with empty associated data. */
  decrypt(ciphertextAndTag: Uint8Array): Buffer {
    return this.decryptWithAd(EMPTY, ciphertextAndTag);
  }

  /** REKEY (sections 4.2 and 11.3): the key is replaced, n goes on. */
  rekey(): void {
    const old = this.#live();
    const sealed = old.seal(REKEY_NONCE, EMPTY, Buffer.alloc(KEY_LENGTH));
    this.#aead = this.#crypto.aes256gcm(sealed.subarray(0, KEY_LENGTH));
    wipe(sealed);
    old.wipe();
  }

  /** Every later use throws `cipher-wiped`. */
  wipe(): void {
    this.#aead?.wipe();
    this.#aead = undefined;
  }

  #seal(ad: Uint8Array, plaintext: Uint8Array, out: Buffer, at: number): number {
    const length = plaintext.length + TAG_LENGTH;
    if (length > MAX_MESSAGE_LENGTH) throw tooLong('local', length);
    const aead = this.#usable();
    // Counted before it is used, so that no failure, whatever its cause, can use a nonce twice.
    this.#n += 1;
    return aead.sealInto(this.#nonce, ad, plaintext, out, at);
  }

  /** The key, with #nonce set to n. */
  #usable(): Aead {
    const aead = this.#live();
    const n = this.#n;
    if (n >= NONCE_LIMIT) {
      throw new NoiseError('nonce-exhausted', 'local', `A cipher state has used its ${NONCE_LIMIT} nonces`);
    }
    this.#nonce.writeUInt32BE(Math.floor(n / TWO_TO_32), NONCE_HIGH);
    this.#nonce.writeUInt32BE(n % TWO_TO_32, NONCE_LOW);
    return aead;
  }

  #live(): Aead {
    if (this.#aead !== undefined) return this.#aead;
    throw new NoiseError(
      'cipher-wiped',
      'local',
      'A cipher state was used after wipe(), or in the direction that a one-way pattern does not have',
    );
  }
}

function tooLong(side: 'local' | 'remote', length: number): NoiseError {
  return new NoiseError(
    'message-too-long',
    side,
    `A Noise message has at most ${MAX_MESSAGE_LENGTH} bytes, not ${length}`,
  );
}
