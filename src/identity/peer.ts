import { createHash, type KeyObject } from 'node:crypto';
import {
  digestOf,
  type IdentitySignatureAlgorithm,
  identityAlgorithmOf,
  signatureHolds,
} from './algorithm.ts';
import type { Certificate } from './certificate.ts';
import type { ValidPath } from './chain.ts';

/** Who a peer is, from a chain that has been validated. Immutable; all connections of a peer share one. */
export interface PeerIdentity {
  readonly spiffeId: string;
  readonly trustDomain: string;
  /** The earliest end of validity in the path, the CA of the bundle included; milliseconds since the epoch. */
  readonly notAfter: number;
  readonly leafSha256: Buffer;
  /** DER, leaf first, as the peer sent it. */
  readonly chain: readonly Buffer[];
  /**
   * Whether `signature` is by the leaf's key over `data`: 0x0403 is ECDSA P-256 with SHA-256, in DER; 0x0807 is
   * Ed25519. False if the algorithm is another than that of the leaf's key. Never throws.
   */
  verifySignature(algorithm: number, data: Uint8Array, signature: Uint8Array): boolean;
}

class ValidatedPeer implements PeerIdentity {
  readonly spiffeId: string;
  readonly trustDomain: string;
  readonly notAfter: number;
  readonly leafSha256: Buffer;
  readonly chain: readonly Buffer[];
  readonly #algorithm: IdentitySignatureAlgorithm;
  readonly #key: KeyObject;

  constructor(chain: readonly Certificate[], { spiffeId, leaf, notAfter }: ValidPath) {
    this.spiffeId = spiffeId.id;
    this.trustDomain = spiffeId.trustDomain;
    this.notAfter = notAfter;
    this.leafSha256 = createHash('sha256').update(leaf.der).digest();
    this.chain = Object.freeze(chain.map(({ der }) => der));
    this.#algorithm = identityAlgorithmOf(leaf.keyType) as IdentitySignatureAlgorithm; // validatePath saw to it
    this.#key = leaf.publicKey();
    Object.freeze(this);
  }

  verifySignature(algorithm: number, data: Uint8Array, signature: Uint8Array): boolean {
    if (algorithm !== this.#algorithm) return false;
    return signatureHolds(digestOf(this.#algorithm), data, this.#key, signature);
  }
}

/** Throws IdentityError if the leaf's key is not one. */
export function peerIdentity(chain: readonly Certificate[], path: ValidPath): PeerIdentity {
  return new ValidatedPeer(chain, path);
}
