import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  randomBytes,
  verify,
} from 'node:crypto';
import { discard } from './discard.ts';
import { CryptoError } from './errors.ts';
import {
  assertHkdfLength,
  assertLength,
  endInside,
  HASH_LENGTH,
  KEY_LENGTH,
  NONCE_LENGTH,
  TAG_LENGTH,
  X25519_LENGTH,
} from './lengths.ts';
import { hmacSha256, sha256 } from './nativehash.ts';
import type { Aead, CryptoProvider, SignatureAlgorithm, X25519KeyPair } from './provider.ts';
import { unmovedBuffer, wipe } from './secret.ts';
import { rawPublicKey } from './spki.ts';

/** PKCS #8 up to the 32 bytes of an X25519 private key (RFC 8410, section 7). */
const X25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');

const ZERO_SALT = Buffer.alloc(HASH_LENGTH);
const EMPTY = Buffer.alloc(0);
const TAG_OPTIONS = { authTagLength: TAG_LENGTH };

class NativeKeyPair implements X25519KeyPair {
  readonly publicKey: Buffer;
  #privateKey: KeyObject | undefined;

  constructor(privateKey: KeyObject, publicKey: JsonWebKey) {
    this.#privateKey = privateKey;
    this.publicKey = Buffer.from(publicKey.x as string, 'base64url');
  }

  get privateKey(): KeyObject {
    if (this.#privateKey === undefined) {
      throw new CryptoError('key-wiped', 'An X25519 key pair was used after it had been wiped');
    }
    return this.#privateKey;
  }

  wipe(): void {
    this.#privateKey = undefined;
  }
}

class NativeAead implements Aead {
  #key: KeyObject | undefined;

  constructor(key: Uint8Array) {
    assertLength('An AES-256-GCM key', key, KEY_LENGTH);
    this.#key = createSecretKey(key);
  }

  seal(nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array): Buffer {
    const out = Buffer.allocUnsafe(plaintext.length + TAG_LENGTH);
    wipe(this.#seal(nonce, ad, plaintext, out, 0)); // REKEY makes a key of what is returned
    return out;
  }

  sealInto(nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array, out: Buffer, at: number): number {
    discard(this.#seal(nonce, ad, plaintext, out, at));
    return at + plaintext.length + TAG_LENGTH;
  }

  /** Writes ciphertext and tag to `out`; returns the buffer in which OpenSSL gave the ciphertext. */
  #seal(nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array, out: Buffer, at: number): Buffer {
    const key = this.#usable(nonce);
    const end = endInside(out, at, plaintext.length + TAG_LENGTH);
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    if (ad.length > 0) cipher.setAAD(ad);
    const ciphertext = plaintext.length > 0 ? cipher.update(plaintext) : EMPTY;
    out.set(ciphertext, at);
    cipher.final();
    out.set(cipher.getAuthTag(), end - TAG_LENGTH);
    return ciphertext;
  }

  open(nonce: Uint8Array, ad: Uint8Array, ciphertextAndTag: Uint8Array): Buffer {
    const key = this.#usable(nonce);
    const length = ciphertextAndTag.length - TAG_LENGTH;
    if (length < 0) throw authenticationFailed(undefined);
    // The explicit length makes OpenSSL refuse every tag but a whole one.
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, TAG_OPTIONS);
    if (ad.length > 0) decipher.setAAD(ad);
    decipher.setAuthTag(ciphertextAndTag.subarray(length));
    const plaintext = length > 0 ? decipher.update(ciphertextAndTag.subarray(0, length)) : EMPTY;
    try {
      decipher.final();
    } catch (cause) {
      wipe(plaintext);
      throw authenticationFailed(cause);
    }
    return plaintext;
  }

  wipe(): void {
    this.#key = undefined;
  }

  #usable(nonce: Uint8Array): KeyObject {
    if (this.#key === undefined)
      throw new CryptoError('key-wiped', 'An AES key was used after it had been wiped');
    assertLength('An AES-256-GCM nonce', nonce, NONCE_LENGTH);
    return this.#key;
  }
}

function authenticationFailed(cause?: unknown): CryptoError {
  return new CryptoError(
    'authentication-failed',
    'A ciphertext does not authenticate under its key and nonce',
    {
      cause,
    },
  );
}

