import type { KeyObject } from 'node:crypto';
import { CryptoError } from './errors.ts';
import type { MlKem768 } from './mlkem.ts';
import { nativeProvider } from './native.ts';
import { nativeMlKem768 } from './nativemlkem.ts';
import type { Secret } from './secret.ts';

export type CryptoProviderName = 'native' | 'noble';
export type SignatureAlgorithm = 'ed25519' | 'ecdsa-p256-sha256';

/** An X25519 key pair of the provider that made it. */
export interface X25519KeyPair {
  /** 32 bytes, RFC 7748. */
  readonly publicKey: Buffer;
  /** For the provider that made it only; prints no key material. */
  readonly privateKey: Secret | KeyObject;
  /** Makes the pair unusable. Zeroes the private key, or (native) gives it up to OpenSSL, which cleanses it on collection. */
  wipe(): void;
}

/** AES-256-GCM under one key, with 12-byte nonces and 16-byte tags. The caller never repeats a nonce. */
export interface Aead {
  /** Returns ciphertext || tag in a buffer of its own. */
  seal(nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array): Buffer;
  /**
   * Writes ciphertext || tag to `out` from `at` on and returns the offset after it. `plaintext` may be the very
   * bytes of `out` that are overwritten. Throws `invalid-length` before anything is written if they do not fit.
   */
  sealInto(nonce: Uint8Array, ad: Uint8Array, plaintext: Uint8Array, out: Buffer, at: number): number;
  /**
   * Returns the plaintext in a buffer of its own, once the tag has been verified; otherwise throws
   * `authentication-failed` and no plaintext leaves.
   */
  open(nonce: Uint8Array, ad: Uint8Array, ciphertextAndTag: Uint8Array): Buffer;
  /** Every later call throws `key-wiped`. */
  wipe(): void;
}

/** The primitives of `25519+MLKEM768_AESGCM_SHA256` and of the identity signature. Errors are CryptoError. */
export interface CryptoProvider {
  readonly name: CryptoProviderName;
  generateX25519(): X25519KeyPair;
  /** `bytes`: 32, copied, clamped as RFC 7748 says. */
  x25519FromPrivate(bytes: Uint8Array): X25519KeyPair;
  /**
   * The 32-byte shared secret, which the caller wipes. Throws `weak-public-key` if it is all zero. Non-canonical
   * public keys are reduced and the top bit is ignored, as RFC 7748, section 5 says.
   */
  dh(own: X25519KeyPair, remotePublic: Uint8Array): Buffer;
  /** SHA-256 of the parts joined. */
  sha256(...parts: readonly Uint8Array[]): Buffer;
  /** HMAC-SHA-256 of the parts joined. */
  hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer;
  /** RFC 5869, section 2.2; an empty salt is 32 zeros. */
  hkdfExtract(salt: Uint8Array, ikm: Uint8Array): Buffer;
  /** RFC 5869, section 2.3; `length` at most 8,160, otherwise `invalid-length`. */
  hkdfExpand(prk: Uint8Array, info: Uint8Array, length: number): Buffer;
  /** `key`: 32 bytes, copied; the caller wipes its own. */
  aes256gcm(key: Uint8Array): Aead;
  /**
   * Whether `signature` over `data` is by the key in the DER SubjectPublicKeyInfo `publicKeySpki`. Never throws on
   * untrusted bytes: whatever does not parse strictly is `false`. Ed25519 signatures are 64 bytes (RFC 8032, S below
   * the order); ECDSA signatures are DER with minimal integers. Both forms of an ECDSA s count as valid, as X.509 has it.
   */
  verifySignature(
    algorithm: SignatureAlgorithm,
    publicKeySpki: Uint8Array,
    data: Uint8Array,
    signature: Uint8Array,
  ): boolean;
  randomBytes(length: number): Buffer;
  /** Undefined unless the provider was loaded with `postQuantum`. */
  readonly mlkem768: MlKem768 | undefined;
}

let noble: CryptoProvider | undefined;

/**
 * Loads a provider; `noble` and its libraries load only on its first use. With `postQuantum` it has ML-KEM-768:
 * `native` that of node:crypto, where the runtime has it (Node 24.7 on), otherwise that of @noble/post-quantum, which
 * only then is loaded.
 */
export async function loadCryptoProvider(
  name: CryptoProviderName,
  { postQuantum = false }: { postQuantum?: boolean } = {},
): Promise<CryptoProvider> {
  if (name === 'noble') noble ??= (await import('./noble.ts')).nobleProvider;
  const provider = cryptoProvider(name);
  if (!postQuantum) return provider;
  const native = name === 'native' ? nativeMlKem768() : undefined;
  const mlkem768 = native ?? (await import('./noblemlkem.ts')).nobleMlKem768;
  return Object.freeze({ ...provider, mlkem768 });
}

/** A provider without ML-KEM that has been loaded: `native` always is, `noble` after loadCryptoProvider('noble'). */
export function cryptoProvider(name: CryptoProviderName): CryptoProvider {
  if (name === 'native') return nativeProvider;
  if (noble === undefined) {
    throw new CryptoError(
      'provider-not-loaded',
      "Await loadCryptoProvider('noble') before cryptoProvider('noble')",
    );
  }
  return noble;
}
