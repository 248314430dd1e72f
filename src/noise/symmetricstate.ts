import { HASH_LENGTH, KEY_LENGTH, TAG_LENGTH } from '../crypto/lengths.ts';
import type { CryptoProvider } from '../crypto/provider.ts';
import { Secret, wipe } from '../crypto/secret.ts';
import { CipherState } from './cipherstate.ts';

const EMPTY = Buffer.alloc(0);

/** The chaining key, the handshake hash and the current key of a handshake (Noise, section 5.2). */
export class SymmetricState {
  readonly #crypto: CryptoProvider;
  #ck: Secret;
  #h: Buffer;
  #cipher: CipherState | undefined;

  /** InitializeSymmetric. */
  constructor(crypto: CryptoProvider, protocolName: string) {
    this.#crypto = crypto;
    const name = Buffer.from(protocolName, 'ascii');
    this.#h = name.length <= HASH_LENGTH ? padded(name) : crypto.sha256(name);
    this.#ck = Secret.copyOf(this.#h);
  }

  /** A copy of h. */
  get handshakeHash(): Buffer {
    return Buffer.from(this.#h);
  }

  /** How much longer EncryptAndHash makes its plaintext now: a tag, once there is a key. */
  get overhead(): number {
    return this.#cipher === undefined ? 0 : TAG_LENGTH;
  }

  /** Wipes `inputKeyMaterial`. */
  mixKey(inputKeyMaterial: Uint8Array): void {
    const okm = this.#hkdf(inputKeyMaterial, 2);
    wipe(inputKeyMaterial);
    this.#setChainingKey(okm.subarray(0, HASH_LENGTH));
    this.#setKey(okm.subarray(HASH_LENGTH));
    wipe(okm);
  }

  mixHash(data: Uint8Array): void {
    this.#h = this.#crypto.sha256(this.#h, data);
  }

  /** Wipes `inputKeyMaterial`. */
  mixKeyAndHash(inputKeyMaterial: Uint8Array): void {
    const okm = this.#hkdf(inputKeyMaterial, 3);
    wipe(inputKeyMaterial);
    this.#setChainingKey(okm.subarray(0, HASH_LENGTH));
    this.mixHash(okm.subarray(HASH_LENGTH, 2 * HASH_LENGTH));
    this.#setKey(okm.subarray(2 * HASH_LENGTH));
    wipe(okm);
  }

  encryptAndHash(plaintext: Uint8Array): Buffer {
    const ciphertext =
      this.#cipher === undefined ? Buffer.from(plaintext) : this.#cipher.encryptWithAd(this.#h, plaintext);
    this.mixHash(ciphertext);
    return ciphertext;
  }

  /** Throws NoiseError `authentication-failed`, with the state as it was. Returns a buffer of its own. */
  decryptAndHash(ciphertext: Uint8Array): Buffer {
    const plaintext =
      this.#cipher === undefined ? Buffer.from(ciphertext) : this.#cipher.decryptWithAd(this.#h, ciphertext);
    this.mixHash(ciphertext);
    return plaintext;
  }

  /**
   * Split with a third HKDF output: `[initiator to responder, responder to initiator]`, and an exporter secret that
   * the caller owns and wipes. Wipes this state's keys; only handshakeHash remains.
   */
  split(): { ciphers: [CipherState, CipherState]; exporter: Secret } {
    const okm = this.#hkdf(EMPTY, 3);
    const first = new CipherState(this.#crypto, okm.subarray(0, KEY_LENGTH));
    const second = new CipherState(this.#crypto, okm.subarray(HASH_LENGTH, HASH_LENGTH + KEY_LENGTH));
    const exporter = Secret.copyOf(okm.subarray(2 * HASH_LENGTH));
    wipe(okm);
    this.wipe();
    return { ciphers: [first, second], exporter };
  }

  wipe(): void {
    this.#ck.wipe();
    this.#cipher?.wipe();
  }

  /** HKDF(ck, inputKeyMaterial, outputs), section 4.3; the outputs joined. */
  #hkdf(inputKeyMaterial: Uint8Array, outputs: 2 | 3): Buffer {
    const prk = this.#crypto.hkdfExtract(this.#ck.bytes, inputKeyMaterial);
    const okm = this.#crypto.hkdfExpand(prk, EMPTY, outputs * HASH_LENGTH);
    wipe(prk);
    return okm;
  }

  #setChainingKey(ck: Uint8Array): void {
    this.#ck.wipe();
    this.#ck = Secret.copyOf(ck);
  }

  #setKey(key: Uint8Array): void {
    this.#cipher?.wipe();
    this.#cipher = new CipherState(this.#crypto, key);
  }
}

function padded(name: Buffer): Buffer {
  return Buffer.concat([name], HASH_LENGTH);
}
