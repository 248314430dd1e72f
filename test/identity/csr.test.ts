import { generateKeyPairSync, type KeyObject, webcrypto } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCertificate } from '../../src/identity/certificate.ts';
import { CertificateAuthority } from '../../src/identity/certificateauthority.ts';
import { MAX_REQUEST_BYTES, readCertificateRequest } from '../../src/identity/csr.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { parseSpiffeId } from '../../src/identity/spiffeid.ts';
import { type CsrRecipe, type LeafPair, makeCsr, makePair } from './csrs.ts';
import { NOW, x509 } from './forge.ts';

const p256 = makePair('p256');
const ed25519 = makePair('ed25519');

/** Why it is refused. */
function refusal(der: Uint8Array): string {
  try {
    readCertificateRequest(der);
  } catch (error) {
    if (error instanceof IdentityError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

const spkiOf = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });

describe('a certificate request', () => {
  it.each<[string, LeafPair]>([
    ['p256', p256],
    ['ed25519', ed25519],
  ])('with a %s key gives that key', (keyType, pair) => {
    expect(readCertificateRequest(makeCsr({ pair }))).toEqual({ spki: spkiOf(pair.publicKey), keyType });
  });

  it.each(['p256', 'ed25519'] as const)('that another library has made is read (%s)', async (kind) => {
    const algorithm =
      kind === 'p256' ? { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } : { name: 'Ed25519' };
    const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
      'sign',
      'verify',
    ])) as webcrypto.CryptoKeyPair;
    const request = await x509.Pkcs10CertificateRequestGenerator.create({
      name: 'CN=somebody else',
      keys: keys as never,
      signingAlgorithm: algorithm as never,
      extensions: [
        new x509.BasicConstraintsExtension(true, 3, true),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: 'spiffe://cluster.local/ns/a/sa/b' },
        ]),
      ],
    });
    const { spki, keyType } = readCertificateRequest(Buffer.from(request.rawData));
    expect(keyType).toBe(kind);
    expect(spki).toEqual(Buffer.from(await webcrypto.subtle.exportKey('spki', keys.publicKey)));
  });

  it('of which the attributes are left out altogether is read', () => {
    expect(refusal(makeCsr({ pair: p256, attributes: Buffer.alloc(0) }))).toBe('accepted');
  });

  it.each<[string, CsrRecipe, RegExp]>([
    [
      'signed by another key',
      { pair: p256, signer: makePair('p256').privateKey },
      /^bad-signature: .*not shown/,
    ],
    ['signed by a key of another kind', { pair: p256, signer: ed25519.privateKey }, /^bad-signature/],
    [
      'that names another algorithm than its key has',
      { pair: p256, algorithm: '300506032b6570' },
      /^bad-signature/,
    ],
    [
      'with SHA-1',
      { pair: p256, algorithm: '300906072a8648ce3d0401' },
      /^unsupported-key: .*signed with an algorithm/,
    ],
    [
      'of version 2',
      { pair: p256, version: 1 },
      /^bad-request: not a valid certificate request: it is not of version 1/,
    ],
    [
      'with something behind the attributes',
      { pair: p256, attributes: Buffer.from('a0000500', 'hex') },
      /^bad-request/,
    ],
    [
      'with octets behind it',
      { pair: p256, trailer: Buffer.of(0) },
      /^bad-request: .*after the last element/,
    ],
    [
      'above the limit',
      { pair: p256, attributes: longAttributes() },
      /^bad-request: a certificate request of \d+ bytes; at most 4096/,
    ],
  ])('%s is refused', (_what, recipe, reason) => {
    expect(refusal(makeCsr(recipe))).toMatch(reason);
  });

  it.each(['rsa', 'p384', 'x25519', 'secp256k1'] as const)('with a key of %s is refused', (kind) => {
    const { publicKey, privateKey } =
      kind === 'rsa'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : kind === 'x25519'
          ? generateKeyPairSync('x25519')
          : generateKeyPairSync('ec', { namedCurve: kind === 'p384' ? 'P-384' : 'secp256k1' });
    const signer = kind === 'x25519' ? p256.privateKey : privateKey;
    expect(refusal(makeCsr({ pair: { publicKey, privateKey }, signer }))).toMatch(/^unsupported-key: /);
  });

  it('with a point that is not on the curve is refused', () => {
    const spki = spkiOf(p256.publicKey);
    spki[spki.length - 1] = (spki[spki.length - 1] as number) ^ 1;
    expect(refusal(makeCsr({ pair: p256, spki }))).toMatch(
      /^bad-request: .*public key is not valid|^bad-signature/,
    );
  });

  it('whose signature is over other octets is refused, whichever octet was changed', () => {
    const der = makeCsr({ pair: p256 });
    for (let at = 0; at < der.length; at++) {
      const changed = Buffer.from(der);
      changed[at] = (changed[at] as number) ^ 0x01;
      expect(refusal(changed), `octet ${at}`).not.toBe('accepted');
    }
  });

  it('is never anything but read or refused, whatever the octets', () => {
    const der = makeCsr({ pair: ed25519 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(der.length - 1), fc.nat(255)), { maxLength: 8 }),
        fc.nat(der.length),
        (edits, length) => {
          const changed = Buffer.from(der.subarray(0, length));
          for (const [at, octet] of edits) if (at < changed.length) changed[at] = octet;
          const reason = refusal(changed);
          expect(changed.equals(der) ? reason : reason.split(':')[0]).toMatch(
            changed.equals(der) ? /^accepted$/ : /^(bad-request|unsupported-key|bad-signature)$/,
          );
        },
      ),
      { numRuns: 500 },
    );
    expect(refusal(new Uint8Array(0))).toMatch(/^bad-request/);
    expect(refusal(new Uint8Array(MAX_REQUEST_BYTES))).toMatch(/^bad-request/);
  });
});

