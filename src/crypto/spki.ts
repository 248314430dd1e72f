import type { SignatureAlgorithm } from './provider.ts';

/** SubjectPublicKeyInfo up to the 32 bytes of an Ed25519 key (RFC 8410, section 4): 1.3.101.112, no parameters. */
const ED25519_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const ED25519_KEY_LENGTH = 32; // bytes: y with the sign of x on top (RFC 8032, section 5.1.2)

/** SubjectPublicKeyInfo up to the 65 bytes of a P-256 point (RFC 5480, section 2): id-ecPublicKey, secp256r1. */
const P256_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');
const P256_POINT_LENGTH = 65; // bytes: 0x04 | x[32] | y[32] (SEC 1, section 2.3.3)
const UNCOMPRESSED = 0x04;

/**
 * The y coordinates of the Ed25519 points of order 1, 2, 4 and 8, canonical or not, little-endian without the sign
 * bit. Under such a public key one signature fits many messages, so it identifies nobody.
 */
const ED25519_SMALL_ORDER = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]);

/**
 * The raw public key in a DER SubjectPublicKeyInfo: 32 bytes for Ed25519, 65 for P-256 (uncompressed). A view of
 * `spki`. Undefined for anything but the one DER encoding of a named-curve key of that algorithm, and for Ed25519
 * points of small order; whether the point is on the curve is left to the provider.
 */
export function rawPublicKey(algorithm: SignatureAlgorithm, spki: Uint8Array): Buffer | undefined {
  const der = Buffer.from(spki.buffer, spki.byteOffset, spki.byteLength);
  if (algorithm === 'ed25519') {
    const key = afterPrefix(der, ED25519_PREFIX, ED25519_KEY_LENGTH);
    return key !== undefined && !isSmallOrder(key) ? key : undefined;
  }
  const point = afterPrefix(der, P256_PREFIX, P256_POINT_LENGTH);
  return point?.[0] === UNCOMPRESSED ? point : undefined;
}

function afterPrefix(der: Buffer, prefix: Buffer, length: number): Buffer | undefined {
  if (der.length !== prefix.length + length) return undefined;
  return der.compare(prefix, 0, prefix.length, 0, prefix.length) === 0
    ? der.subarray(prefix.length)
    : undefined;
}

function isSmallOrder(key: Buffer): boolean {
  const y = Buffer.from(key);
  y[ED25519_KEY_LENGTH - 1]! &= 0x7f;
  return ED25519_SMALL_ORDER.has(y.toString('hex'));
}
