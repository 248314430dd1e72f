// The certificate that the webhook shows, and the CA by which API servers know it. Each leaf has a CA of its own, whose key
// is gone once the leaf is signed: what is left cannot sign for anybody.
import {
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import { loadX509 } from '../../identity/x509.ts';
import { WebhookError } from './errors.ts';

/** PEM throughout. */
export interface ServingCertificate {
  /** Leaf first. */
  readonly chain: string;
  readonly key: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
/** For clocks that are not quite the same. */
const BACK_DATED_MS = 3_600_000;

export function pemOf(der: ArrayBuffer | Buffer): string {
  const text = Buffer.from(der as ArrayBuffer).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${text.replaceAll(/.{64}(?=.)/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}

/** A new CA and a certificate by it for the DNS names. */
export async function makeServing(
  names: readonly string[],
  nowMs: number,
  lifeMs: number,
): Promise<{ readonly serving: ServingCertificate; readonly ca: string }> {
  const x509 = await loadX509();
  const [caPair, leafPair] = [0, 1].map(() => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
  const signingKey = await importKey((caPair as typeof leafPair).privateKey);
  const publicKeyOf = (pair: { publicKey: KeyObject }) =>
    new x509.PublicKey(pair.publicKey.export({ type: 'spki', format: 'der' }));
  const whole = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
  const validity = { notBefore: whole(nowMs - BACK_DATED_MS), notAfter: whole(nowMs + lifeMs) };
  const issuer = [{ O: ['Hauberk'] }, { CN: [`Webhook CA ${randomBytes(4).toString('hex')}`] }];
  const serial = (): string => `4${randomBytes(15).toString('hex')}`;
  const caKey = publicKeyOf(caPair);
  const ca = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: issuer,
    issuer,
    ...validity,
    signingAlgorithm: SIGNATURE,
    publicKey: caKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(caKey),
    ],
  });
  const leaf = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [{ CN: [(names[0] as string).slice(0, 64)] }],
    issuer,
    ...validity,
    signingAlgorithm: SIGNATURE,
    publicKey: publicKeyOf(leafPair),
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: 'dns' as const, value })),
        false,
      ),
      await x509.AuthorityKeyIdentifierExtension.create(caKey),
    ],
  });
  return {
    serving: {
      chain: pemOf(leaf.rawData),
      key: leafPair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      notBefore: validity.notBefore.getTime(),
      notAfter: validity.notAfter.getTime(),
    },
    ca: pemOf(ca.rawData),
  };
}

async function importKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', pkcs8, ECDSA, false, ['sign']).finally(() => pkcs8.fill(0));
}

/** A certificate with its key as somebody has written them. Throws WebhookError, whose message begins with `place`. */
export function readServing(place: string, chain: string, key: string, nowMs: number): ServingCertificate {
  let leaf: X509Certificate;
  let fits: boolean;
  try {
    leaf = new X509Certificate(chain);
  } catch (cause) {
    throw new WebhookError('bad-certificate', `${place}: the certificate is not PEM`, cause);
  }
  try {
    fits = leaf.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new WebhookError(
      'bad-certificate',
      `${place}: the key is not an unencrypted private key in PEM`,
      cause,
    );
  }
  if (!fits) throw new WebhookError('bad-certificate', `${place}: the key is not that of the certificate`);
  const [notBefore, notAfter] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)] as [number, number];
  if (notAfter <= nowMs) {
    throw new WebhookError(
      'bad-certificate',
      `${place}: the certificate ended at ${new Date(notAfter).toISOString()}`,
    );
  }
  return { chain, key, notBefore, notAfter };
}

const BLOCK = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g;

/** The certificates in a text that have not ended, each once; what is none is left out. */
export function livingCertificates(text: string, nowMs: number): string[] {
  const found: string[] = [];
  for (const [block] of text.matchAll(BLOCK)) {
    try {
      const certificate = new X509Certificate(block);
      const pem = pemOf(certificate.raw);
      if (Date.parse(certificate.validTo) > nowMs && !found.includes(pem)) found.push(pem);
    } catch {
      // Not a certificate.
    }
  }
  return found;
}

/** Whether one of the CAs has signed the leaf. */
export function isSignedBy(chain: string, cas: readonly string[]): boolean {
  const leaf = new X509Certificate(chain);
  return cas.some((ca) => leaf.verify(new X509Certificate(ca).publicKey));
}

/** Whether the leaf is for the name. */
export function isFor(chain: string, name: string): boolean {
  return new X509Certificate(chain).checkHost(name, { wildcards: false }) !== undefined;
}