describe('the SVID of a request', () => {
  it('has its key and the name that the issuer gives, and nothing else of it', async () => {
    const { authority } = await CertificateAuthority.create({ trustDomain: 'cluster.local', nowMs: NOW });
    const spiffeId = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web');
    const keys = (await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
      'sign',
      'verify',
    ])) as webcrypto.CryptoKeyPair;
    const request = await x509.Pkcs10CertificateRequestGenerator.create({
      name: 'CN=admin, O=system:masters',
      keys: keys as never,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' } as never,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: 'spiffe://cluster.local/ns/kube-system/sa/admin' },
          { type: 'dns', value: 'kubernetes.default' },
        ]),
      ],
    });
    const { spki } = readCertificateRequest(Buffer.from(request.rawData));
    const { chain, notAfter } = await authority.certify({ spiffeId, spki, nowMs: NOW, ttlMs: 3_600_000 });
    const leaf = parseCertificate(chain[0] as Buffer);
    expect(leaf.spki).toEqual(spki);
    expect(leaf).toMatchObject({ ca: false, uris: [spiffeId.id], subjectEmpty: true, keyUsage: 0x80 });
    expect([...leaf.forms]).toEqual([6]);
    expect(notAfter).toBe(leaf.notAfter);
    expect(leaf.notAfter).toBe(NOW + 3_600_000 + 999);
    const { spiffeId: verified } = authority.bundle().verifyChain(chain, NOW);
    expect(verified).toBe(spiffeId.id);
  });

  it('never outlives the CA', async () => {
    const { authority } = await CertificateAuthority.create({
      trustDomain: 'cluster.local',
      nowMs: NOW,
      ttlMs: 60_000,
    });
    const { notAfter } = await authority.certify({
      spiffeId: parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web'),
      spki: spkiOf(p256.publicKey),
      nowMs: NOW,
    });
    expect(notAfter).toBe(authority.certificate.notAfter);
  });
});

function longAttributes(): Buffer {
  const contents = Buffer.alloc(4000, 0x05);
  return Buffer.concat([Buffer.from([0xa0, 0x82, contents.length >> 8, contents.length & 0xff]), contents]);
}
