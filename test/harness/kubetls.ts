/** Certificates of HTTPS servers that tests make up: a CA of their own, names and addresses of this machine. */
import { generateKeyPairSync, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import { loadX509 } from '../../src/identity/x509.ts';

export interface ServerCertificate {
  /** PEM, all three. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const EC = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const DAY_MS = 86_400_000;

/** For 127.0.0.1, ::1 and localhost, unless other names are given. */
export async function makeServerCertificate(
  names: readonly string[] = ['127.0.0.1', '::1', 'localhost'],
): Promise<ServerCertificate> {
  const x509 = await loadX509();
  const keys = async () => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pkcs8 = pair.privateKey.export({ type: 'pkcs8', format: 'der' });
    return {
      pem: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      signing: await webcrypto.subtle.importKey('pkcs8', pkcs8, EC, false, ['sign']),
      public: new x509.PublicKey(pair.publicKey.export({ type: 'spki', format: 'der' })),
    };
  };
  const [authority, server] = [await keys(), await keys()];
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + DAY_MS) };
  const issuer = [{ CN: [`stub CA ${Math.random().toString(36).slice(2)}`] }];
  const signing = { signingKey: authority.signing, signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' } };
  const ca = await x509.X509CertificateGenerator.create({
    ...validity,
    ...signing,
    subject: issuer,
    issuer,
    publicKey: authority.public,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  const leaf = await x509.X509CertificateGenerator.create({
    ...validity,
    ...signing,
    subject: [{ CN: ['stub API server'] }],
    issuer,
    publicKey: server.public,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value })),
        false,
      ),
    ],
  });
  return { ca: ca.toString('pem'), cert: leaf.toString('pem'), key: server.pem };
}
