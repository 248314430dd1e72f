import { gcm } from '@noble/ciphers/aes.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { p256 } from '@noble/curves/nist.js';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { randomBytes } from '@noble/hashes/utils.js';
import { CryptoError } from './errors.ts';
import {
  assertHkdfLength,
  assertLength,
  endInside,
  KEY_LENGTH,
  NONCE_LENGTH,
  TAG_LENGTH,
  X25519_LENGTH,
} from './lengths.ts';
import type { Aead, CryptoProvider, X25519KeyPair } from './provider.ts';
import { Secret } from './secret.ts';
import { rawPublicKey } from './spki.ts';

class NobleKeyPair implements X25519KeyPair {
  readonly publicKey: Buffer;
  readonly privateKey: Secret;

  constructor(privateKey: Secret) {
    this.privateKey = privateKey;
    this.publicKey = bufferOf(x25519.getPublicKey(privateKey.bytes));
  }

  wipe(): void {
    this.privateKey.wipe();
  }
}

class NobleAead implements Aead {
  readonly #key: Secret;

  constructor(key: Uint8Array) {
    assertLength('An AES-256-GCM key', key, KEY_LENGTH);
    this.#key = Secret.copyOf(key);
  }

  seal(nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array): Buffer {
    const key = this.#key.bytes;
    assertLength('An AES-256-GCM nonce', nonce, NONCE_LENGTH);
    return bufferOf(gcm(key, nonce, ad).encrypt(plaintext));
  }

  sealInto(nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array, out: Buffer, at: number): number {
    const end = endInside(out, at, plaintext.length + TAG_LENGTH);
    out.set(this.seal(nonce, ad, plaintext), at);
    return end;
  }

  open(nonce: Uint8Array, ad: Uint8Array, ciphertextAndTag: Uint8Array): Buffer {
    const key = this.#key.bytes;
    assertLength('An AES-256-GCM nonce', nonce, NONCE_LENGTH);
    try {
      return bufferOf(gcm(key, nonce, ad).decrypt(ciphertextAndTag));
    } catch (cause) {
      throw new CryptoError(
        'authentication-failed',
        'A ciphertext does not authenticate under its key and nonce',
        {
          cause,
        },
      );
    }
  }

  wipe(): void {
    this.#key.wipe();
  }
}

/** The same bytes as a Buffer. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function dh(own: X25519KeyPair, remotePublic: Uint8Array): Buffer {
  assertLength('An X25519 public key', remotePublic, X25519_LENGTH);
  if (!(own instanceof NobleKeyPair)) {
    throw new CryptoError(
      'foreign-key',
      'An X25519 key pair of another provider was handed to the noble one',
    );
  }
  const privateKey = own.privateKey.bytes;
  try {
    return bufferOf(x25519.getSharedSecret(privateKey, remotePublic));
  } catch (cause) {
    throw new CryptoError('weak-public-key', 'The X25519 result with the remote public key is all zero', {
      cause,
    });
  }
}

function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
  const mac = hmac.create(sha256, key);
  for (const part of parts) mac.update(part);
  return bufferOf(mac.digest());
}

/**
 * @noble/curves, @noble/ciphers and @noble/hashes: audited, portable JavaScript, for places without OpenSSL and as the
 * twin that tests compare `native` with. 25 to 40 times slower, and not constant-time where JavaScript cannot be.
 */
export const nobleProvider: CryptoProvider = Object.freeze<CryptoProvider>({
  name: 'noble',

  generateX25519: () => new NobleKeyPair(new Secret(bufferOf(x25519.utils.randomSecretKey()))),

  x25519FromPrivate(bytes) {
    assertLength('An X25519 private key', bytes, X25519_LENGTH);
    return new NobleKeyPair(Secret.copyOf(bytes));
  },

  dh,

  sha256(...parts) {
    const hash = sha256.create();
    for (const part of parts) hash.update(part);
    return bufferOf(hash.digest());
  },

  hmacSha256,

  hkdfExtract: (salt, ikm) => bufferOf(extract(sha256, ikm, salt)),

  hkdfExpand(prk, info, length) {
    assertHkdfLength(length);
    return bufferOf(expand(sha256, prk, info, length));
  },

  aes256gcm: (key) => new NobleAead(key),

  verifySignature(algorithm, publicKeySpki, data, signature) {
    const key = rawPublicKey(algorithm, publicKeySpki);
    if (key === undefined) return false;
    try {
      // noble throws where a signature does not parse. Its Ed25519 equation is cofactored and OpenSSL's is not (RFC
      // 8032, section 5.1.7 allows both): they can differ on what a signer crafted from points of mixed order, which
      // only the holder of the private key can do.
      if (algorithm === 'ed25519') return ed25519.verify(signature, data, key, { zip215: false });
      return p256.verify(signature, data, key, { format: 'der', lowS: false });
    } catch {
      return false;
    }
  },

  randomBytes: (length) => bufferOf(randomBytes(length)),

  mlkem768: undefined,
});
