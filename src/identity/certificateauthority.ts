import { generateKeyPairSync, type KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { type Certificate, parseCertificate } from './certificate.ts';
import { parseChain, spiffeIdOf, validatePath } from './chain.ts';
import { IdentityError } from './errors.ts';
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from './spiffeid.ts';
import { TrustBundle } from './trustbundle.ts';
import { loadX509, type X509 } from './x509.ts';

const CA_KEY = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const CA_SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
/** How far back validity begins, for clocks that are not quite the same. */
export const BACK_DATED_MS = 5 * 60_000;
export const DEFAULT_CA_TTL_MS = 5 * 365 * 86_400_000;
export const DEFAULT_SVID_TTL_MS = 86_400_000;
const MAX_TTL_MS = 100 * 365 * 86_400_000; // keeps dates within GeneralizedTime

export type LeafKey = 'p256' | 'ed25519';

/** An SVID for a key that somebody else has. */
export interface CertifiedKey {
  readonly spiffeId: string;
  /** DER, leaf first. */
  readonly chain: readonly Buffer[];
  readonly notAfter: number;
}

export interface IssuedSvid extends CertifiedKey {
  readonly key: KeyObject;
}

/** The certificate and key with which a trust domain issues SVIDs. Holds no file and no clock. */
export class CertificateAuthority {
  readonly trustDomain: string;
  readonly certificate: Certificate;
  readonly #key: webcrypto.CryptoKey;
  readonly #x509: X509;
  #isAnchor = false;

  private constructor(x509: X509, trustDomain: string, certificate: Certificate, key: webcrypto.CryptoKey) {
    this.#x509 = x509;
    this.trustDomain = trustDomain;
    this.certificate = certificate;
    this.#key = key;
  }

  /**
   * A new trust domain: a P-256 key and a self-signed certificate (X509-SVID 3 and 4). `pathLength` is how many
   * CAs may stand between it and an SVID. Returns the key apart, for whoever is to keep it.
   */
  static async create(options: {
    trustDomain: string;
    nowMs: number;
    ttlMs?: number | undefined;
    pathLength?: number | undefined;
  }): Promise<{ authority: CertificateAuthority; key: KeyObject }> {
    const { nowMs, ttlMs = DEFAULT_CA_TTL_MS, pathLength = 0 } = options;
    checkTtl(ttlMs);
    const trustDomain = parseTrustDomain(options.trustDomain);
    const id = parseSpiffeId(`spiffe://${trustDomain}`);
    const x509 = await loadX509();
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const signingKey = await importSigningKey(pair.privateKey);
    const publicKey = new x509.PublicKey(pair.publicKey.export({ type: 'spki', format: 'der' }));
    const name = [{ O: [trustDomain] }, { CN: [`Hauberk CA ${randomBytes(4).toString('hex')}`] }];
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: name,
      issuer: name,
      ...validity(nowMs, nowMs + ttlMs),
      signingAlgorithm: CA_SIGNATURE,
      publicKey,
      signingKey,
      extensions: [
        new x509.BasicConstraintsExtension(true, pathLength, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: id.id }], false),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
      ],
    });
    const parsed = parseCertificate(Buffer.from(certificate.rawData));
    return {
      authority: new CertificateAuthority(x509, trustDomain, parsed, signingKey),
      key: pair.privateKey,
    };
  }

  /** An existing one. Throws IdentityError if the key is not P-256 or not that of the certificate. */
  static async from(certificate: Certificate, key: KeyObject): Promise<CertificateAuthority> {
    const { trustDomain } = spiffeIdOf(certificate);
    if (certificate.keyType !== 'p256') {
      throw new IdentityError('unsupported-key', 'SVIDs are issued with P-256 CA keys only');
    }
    return new CertificateAuthority(await loadX509(), trustDomain, certificate, await importSigningKey(key));
  }

  /**
   * Issues an SVID with a new key. It is valid from a few minutes before `nowMs` and never outlives the CA.
   * What comes out has passed the validation that peers will make. Throws IdentityError.
   */
  async issue(options: {
    spiffeId: SpiffeId;
    nowMs: number;
    ttlMs?: number | undefined;
    leafKey?: LeafKey | undefined;
  }): Promise<IssuedSvid> {
    const { leafKey = 'p256', ...rest } = options;
    const pair =
      leafKey === 'p256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('ed25519');
    const spki = pair.publicKey.export({ type: 'spki', format: 'der' });
    return { ...(await this.certify({ ...rest, spki })), key: pair.privateKey };
  }

  /** As `issue`, for a public key (DER of the SubjectPublicKeyInfo) whose owner has shown to have the private one. */
  async certify(options: {
    spiffeId: SpiffeId;
    spki: Buffer;
    nowMs: number;
    ttlMs?: number | undefined;
  }): Promise<CertifiedKey> {
    const { spiffeId, spki, nowMs, ttlMs = DEFAULT_SVID_TTL_MS } = options;
    checkTtl(ttlMs);
    const x509 = this.#x509;
    const ca = new x509.X509Certificate(this.certificate.der);
    const publicKey = new x509.PublicKey(spki);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: '', // hence the critical alternative name, RFC 5280 4.2.1.6
      issuer: ca.subjectName,
      ...validity(nowMs, Math.min(nowMs + ttlMs, this.certificate.notAfter)),
      signingAlgorithm: CA_SIGNATURE,
      publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.serverAuth,
          x509.ExtendedKeyUsage.clientAuth,
        ]),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: spiffeId.id }], true),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
      ],
    });
    const chain = [Buffer.from(certificate.rawData)];
    if (!this.#isAnchor) this.bundle(); // throws if peers would not take it as one
    this.#isAnchor = true;
    const { notAfter } = validatePath(parseChain(chain), [this.certificate], this.trustDomain, nowMs);
    return { spiffeId: spiffeId.id, chain, notAfter };
  }

  /** A bundle of this CA alone. */
  bundle(): TrustBundle {
    return new TrustBundle({ trustDomain: this.trustDomain, certificates: [this.certificate.der] });
  }
}

function importSigningKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', pkcs8, CA_KEY, false, ['sign']).finally(() => pkcs8.fill(0));
}

/** 16 random bytes as hex, positive and in the shortest form. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

function validity(fromMs: number, toMs: number): { notBefore: Date; notAfter: Date } {
  const whole = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
  return { notBefore: whole(fromMs - BACK_DATED_MS), notAfter: whole(toMs) };
}

function checkTtl(ttlMs: number): void {
  if (ttlMs >= 1000 && ttlMs <= MAX_TTL_MS) return;
  throw new IdentityError('invalid-ttl', `a lifetime of ${ttlMs / 1000} seconds`, {
    cure: 'use one between 1 second and 100 years, such as --ttl 24h',
  });
}
