import type { CryptoProvider } from '../crypto/provider.ts';
import { IdentityError } from '../identity/errors.ts';
import type { LocalIdentity } from '../identity/local.ts';
import type { PeerIdentity } from '../identity/peer.ts';
import { HandshakeError } from './errors.ts';
import {
  decodeIdentityPayload,
  encodeIdentityPayload,
  type IdentityPayload,
  type PayloadSender,
} from './identitypayload.ts';

const PAD = Buffer.alloc(64, 0x20);
const LABELS: Readonly<Record<PayloadSender, Buffer>> = {
  initiator: Buffer.from('HBK1 identity, initiator\0', 'latin1'),
  responder: Buffer.from('HBK1 identity, responder\0', 'latin1'),
};

/** Verifies chains against one trust domain's bundle; TrustBundle is one. */
export interface ChainVerifier {
  /** Another one has another: what one has verified, the next has not. */
  readonly generation: number;
  /** Throws IdentityError. */
  verifyChain(chain: readonly Uint8Array[], nowMs: number): PeerIdentity;
}

/**
 * What the SVID key signs: `0x20 x 64 | label | 0x00 | h | static public key | SHA-256(leaf)`. It binds role,
 * transcript (h just before the payload is encrypted), the Noise static key and the certificate.
 */
export function signedData(
  crypto: CryptoProvider,
  signer: PayloadSender,
  h: Uint8Array,
  staticKey: Uint8Array,
  leaf: Uint8Array,
): Buffer {
  return Buffer.concat([PAD, LABELS[signer], h, staticKey, crypto.sha256(leaf)]);
}

/** What a handshake's two ends say besides who they are. */
export interface Announcement {
  readonly expectedPeer: string | undefined;
  readonly maxRecord: number;
  readonly instance: Buffer | undefined;
}

/** The identity payload of `signer`, for the message whose payload h precedes. */
export function proveIdentity(
  crypto: CryptoProvider,
  signer: PayloadSender,
  identity: LocalIdentity,
  h: Uint8Array,
  staticKey: Uint8Array,
  announcement: Announcement,
): Buffer {
  const data = signedData(crypto, signer, h, staticKey, identity.chain[0] as Buffer);
  return encodeIdentityPayload({
    chain: identity.chain,
    signatureAlgorithm: identity.signatureAlgorithm,
    signature: identity.sign(data),
    ...announcement,
  });
}

export interface ProvenPeer {
  readonly peer: PeerIdentity;
  readonly payload: IdentityPayload;
}

/**
 * Verifies the identity payload of `signer`: its form, its chain, its signature. Throws HandshakeError
 * `bad-identity-payload`, `no-certificate`, `untrusted-peer` or `bad-signature`.
 */
export function verifyIdentity(
  crypto: CryptoProvider,
  signer: PayloadSender,
  bytes: Buffer,
  h: Uint8Array,
  staticKey: Uint8Array,
  verifier: ChainVerifier,
  nowMs: number,
): ProvenPeer {
  const payload = decodeIdentityPayload(bytes, signer);
  const peer = verifiedChain(payload.chain, verifier, nowMs);
  const data = signedData(crypto, signer, h, staticKey, payload.chain[0] as Buffer);
  if (!peer.verifySignature(payload.signatureAlgorithm, data, payload.signature)) {
    throw new HandshakeError(
      'bad-signature',
      `Whoever showed the certificate of ${peer.spiffeId} has not signed this handshake with its key`,
    );
  }
  return { peer, payload };
}

/** The owner of a chain, leaf first. Throws HandshakeError `untrusted-peer`. */
export function verifiedChain(
  chain: readonly Uint8Array[],
  verifier: ChainVerifier,
  nowMs: number,
): PeerIdentity {
  try {
    return verifier.verifyChain(chain, nowMs);
  } catch (cause) {
    if (!(cause instanceof IdentityError)) throw cause;
    throw new HandshakeError(
      'untrusted-peer',
      `The peer's certificate is refused, ${cause.code}: ${cause.message}`,
      {
        cause,
      },
    );
  }
}
