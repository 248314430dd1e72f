import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** File names of what the two proxies of a pair prove themselves with. */
export interface Certificates {
  /** PEM: the CA that both trust, and nothing else. */
  readonly ca: string;
  readonly a: LeafFiles;
  readonly b: LeafFiles;
}

export interface LeafFiles {
  /** The DNS name in the certificate. */
  readonly name: string;
  readonly certificate: string;
  readonly key: string;
  /** Certificate and key in one file, as HAProxy wants them. */
  readonly both: string;
}

/** The DNS name in B's certificate, which A insists on. */
export const SECOND_PROXY = 'b.bench';

const DAYS = '2';
const P256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'];

/** Makes a CA and two leaf certificates (ECDSA P-256) in `folder`, for this run only. */
export function makeCertificates(openssl: string, folder: string): Certificates {
  const ca = join(folder, 'ca.pem');
  const caKey = join(folder, 'ca.key');
  const request = (...args: string[]) =>
    execFileSync(openssl, ['req', '-x509', ...P256, '-days', DAYS, ...args], { stdio: 'pipe' });

  request('-subj', '/CN=bench CA', '-addext', 'keyUsage=critical,keyCertSign', '-keyout', caKey, '-out', ca);

  const leaf = (name: string): LeafFiles => {
    const certificate = join(folder, `${name}.pem`);
    const key = join(folder, `${name}.key`);
    const both = join(folder, `${name}.both.pem`);
    request(
      ...['-CA', ca, '-CAkey', caKey, '-subj', `/CN=${name}`],
      ...['-addext', `subjectAltName=DNS:${name}`, '-addext', 'basicConstraints=critical,CA:FALSE'],
      ...['-addext', 'keyUsage=critical,digitalSignature'],
      ...['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
      ...['-keyout', key, '-out', certificate],
    );
    writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'), { mode: 0o600 });
    return { name, certificate, key, both };
  };
  return { ca, a: leaf('a.bench'), b: leaf(SECOND_PROXY) };
}

/** The one TLS of every peer pair: what Hauberk's own records use, X25519 and AES-256-GCM. */
export const TLS = {
  version: 'TLSv1.3',
  cipher: 'TLS_AES_256_GCM_SHA384',
  group: 'X25519',
} as const;
