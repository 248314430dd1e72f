import { createPublicKey, type KeyObject } from 'node:crypto';
import { type Certificate, parseCertificate } from '../../identity/certificate.ts';
import { CertificateAuthority } from '../../identity/certificateauthority.ts';
import { spiffeIdOf } from '../../identity/chain.ts';
import { IdentityError } from '../../identity/errors.ts';
import { certificatesIn, privateKeyIn, toPem } from '../../identity/pem.ts';
import { TrustBundle } from '../../identity/trustbundle.ts';
import type { KubeSecret } from '../objects.ts';

/** Names of what is in the Secret. */
export const CA_CERTIFICATES = 'ca.crt';
export const CA_KEY = 'ca.key';

const MAX_BYTES = 512 * 1024; // of PEM; Secrets have at most 1 MiB

/** A CA as its Secret holds it: several certificates while one CA replaces another, of which one signs. */
export interface CaPair {
  readonly authority: CertificateAuthority;
  /** All of them: whom sidecars trust. */
  readonly bundle: TrustBundle;
  /** DER. */
  readonly certificates: readonly Buffer[];
  /** The same, PEM. */
  readonly bundlePem: string;
}

/**
 * Reads the CA from its Secret. Signs with the certificate that the key fits and, if it fits several, with the one that
 * ends last. Throws IdentityError, which names the Secret and the cure.
 */
export async function readCaPair(
  secret: KubeSecret,
  place: string,
  trustDomain: string,
  nowMs: number,
): Promise<CaPair> {
  const certificates = blaming(`${place}, ${CA_CERTIFICATES}`, () =>
    certificatesIn(contentsOf(secret, CA_CERTIFICATES)),
  );
  const bundle = blaming(`${place}, ${CA_CERTIFICATES}`, () => bundleOf(certificates, trustDomain));
  const secretKey = blaming(`${place}, ${CA_KEY}`, () => contentsOf(secret, CA_KEY));
  try {
    const key = blaming(`${place}, ${CA_KEY}`, () => privateKeyIn(secretKey));
    const signer = blaming(`${place}, ${CA_KEY}`, () => signerOf(certificates, key, nowMs));
    return {
      authority: await CertificateAuthority.from(signer, key).catch((error) => {
        throw blamed(error, `${place}, ${CA_KEY}`);
      }),
      bundle,
      certificates,
      bundlePem: certificates.map((der) => toPem('CERTIFICATE', der)).join(''),
    };
  } finally {
    secretKey.fill(0);
  }
}

/** The contents of the Secret of a new CA; the key stands in them in base64, as the API wants it. */
export async function newCaData(
  trustDomain: string,
  ttlMs: number,
  nowMs: number,
): Promise<Record<string, string>> {
  const { authority, key } = await CertificateAuthority.create({ trustDomain, nowMs, ttlMs });
  const base64 = (pem: string): string => Buffer.from(pem, 'latin1').toString('base64');
  return {
    [CA_CERTIFICATES]: base64(toPem('CERTIFICATE', authority.certificate.der)),
    [CA_KEY]: base64(key.export({ type: 'pkcs8', format: 'pem' }) as string),
  };
}

function contentsOf(secret: KubeSecret, name: string): Buffer {
  const text = secret.data?.[name];
  if (text === undefined || text === '') {
    throw new IdentityError('missing-file', 'there is no such key in it, or it is empty');
  }
  if (text.length > MAX_BYTES) throw new IdentityError('file-too-large', `more than ${MAX_BYTES} bytes`);
  // Of its own, not of the pool, for it is wiped.
  const bytes = Buffer.alloc(Buffer.byteLength(text, 'base64'));
  return bytes.subarray(0, bytes.write(text, 'base64'));
}

function bundleOf(certificates: readonly Buffer[], trustDomain: string): TrustBundle {
  const other = certificates
    .map((der) => spiffeIdOf(parseCertificate(der)).trustDomain)
    .find((domain) => domain !== trustDomain);
  if (other !== undefined) {
    throw new IdentityError('wrong-trust-domain', `it has a CA of the trust domain ${other}`, {
      cure: `set trustDomain: ${other} if that is the domain of this cluster, or put a CA of ${trustDomain} there (hauberk init --trust-domain ${trustDomain})`,
    });
  }
  return new TrustBundle({ trustDomain, certificates });
}

function signerOf(certificates: readonly Buffer[], key: KeyObject, nowMs: number): Certificate {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const own = certificates.map(parseCertificate).filter((certificate) => certificate.spki.equals(spki));
  const valid = own.filter(({ notBefore, notAfter }) => notBefore <= nowMs && nowMs <= notAfter);
  const [signer] = (valid.length > 0 ? valid : own).sort((a, b) => b.notAfter - a.notAfter);
  if (signer === undefined) {
    throw new IdentityError('key-mismatch', `the key is of none of the certificates in ${CA_CERTIFICATES}`, {
      cure: `put the certificate of this key into ${CA_CERTIFICATES}, or the key that was there before back`,
    });
  }
  if (valid.length === 0) {
    const ended = nowMs > signer.notAfter;
    throw new IdentityError(
      ended ? 'expired' : 'not-yet-valid',
      ended
        ? `the CA of this key ended at ${new Date(signer.notAfter).toISOString()}`
        : `the CA of this key begins at ${new Date(signer.notBefore).toISOString()}`,
      { cure: ended ? 'replace the CA, as docs/kubernetes-controller.md shows' : 'check the clock' },
    );
  }
  return signer;
}

const OTHERWISE =
  'correct the Secret; nothing overwrites it. Without it the controller makes a new CA, and every pod needs a restart';

function blaming<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw blamed(error, place);
  }
}

const blamed = (error: unknown, place: string): unknown =>
  error instanceof IdentityError ? error.inFile(place, OTHERWISE) : error;
