import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { digestOf, type IdentitySignatureAlgorithm, identityAlgorithmOf } from './algorithm.ts';
import { parseCertificate } from './certificate.ts';
import { IdentityError } from './errors.ts';
import type { PeerIdentity } from './peer.ts';
import type { TrustBundle } from './trustbundle.ts';

/** Who this sidecar is: an SVID and the use of its private key, which cannot be read out of it. */
export interface LocalIdentity {
  readonly spiffeId: string;
  readonly trustDomain: string;
  /** The earliest end of validity in the path, the CA of the bundle included; milliseconds since the epoch. */
  readonly notAfter: number;
  /** DER, leaf first. */
  readonly chain: readonly Buffer[];
  readonly signatureAlgorithm: IdentitySignatureAlgorithm;
  /** A signature by the SVID's key: ECDSA P-256 with SHA-256 in DER, or Ed25519. */
  sign(data: Uint8Array): Buffer;
}

class SvidIdentity implements LocalIdentity {
  readonly spiffeId: string;
  readonly trustDomain: string;
  readonly notAfter: number;
  readonly chain: readonly Buffer[];
  readonly signatureAlgorithm: IdentitySignatureAlgorithm;
  readonly #key: KeyObject;

  constructor(svid: PeerIdentity, algorithm: IdentitySignatureAlgorithm, key: KeyObject) {
    this.spiffeId = svid.spiffeId;
    this.trustDomain = svid.trustDomain;
    this.notAfter = svid.notAfter;
    this.chain = svid.chain;
    this.signatureAlgorithm = algorithm;
    this.#key = key;
    Object.freeze(this);
  }

  sign(data: Uint8Array): Buffer {
    return sign(digestOf(this.signatureAlgorithm), data, this.#key);
  }
}

/**
 * Puts a chain (DER, leaf first) and its private key together, after the same checks that any peer will make.
 * Throws IdentityError, `key-mismatch` if the key is not the leaf's.
 */
export function localIdentity(
  chain: readonly Uint8Array[],
  key: KeyObject,
  bundle: TrustBundle,
  nowMs: number,
): LocalIdentity {
  const svid = bundle.verifyChain(chain, nowMs);
  const leaf = parseCertificate(svid.chain[0] as Buffer);
  if (!createPublicKey(key).export({ type: 'spki', format: 'der' }).equals(leaf.spki)) {
    throw new IdentityError('key-mismatch', 'the private key is not that of the certificate');
  }
  return new SvidIdentity(svid, identityAlgorithmOf(leaf.keyType) as IdentitySignatureAlgorithm, key);
}
