import { identityAlgorithmOf, signatureHolds } from './algorithm.ts';
import { type Certificate, KeyUsage, Purpose, parseCertificate } from './certificate.ts';
import { IdentityError, type IdentityErrorCode, quoted } from './errors.ts';
import { enforceNameConstraints } from './nameconstraints.ts';
import { parseSpiffeId, type SpiffeId } from './spiffeid.ts';

/*
 * The folder, in reading order: spiffeid.ts; der.ts, algorithm.ts, nameconstraints.ts and certificate.ts parse;
 * this file validates; trustbundle.ts, peer.ts and local.ts are what other layers use; pem.ts, files.ts and
 * load.ts read what lies on disk; authority.ts, certificateauthority.ts and x509.ts make it (`hauberk init`,
 * `hauberk issue`).
 *
 * Path validation: RFC 5280 section 6 as far as it applies, and SPIFFE X509-SVID section 5, which is stricter.
 *
 * The path is what the peer sent, leaf first, and above its last certificate one anchor of the bundle. Nothing
 * is searched, reordered or fetched. The whole structure is checked before the first signature is.
 * Policies, CRLs and OCSP are not processed; revocation is by SPIFFE ID, elsewhere.
 */

export const MAX_CHAIN_CERTIFICATES = 4; // HBK/1, TLV 0x81
export const MAX_CHAIN_BYTES = 12 * 1024;

/** A chain that verified, and until when it does. */
export interface ValidPath {
  readonly spiffeId: SpiffeId;
  readonly leaf: Certificate;
  /** The latest notBefore and the earliest notAfter of the path, its anchor included; milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

const refuse = (code: IdentityErrorCode, what: string): never => {
  throw new IdentityError(code, what);
};

/** Runs a check of one certificate; what it throws then says which certificate it was. */
function ofCertificate<T>(place: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw error instanceof IdentityError ? error.at(place) : error;
  }
}

const placeIn = (chain: readonly unknown[], index: number): string =>
  `certificate ${index + 1} of ${chain.length} (${index === 0 ? 'leaf' : 'issuer'})`;

/** Refuses a chain by its size alone, before anything in it is parsed or hashed. */
export function checkChainSize(chain: readonly Uint8Array[]): void {
  if (chain.length === 0) refuse('empty-chain', 'the chain has no certificate');
  if (chain.length > MAX_CHAIN_CERTIFICATES) {
    refuse(
      'chain-too-long',
      `the chain has ${chain.length} certificates; at most ${MAX_CHAIN_CERTIFICATES} are accepted`,
    );
  }
  const bytes = chain.reduce((sum, der) => sum + der.length, 0);
  if (bytes > MAX_CHAIN_BYTES) {
    refuse('chain-too-large', `the chain has ${bytes} bytes; at most ${MAX_CHAIN_BYTES} are accepted`);
  }
}

/** Parses a chain, leaf first. Throws IdentityError naming the certificate. */
export function parseChain(chain: readonly Uint8Array[]): Certificate[] {
  checkChainSize(chain);
  return chain.map((der, index) => ofCertificate(placeIn(chain, index), () => parseCertificate(der)));
}

/**
 * Validates a chain, leaf first, against the anchors of a trust domain at the time `nowMs`.
 * Throws IdentityError; its code is the first reason found.
 */
