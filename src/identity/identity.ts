/*
 * SPIFFE identities: what the layers above need. Reading order: spiffeid.ts, der.ts, certificate.ts, chain.ts
 * (path validation, the heart of it), trustbundle.ts, peer.ts and local.ts; then pem.ts, files.ts and load.ts
 * for what lies on disk, and authority.ts for `hauberk init` and `hauberk issue`, which is imported on its own
 * because it loads a library for making certificates.
 */
export { ECDSA_P256_SHA256, ED25519, type IdentitySignatureAlgorithm } from './algorithm.ts';
export { IdentityError, type IdentityErrorCode } from './errors.ts';
export { type IdentityFiles, type LoadedIdentity, loadIdentity } from './load.ts';
export { type LocalIdentity, localIdentity } from './local.ts';
export type { PeerIdentity } from './peer.ts';
export { parseSpiffeId, parseTrustDomain, type SpiffeId } from './spiffeid.ts';
export { TrustBundle } from './trustbundle.ts';