/** RFC 5869, section 2.3. node:crypto's hkdf cannot expand without extracting. */
function hkdfExpand(prk: Uint8Array, info: Uint8Array, length: number): Buffer {
  assertHkdfLength(length);
  const okm = unmovedBuffer(length);
  let block: Buffer = EMPTY;
  for (let at = 0, counter = 1; at < length; at += HASH_LENGTH, counter++) {
    const next = hmacSha256(prk, block, info, Buffer.of(counter));
    wipe(block);
    block = next;
    block.copy(okm, at);
  }
  wipe(block);
  return okm;
}

function dh(own: X25519KeyPair, remotePublic: Uint8Array): Buffer {
  assertLength('An X25519 public key', remotePublic, X25519_LENGTH);
  if (!(own instanceof NativeKeyPair)) {
    throw new CryptoError(
      'foreign-key',
      'An X25519 key pair of another provider was handed to the native one',
    );
  }
  const { privateKey } = own;
  try {
    const x = base64url(remotePublic);
    const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
    const shared = diffieHellman({ privateKey, publicKey });
    if (isAllZero(shared)) throw weakPublicKey();
    return shared;
  } catch (cause) {
    // OpenSSL refuses an all-zero result itself; the check above is for a library in its place that does not.
    throw cause instanceof CryptoError ? cause : weakPublicKey(cause);
  }
}

function weakPublicKey(cause?: unknown): CryptoError {
  return new CryptoError('weak-public-key', 'The X25519 result with the remote public key is all zero', {
    cause,
  });
}

/** In constant time. */
function isAllZero(bytes: Uint8Array): boolean {
  let or = 0;
  for (let i = 0; i < bytes.length; i++) or |= bytes[i]!;
  return or === 0;
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}

/** OpenSSL decodes both signature forms strictly; the key comes as JWK, which is ten times as fast as SPKI. */
function verifySignature(
  algorithm: SignatureAlgorithm,
  publicKeySpki: Uint8Array,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  const raw = rawPublicKey(algorithm, publicKeySpki);
  if (raw === undefined) return false;
  const jwk =
    algorithm === 'ed25519'
      ? { kty: 'OKP', crv: 'Ed25519', x: base64url(raw) }
      : { kty: 'EC', crv: 'P-256', x: base64url(raw.subarray(1, 33)), y: base64url(raw.subarray(33)) };
  try {
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    return verify(algorithm === 'ed25519' ? null : 'sha256', data, key, signature);
  } catch {
    return false;
  }
}

/**
 * Has the generator itself export the public key, instead of publicKey.export({ format: 'jwk' }) afterwards: in Node
 * 20 that holds the key's mutex while it allocates, and a garbage collection just then runs the destructor of the
 * generator's job, which waits for the same mutex on the same thread, for ever. @types/node lacks this encoding.
 */
const generateWithJwk = generateKeyPairSync as unknown as (
  type: 'x25519',
  options: { publicKeyEncoding: { format: 'jwk' } },
) => { privateKey: KeyObject; publicKey: JsonWebKey };

/** node:crypto: OpenSSL with the CPU's AES and carry-less multiplication instructions. */
export const nativeProvider: CryptoProvider = Object.freeze<CryptoProvider>({
  name: 'native',

  generateX25519() {
    const { privateKey, publicKey } = generateWithJwk('x25519', { publicKeyEncoding: { format: 'jwk' } });
    return new NativeKeyPair(privateKey, publicKey);
  },

  x25519FromPrivate(bytes) {
    assertLength('An X25519 private key', bytes, X25519_LENGTH);
    const der = Buffer.concat([X25519_PKCS8_PREFIX, bytes]);
    const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    wipe(der);
    return new NativeKeyPair(privateKey, createPublicKey(privateKey).export({ format: 'jwk' }));
  },

  dh,

  sha256,

  hmacSha256,

  hkdfExtract(salt, ikm) {
    return hmacSha256(salt.length > 0 ? salt : ZERO_SALT, ikm);
  },

  hkdfExpand,

  aes256gcm: (key) => new NativeAead(key),

  verifySignature,

  randomBytes: (length) => randomBytes(length),

  mlkem768: undefined,
});