export function validatePath(
  chain: readonly Certificate[],
  anchors: readonly Certificate[],
  trustDomain: string,
  nowMs: number,
): ValidPath {
  const leaf = chain[0] as Certificate;
  const spiffeId = ofCertificate(placeIn(chain, 0), () => {
    checkValidity(leaf, nowMs);
    return checkLeaf(leaf, trustDomain);
  });
  chain.forEach((certificate, index) => {
    if (index === 0) return;
    ofCertificate(placeIn(chain, index), () => {
      checkValidity(certificate, nowMs);
      checkIssuer(certificate, index - 1, trustDomain);
    });
  });

  // From the anchor down, so that no signature is checked with a key that nobody vouches for.
  const { anchor, below } = findAnchor(chain, anchors, trustDomain, nowMs);
  const path = anchor === chain[below] ? chain : [...chain, anchor];
  for (let index = path.length - 2; index >= 0; index--) {
    const issuer = path[index + 1] as Certificate;
    const subject = path[index] as Certificate;
    if (issuer === anchor) continue;
    ofCertificate(placeIn(chain, index), () => {
      if (!issues(issuer, subject)) {
        refuse(
          'chain-invalid',
          `certificate ${index + 2} is not its issuer: the names differ (leaf first, then each issuer)`,
        );
      }
      if (!signed(issuer, subject)) {
        refuse('bad-signature', `its signature is not by certificate ${index + 2}`);
      }
    });
  }
  path.forEach(({ nameConstraints }, index) => {
    if (nameConstraints === undefined) return;
    for (let lower = 0; lower < index; lower++) {
      ofCertificate(placeIn(chain, lower), () =>
        enforceNameConstraints(nameConstraints, path[lower] as Certificate),
      );
    }
  });
  return {
    spiffeId,
    leaf,
    notBefore: Math.max(...path.map((certificate) => certificate.notBefore)),
    notAfter: Math.min(...path.map((certificate) => certificate.notAfter)),
  };
}

/**
 * The anchor over the chain's last certificate, whose signature it has verified; `below` is the index of the
 * certificate under it. An anchor that is itself sent as the last certificate, as some issuers do, is taken
 * as what it is and needs nobody above it.
 */
function findAnchor(
  chain: readonly Certificate[],
  anchors: readonly Certificate[],
  trustDomain: string,
  nowMs: number,
): { anchor: Certificate; below: number } {
  let last = chain.length - 1;
  let top = chain[last] as Certificate;
  const own = last > 0 && anchors.some((anchor) => anchor.der.equals(top.der));
  const candidates = own ? [top] : anchors.filter((anchor) => issues(anchor, top));
  if (own) top = chain[--last] as Certificate;
  const place = placeIn(chain, last);
  if (candidates.length === 0) {
    return ofCertificate(place, () =>
      refuse(
        'untrusted-issuer',
        `no CA in the bundle of trust domain ${trustDomain} has the name of its issuer`,
      ),
    );
  }
  let reason: IdentityError | undefined;
  for (const anchor of candidates) {
    try {
      ofCertificate('the CA that the bundle has for it', () => {
        checkValidity(anchor, nowMs);
        checkIssuer(anchor, last, trustDomain);
      });
      if (!issues(anchor, top)) refuse('chain-invalid', 'the CA above it has another name than its issuer');
      if (!signed(anchor, top)) {
        refuse(
          'bad-signature',
          `its signature is not by the CA of that name in the bundle of trust domain ${trustDomain}`,
        );
      }
      return { anchor, below: own ? last + 1 : last };
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      reason ??= error.at(place);
    }
  }
  throw reason as IdentityError;
}

const issues = (issuer: Certificate, subject: Certificate): boolean => issuer.subject.equals(subject.issuer);

/** Whether the issuer's key made the signature on the subject, with an algorithm that fits the key. */
export function signed(issuer: Certificate, subject: Certificate): boolean {
  const { signatureAlgorithm: algorithm, tbs, signature } = subject;
  if (!algorithm.keys.includes(issuer.keyType)) return false;
  return signatureHolds(algorithm.digest, tbs, issuer.publicKey(), signature);
}

function checkValidity({ notBefore, notAfter }: Certificate, nowMs: number): void {
  if (!Number.isFinite(nowMs)) refuse('not-yet-valid', 'the time is not known');
  if (nowMs < notBefore) {
    const now = new Date(nowMs).toISOString();
    refuse('not-yet-valid', `valid only from ${new Date(notBefore).toISOString()} (it is ${now})`);
  }
  if (nowMs > notAfter) refuse('expired', `expired at ${new Date(notAfter).toISOString()}`);
}

