import { createPrivateKey, createPublicKey, type KeyObject, sign, webcrypto } from 'node:crypto';
import { p256 } from '@noble/curves/nist.js';
import { loadX509, type X509 } from '../../../src/identity/x509.ts';
import { sha256 } from './noise.ts';

/*
 * The trust domain of the test vectors, made from nothing but labels, so that it is the same every time. Its keys are
 * known to everybody.
 */

export const NOW = Date.UTC(2026, 5, 1, 12);
const DAY = 86_400_000;
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const ED25519_NAME = { name: 'Ed25519' } as const;

/** 32 bytes that belong to `label`. */
export const secretOf = (label: string): Buffer => sha256(Buffer.from(`HBK1 test vectors: ${label}`));

export interface TestIdentity {
  readonly spiffeId: string;
  /** As in TLV 0x82. */
  readonly algorithm: 0x0403 | 0x0807;
  /** 32 bytes: an Ed25519 seed, or a P-256 scalar. */
  readonly privateKey: Buffer;
  /** DER, leaf first. */
  readonly chain: readonly Buffer[];
  sign(data: Buffer): Buffer;
}

export interface TestTrust {
  readonly trustDomain: string;
  /** DER of the CA. */
  readonly bundle: Buffer;
  readonly web: TestIdentity;
  readonly greeter: TestIdentity;
}

/** `web` signs with P-256 (nonces as in RFC 6979), `greeter` and the CA with Ed25519. */
export async function makeTestTrust(): Promise<TestTrust> {
  const x509 = await loadX509();
  const trustDomain = 'vectors.example';
  const caKey = edKey(secretOf('CA'));
  const ca = await x509.X509CertificateGenerator.create({
    serialNumber: '01',
    subject: 'CN=HBK1 test vectors',
    issuer: 'CN=HBK1 test vectors',
    notBefore: new Date(NOW - DAY),
    notAfter: new Date(NOW + 3_650 * DAY),
    signingAlgorithm: ED25519_NAME,
    publicKey: publicKeyOf(x509, caKey),
    signingKey: await signingKey(caKey),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }], false),
    ],
  });
  const leaf = async (name: string, serialNumber: string, key: KeyObject): Promise<[string, Buffer[]]> => {
    const spiffeId = `spiffe://${trustDomain}/ns/default/sa/${name}`;
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber,
      subject: '',
      issuer: ca.subjectName,
      notBefore: new Date(NOW - DAY),
      notAfter: new Date(NOW + 3_650 * DAY),
      signingAlgorithm: ED25519_NAME,
      publicKey: publicKeyOf(x509, key),
      signingKey: await signingKey(caKey),
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: spiffeId }], true),
      ],
    });
    return [spiffeId, [Buffer.from(certificate.rawData)]];
  };

  const webScalar = secretOf('SVID of web');
  const greeterSeed = secretOf('SVID of greeter');
  const greeterKey = edKey(greeterSeed);
  const [webId, webChain] = await leaf('web', '02', p256Key(webScalar));
  const [greeterId, greeterChain] = await leaf('greeter', '03', greeterKey);
  return {
    trustDomain,
    bundle: Buffer.from(ca.rawData),
    web: {
      spiffeId: webId,
      algorithm: 0x0403,
      privateKey: webScalar,
      chain: webChain,
      sign: (data) => Buffer.from(p256.sign(data, webScalar, { format: 'der', lowS: false })),
    },
    greeter: {
      spiffeId: greeterId,
      algorithm: 0x0807,
      privateKey: greeterSeed,
      chain: greeterChain,
      sign: (data) => sign(null, data, greeterKey),
    },
  };
}

function edKey(seed: Buffer): KeyObject {
  return createPrivateKey({ key: Buffer.concat([ED25519_PKCS8, seed]), format: 'der', type: 'pkcs8' });
}

function p256Key(scalar: Buffer): KeyObject {
  const point = Buffer.from(p256.getPublicKey(scalar, false));
  const b64 = (bytes: Buffer): string => bytes.toString('base64url');
  return createPrivateKey({
    key: {
      kty: 'EC',
      crv: 'P-256',
      d: b64(scalar),
      x: b64(point.subarray(1, 33)),
      y: b64(point.subarray(33)),
    },
    format: 'jwk',
  });
}

function publicKeyOf(x509: X509, key: KeyObject) {
  return new x509.PublicKey(createPublicKey(key).export({ type: 'spki', format: 'der' }));
}

function signingKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', pkcs8, ED25519_NAME, false, ['sign']);
}
