import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { DerReader, malformed, Tag } from './der.ts';
import { IdentityError } from './errors.ts';

/** What a certificate's key is. Leaves have P-256 or Ed25519; issuers may have any of them. */
export type KeyType = 'p256' | 'p384' | 'ed25519' | 'rsa';

/** Signature algorithms of the HBK/1 identity payload (TLV 0x82), numbered as in TLS 1.3. */
export const ECDSA_P256_SHA256 = 0x0403;
export const ED25519 = 0x0807;
export type IdentitySignatureAlgorithm = typeof ECDSA_P256_SHA256 | typeof ED25519;

/** The algorithm that a leaf of this key type signs with, or undefined if it cannot be a leaf's. */
export function identityAlgorithmOf(type: KeyType): IdentitySignatureAlgorithm | undefined {
  if (type === 'p256') return ECDSA_P256_SHA256;
  return type === 'ed25519' ? ED25519 : undefined;
}

/** The hash that node:crypto is to be told for an identity signature; Ed25519 has its own. */
export function digestOf(algorithm: IdentitySignatureAlgorithm): 'sha256' | null {
  return algorithm === ECDSA_P256_SHA256 ? 'sha256' : null;
}

export interface SignatureAlgorithm {
  readonly name: string;
  readonly digest: 'sha256' | 'sha384' | 'sha512' | null;
  readonly keys: readonly KeyType[];
  readonly parameters: 'absent' | 'null';
}

const EC_KEYS = ['p256', 'p384'] as const;

/** By the hex of the OID: RFC 5758 3.2, RFC 8410 3, RFC 4055 5. SHA-1 and RSA-PSS are not among them. */
const SIGNATURE_ALGORITHMS: Readonly<Record<string, SignatureAlgorithm>> = {
  '2a8648ce3d040302': { name: 'ecdsa-sha256', digest: 'sha256', keys: EC_KEYS, parameters: 'absent' },
  '2a8648ce3d040303': { name: 'ecdsa-sha384', digest: 'sha384', keys: EC_KEYS, parameters: 'absent' },
  '2b6570': { name: 'ed25519', digest: null, keys: ['ed25519'], parameters: 'absent' },
  '2a864886f70d01010b': { name: 'rsa-sha256', digest: 'sha256', keys: ['rsa'], parameters: 'null' },
  '2a864886f70d01010c': { name: 'rsa-sha384', digest: 'sha384', keys: ['rsa'], parameters: 'null' },
  '2a864886f70d01010d': { name: 'rsa-sha512', digest: 'sha512', keys: ['rsa'], parameters: 'null' },
};

const OID_EC_PUBLIC_KEY = '2a8648ce3d0201';
const OID_RSA = '2a864886f70d010101';
const OID_ED25519 = '2b6570';
const CURVES: Readonly<Record<string, { type: KeyType; pointBytes: number }>> = {
  '2a8648ce3d030107': { type: 'p256', pointBytes: 65 },
  '2b81040022': { type: 'p384', pointBytes: 97 },
};
const UNCOMPRESSED = 0x04;
const RSA_MIN_BITS = 2048;
const RSA_MAX_BITS = 8192; // beyond, a verification costs too much to be asked for by a stranger
const RSA_MAX_EXPONENT_BYTES = 4;

const unsupported = (what: string): never => {
  throw new IdentityError('unsupported-algorithm', what);
};

/** Reads the contents of an AlgorithmIdentifier that names a signature algorithm. */
export function readSignatureAlgorithm(reader: DerReader): SignatureAlgorithm {
  const oid = reader.oid();
  const algorithm = Object.hasOwn(SIGNATURE_ALGORITHMS, oid) ? SIGNATURE_ALGORITHMS[oid] : undefined;
  if (algorithm === undefined) {
    return unsupported(
      `signed with an algorithm (OID in hex ${oid}) other than ECDSA with SHA-256 or SHA-384, Ed25519 and RSA PKCS #1 with SHA-2`,
    );
  }
  if (algorithm.parameters === 'null' && reader.contents(Tag.NULL).length > 0)
    malformed('a NULL has contents');
  reader.end();
  return algorithm;
}

/** The kind of key in a SubjectPublicKeyInfo; `spki` is the whole element. Named curves and whole points only. */
export function readKeyType(spki: Buffer): KeyType {
  const outer = new DerReader(spki);
  const info = outer.enter(Tag.SEQUENCE);
  outer.end();
  const identifier = info.enter(Tag.SEQUENCE);
  const oid = identifier.oid();
  if (oid === OID_ED25519) {
    identifier.end();
    const key = info.octetsOfBitString();
    info.end();
    if (key.length !== 32) malformed('an Ed25519 key is not 32 bytes long');
    return 'ed25519';
  }
  if (oid === OID_EC_PUBLIC_KEY) {
    if (identifier.nextTag !== Tag.OID) unsupported('an elliptic curve that is not given by its name');
    const name = identifier.oid();
    identifier.end();
    const curve = Object.hasOwn(CURVES, name) ? CURVES[name] : undefined;
    if (curve === undefined) return unsupported('an elliptic curve other than P-256 and P-384');
    const point = info.octetsOfBitString();
    info.end();
    if (point.length !== curve.pointBytes || point[0] !== UNCOMPRESSED) {
      malformed('an elliptic-curve key is not an uncompressed point');
    }
    return curve.type;
  }
  if (oid === OID_RSA) {
    if (identifier.contents(Tag.NULL).length > 0) malformed('a NULL has contents');
    identifier.end();
    const bits = new DerReader(info.octetsOfBitString());
    info.end();
    const key = bits.enter(Tag.SEQUENCE);
    bits.end();
    checkRsa(key.unsignedInteger(), key.unsignedInteger());
    key.end();
    return 'rsa';
  }
  return unsupported('a public key other than P-256, P-384, Ed25519 and RSA');
}

function checkRsa(modulus: Buffer, exponent: Buffer): void {
  const significant = modulus[0] === 0 ? modulus.subarray(1) : modulus;
  const bits = significant.length * 8 - Math.clz32(significant[0] ?? 0) + 24;
  if (bits < RSA_MIN_BITS || bits > RSA_MAX_BITS) {
    unsupported(`an RSA key of ${bits} bits; ${RSA_MIN_BITS} to ${RSA_MAX_BITS} are accepted`);
  }
  const value = exponent.length > RSA_MAX_EXPONENT_BYTES ? 0 : Number.parseInt(exponent.toString('hex'), 16);
  if (value < 3 || value % 2 === 0) unsupported('an RSA key with a bad public exponent');
}

/** The public key in a SubjectPublicKeyInfo that `readKeyType` has accepted. */
export function importPublicKey(spki: Buffer): KeyObject {
  try {
    return createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new IdentityError('malformed-certificate', 'the public key is not valid', { cause });
  }
}

/** Whether `signature` is one by `key` over `data`. False for anything that OpenSSL does not even parse. */
export function signatureHolds(
  digest: string | null,
  data: Uint8Array,
  key: KeyObject,
  signature: Uint8Array,
): boolean {
  try {
    return verify(digest, data, key, signature);
  } catch {
    return false;
  }
}