/** X509-SVID 5.2: what makes a certificate a leaf SVID of this trust domain. */
export function checkLeaf(leaf: Certificate, trustDomain: string): SpiffeId {
  if (leaf.ca) refuse('leaf-is-ca', 'a leaf must not have the CA flag');
  if (leaf.keyUsage === undefined) refuse('key-usage', 'it has no key usage extension');
  const usage = leaf.keyUsage as number;
  if (usage & (KeyUsage.keyCertSign | KeyUsage.cRLSign)) {
    refuse('key-usage', 'a leaf must not have the key usage keyCertSign or cRLSign');
  }
  if (!(usage & KeyUsage.digitalSignature))
    refuse('key-usage', 'a leaf needs the key usage digitalSignature');
  checkPurposes(leaf);
  if (leaf.nameConstraints !== undefined) refuse('name-constraint', 'a leaf must not have name constraints');
  if (identityAlgorithmOf(leaf.keyType) === undefined) {
    refuse('unsupported-algorithm', `a leaf key must be P-256 or Ed25519, not ${leaf.keyType}`);
  }
  const spiffeId = spiffeIdOf(leaf);
  checkTrustDomain(spiffeId, trustDomain);
  if (spiffeId.path === '')
    refuse('invalid-spiffe-id', `${quoted(spiffeId.id)} has no path, so it is a trust domain's`);
  return spiffeId;
}

/** The SPIFFE ID in the only URI of a certificate. */
export function spiffeIdOf({ uris }: Certificate): SpiffeId {
  if (uris.length === 0)
    refuse('no-uri-san', 'it has no URI in its subject alternative name, so no SPIFFE ID');
  if (uris.length > 1) {
    refuse(
      'several-uri-sans',
      `it has ${uris.length} URIs in its subject alternative name, where an SVID has exactly one`,
    );
  }
  return parseSpiffeId(uris[0] as string);
}

function checkTrustDomain(spiffeId: SpiffeId, trustDomain: string): void {
  if (spiffeId.trustDomain !== trustDomain) {
    refuse('wrong-trust-domain', `${quoted(spiffeId.id)} is not of trust domain ${trustDomain}`);
  }
}

/**
 * What makes a certificate an issuer, of which `below` issuers are under it on the path. Every one of them
 * counts against a path length, self-issued ones too, which is stricter than RFC 5280 6.1.4 (l).
 */
export function checkIssuer(issuer: Certificate, below: number, trustDomain: string): void {
  if (!issuer.ca) refuse('not-a-ca', 'it is used as an issuer and has no CA flag');
  if (issuer.keyUsage === undefined || !(issuer.keyUsage & KeyUsage.keyCertSign)) {
    refuse('key-usage', 'an issuer needs the key usage keyCertSign');
  }
  if (issuer.subjectEmpty) refuse('chain-invalid', 'an issuer needs a subject name');
  if (issuer.pathLength !== undefined && below > issuer.pathLength) {
    refuse(
      'path-too-long',
      `its path length allows ${issuer.pathLength} issuers below it, and there are ${below}`,
    );
  }
  checkPurposes(issuer);
  // X509-SVID 4.2: an issuer need not have a SPIFFE ID; if it has one, it is its trust domain's.
  if (issuer.uris.some((uri) => /^spiffe:/i.test(uri))) {
    const spiffeId = spiffeIdOf(issuer);
    checkTrustDomain(spiffeId, trustDomain);
    if (spiffeId.path !== '')
      refuse('invalid-spiffe-id', `an issuer has the ID ${quoted(spiffeId.id)}, which has a path`);
  }
}

/** Sidecars are client and server at once; an ExtendedKeyUsage that is there must allow both. */
function checkPurposes({ purposes }: Certificate): void {
  if (purposes === undefined || purposes.includes(Purpose.any)) return;
  if (!purposes.includes(Purpose.serverAuth) || !purposes.includes(Purpose.clientAuth)) {
    refuse('key-usage', 'its extended key usage does not have both serverAuth and clientAuth');
  }
}
