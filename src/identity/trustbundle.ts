import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Certificate } from './certificate.ts';
import { parseCertificate } from './certificate.ts';
import { checkChainSize, checkIssuer, parseChain, signed, validatePath } from './chain.ts';
import { IdentityError } from './errors.ts';
import { type PeerIdentity, peerIdentity } from './peer.ts';
import { certificatesIn } from './pem.ts';
import { parseTrustDomain } from './spiffeid.ts';

const MAX_ANCHORS = 64;
const CACHE_BYTES = 4 * 1024 * 1024; // some 1,600 peers
const ENTRY_OVERHEAD = 2048; // bytes: a key object, strings and the entry itself

export interface TrustBundleOptions {
  trustDomain: string;
  /** DER of the CA certificates. */
  certificates: readonly Uint8Array[];
  /** Counts the bundles of a process: a reloaded one gets a higher number. Default 1. */
  generation?: number;
}

interface CachedPath {
  readonly peer: PeerIdentity;
  readonly notBefore: number;
  readonly bytes: number;
}

/**
 * The CA certificates that speak for one trust domain. Immutable: a changed bundle is a new object of a higher
 * generation, with an empty cache. Throws IdentityError for a certificate that could not be an issuer.
 */
export class TrustBundle {
  readonly trustDomain: string;
  readonly generation: number;
  readonly #anchors: readonly Certificate[];
  readonly #valid = new LRUCache<string, CachedPath>({
    maxSize: CACHE_BYTES,
    sizeCalculation: ({ bytes }) => bytes + ENTRY_OVERHEAD,
  });

  constructor({ trustDomain, certificates, generation = 1 }: TrustBundleOptions) {
    this.trustDomain = parseTrustDomain(trustDomain);
    this.generation = generation;
    if (certificates.length === 0 || certificates.length > MAX_ANCHORS) {
      throw new IdentityError(
        'bad-bundle',
        `a bundle needs 1 to ${MAX_ANCHORS} CA certificates and has ${certificates.length}`,
      );
    }
    this.#anchors = certificates.map((der, index) => {
      try {
        return readAnchor(der, this.trustDomain);
      } catch (error) {
        throw error instanceof IdentityError
          ? error.at(`certificate ${index + 1} of ${certificates.length} in the bundle`)
          : error;
      }
    });
  }

  /** A bundle from PEM: CERTIFICATE blocks, and text between them. */
  static fromPem(pem: Uint8Array | string, trustDomain: string, generation = 1): TrustBundle {
    const bytes = typeof pem === 'string' ? Buffer.from(pem, 'latin1') : Buffer.from(pem);
    return new TrustBundle({ trustDomain, certificates: certificatesIn(bytes), generation });
  }

  /** Its CA certificates, DER. */
  get certificates(): readonly Buffer[] {
    return this.#anchors.map(({ der }) => der);
  }

  /** When the last of its CA certificates ends; milliseconds since the epoch. */
  get notAfter(): number {
    return Math.max(...this.#anchors.map((anchor) => anchor.notAfter));
  }

  /**
   * Validates a chain of DER certificates, leaf first, at the time `nowMs` (section 5 of the design: at most 4
   * certificates and 12 KiB). Copies what it keeps. A chain that verified is remembered by its SHA-256 and gives
   * the same object again while all of its path is valid; refusals are not remembered. Throws IdentityError.
   */
  verifyChain(chainDer: readonly Uint8Array[], nowMs: number): PeerIdentity {
    checkChainSize(chainDer);
    const key = digestOfChain(chainDer);
    const known = this.#valid.get(key);
    if (known !== undefined) {
      if (nowMs >= known.notBefore && nowMs <= known.peer.notAfter) return known.peer;
      this.#valid.delete(key);
    }
    const chain = parseChain(chainDer);
    const path = validatePath(chain, this.#anchors, this.trustDomain, nowMs);
    const peer = peerIdentity(chain, path);
    const bytes = chain.reduce((sum, { der }) => sum + der.length, 0);
    this.#valid.set(key, { peer, notBefore: path.notBefore, bytes });
    return peer;
  }

  /** Whether the other one trusts the same CA certificates, in whatever order. */
  trustsAs(other: TrustBundle): boolean {
    const own = new Set(this.#anchors.map(({ der }) => der.toString('latin1')));
    const theirs = new Set(other.#anchors.map(({ der }) => der.toString('latin1')));
    return own.size === theirs.size && [...own].every((der) => theirs.has(der));
  }

  /** How many validated chains are remembered. */
  get cached(): number {
    return this.#valid.size;
  }
}

/** A CA certificate for a bundle. It may be out of its validity, which counts when a chain leads to it. */
function readAnchor(der: Uint8Array, trustDomain: string): Certificate {
  const anchor = parseCertificate(der);
  checkIssuer(anchor, 0, trustDomain);
  if (anchor.subject.equals(anchor.issuer) && !signed(anchor, anchor)) {
    throw new IdentityError(
      'bad-signature',
      'its signature is not its own, although it says that it is self-signed',
    );
  }
  return anchor;
}

/** SHA-256 over the certificates, each after its length, so that no two chains share an input. */
function digestOfChain(chainDer: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  const length = Buffer.allocUnsafe(4);
  for (const der of chainDer) {
    length.writeUInt32BE(der.length);
    hash.update(length).update(der);
  }
  return hash.digest('base64');
}
