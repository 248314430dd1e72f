import { describe, expect, it } from 'vitest';
import type { TrustBundle } from '../../src/identity/trustbundle.ts';
import {
  bundleOf,
  DOMAIN,
  elementsOf,
  extension,
  type Forged,
  forgeCa,
  forgeIntermediate,
  forgeLeaf,
  LEAF_ID,
  NOW,
  nameConstraints,
  outcome as outcomeUnder,
  type Recipe,
  resigned,
  Usage,
  x509,
} from './forge.ts';

const SECOND = 1000;
const root = await forgeCa();
const bundle = bundleOf(root);

const outcome = (chain: Array<Forged | Buffer>, trust: TrustBundle = bundle, now = NOW): string =>
  outcomeUnder(trust, chain, now);

describe('a chain is accepted', () => {
  it('with a leaf that an anchor issued', async () => {
    expect(outcome([await forgeLeaf(root)])).toBe(LEAF_ID);
  });

  it('with an intermediate, and its notAfter is the earliest of the whole path', async () => {
    const intermediate = await forgeIntermediate(root, { notAfter: NOW + 60 * SECOND });
    const leaf = await forgeLeaf(intermediate, { notAfter: NOW + 90 * SECOND });
    const peer = bundle.verifyChain([leaf.der, intermediate.der], NOW);
    expect(peer.notAfter).toBe(NOW + 60 * SECOND + 999);
    const short = await forgeCa({ name: 'CN=Short', notAfter: NOW + 30 * SECOND });
    const below = await forgeLeaf(short);
    expect(bundleOf(short).verifyChain([below.der], NOW).notAfter).toBe(NOW + 30 * SECOND + 999);
  });

  it('with three issuers below the anchor, which makes four certificates', async () => {
    const one = await forgeIntermediate(root, { name: 'CN=1', pathLength: 2 });
    const two = await forgeIntermediate(one, { name: 'CN=2', pathLength: 1 });
    const three = await forgeIntermediate(two, { name: 'CN=3', pathLength: 0 });
    const leaf = await forgeLeaf(three);
    expect(outcome([leaf, three, two, one])).toBe(LEAF_ID);
  });

  it('with the anchor sent along as its last certificate', async () => {
    const intermediate = await forgeIntermediate(root);
    const leaf = await forgeLeaf(intermediate);
    expect(outcome([leaf, intermediate, root])).toBe(LEAF_ID);
    expect(outcome([await forgeLeaf(root), root])).toBe(LEAF_ID);
  });

  it.each([
    ['p256', 'SHA-256'],
    ['p256', 'SHA-384'],
    ['p384', 'SHA-384'],
    ['p384', 'SHA-256'],
    ['ed25519', undefined],
    ['rsa', 'SHA-256'],
    ['rsa', 'SHA-384'],
    ['rsa', 'SHA-512'],
  ] as const)('from a CA with a %s key that signs with %s', async (kind, hash) => {
    const ca = await forgeCa({ kind, ...(hash ? { hash } : {}) });
    expect(outcome([await forgeLeaf(ca, hash ? { hash } : {})], bundleOf(ca))).toBe(LEAF_ID);
  });

  it('with an Ed25519 leaf', async () => {
    expect(outcome([await forgeLeaf(root, { kind: 'ed25519' })])).toBe(LEAF_ID);
  });

  it('from the right one of two CAs of the same name, as in a rotation', async () => {
    const successor = await forgeCa();
    const both = bundleOf(root, successor);
    expect(outcome([await forgeLeaf(root)], both)).toBe(LEAF_ID);
    expect(outcome([await forgeLeaf(successor)], both)).toBe(LEAF_ID);
  });

  it('with an issuer that has no SPIFFE ID, such as a company CA', async () => {
    const company = await forgeCa({ name: 'CN=Company', uris: [] });
    expect(outcome([await forgeLeaf(company)], bundleOf(company))).toBe(LEAF_ID);
  });

  it('with unknown extensions that are not critical, and names of other forms', async () => {
    const more = [extension('1.2.3.4', false, Buffer.from('anything'))];
    expect(outcome([await forgeLeaf(root, { more, dns: ['*.example', 'web'] })])).toBe(LEAF_ID);
  });

  it('with both purposes or with any purpose', async () => {
    const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
    expect(outcome([await forgeLeaf(root, { purposes: [serverAuth, clientAuth] })])).toBe(LEAF_ID);
    expect(outcome([await forgeLeaf(root, { purposes: ['2.5.29.37.0'] })])).toBe(LEAF_ID);
  });
});

describe('a leaf is refused', () => {
  const cases: Array<[what: string, recipe: Recipe, code: string]> = [
    ['with the CA flag', { ca: true }, 'leaf-is-ca'],
    ['without key usage', { usage: 'absent' }, 'key-usage'],
    ['without digitalSignature', { usage: Usage.keyEncipherment }, 'key-usage'],
    ['with keyCertSign', { usage: Usage.digitalSignature | Usage.keyCertSign }, 'key-usage'],
    ['with cRLSign', { usage: Usage.digitalSignature | Usage.cRLSign }, 'key-usage'],
    ['for servers only', { purposes: [x509.ExtendedKeyUsage.serverAuth] }, 'key-usage'],
    ['for clients only', { purposes: [x509.ExtendedKeyUsage.clientAuth] }, 'key-usage'],
    ['for another purpose', { purposes: [x509.ExtendedKeyUsage.codeSigning] }, 'key-usage'],
    ['without alternative names', { uris: [] }, 'no-uri-san'],
    ['with a DNS name only', { uris: [], dns: ['web.shop.example'] }, 'no-uri-san'],
    ['with two URIs', { uris: [LEAF_ID, `spiffe://${DOMAIN}/other`] }, 'several-uri-sans'],
    ['with the same URI twice', { uris: [LEAF_ID, LEAF_ID] }, 'several-uri-sans'],
    ['with a URI of another scheme beside', { uris: [LEAF_ID, 'https://x.example/'] }, 'several-uri-sans'],
    ['with a URI that is no SPIFFE ID', { uris: ['https://shop.example/web'] }, 'invalid-spiffe-id'],
    ['with a wildcard', { uris: [`spiffe://${DOMAIN}/ns/*/sa/web`] }, 'invalid-spiffe-id'],
    ['with a wildcard trust domain', { uris: ['spiffe://*.example/web'] }, 'invalid-spiffe-id'],
    ['with the ID of the trust domain', { uris: [`spiffe://${DOMAIN}`] }, 'invalid-spiffe-id'],
    ['with a trailing slash', { uris: [`spiffe://${DOMAIN}/web/`] }, 'invalid-spiffe-id'],
    ['of another trust domain', { uris: ['spiffe://other.example/web'] }, 'wrong-trust-domain'],
    ['of a trust domain below ours', { uris: [`spiffe://sub.${DOMAIN}/web`] }, 'wrong-trust-domain'],
    ['that has expired', { notAfter: NOW - SECOND }, 'expired'],
    ['that is not valid yet', { notBefore: NOW + SECOND }, 'not-yet-valid'],
    ['with a P-384 key', { kind: 'p384' }, 'unsupported-algorithm'],
    ['with a P-521 key', { kind: 'p521' }, 'unsupported-algorithm'],
    ['with an RSA key', { kind: 'rsa' }, 'unsupported-algorithm'],
    [
      'with an unknown critical extension',
      { more: [extension('1.2.3.4', true, Buffer.from([5, 0]))] },
      'unknown-critical-extension',
    ],
    ['with name constraints', { more: [nameConstraints([[6, DOMAIN]])] }, 'name-constraint'],
    [
      'with an extension twice',
      { more: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: LEAF_ID }], true)] },
      'duplicate-extension',
    ],
    [
      'with an unknown extension twice',
      { more: [1, 2].map(() => extension('1.2.3.4', false, Buffer.from([5, 0]))) },
      'duplicate-extension',
    ],
    ['signed with SHA-1', { hash: 'SHA-1' }, 'unsupported-algorithm'],
    ['signed with SHA-512', { hash: 'SHA-512' }, 'unsupported-algorithm'],
    ['that names another issuer', { issuerName: 'CN=Another' }, 'untrusted-issuer'],
  ];

  it.each(cases)('%s', async (_what, recipe, code) => {
    expect(outcome([await forgeLeaf(root, recipe)])).toBe(code);
  });

  it('at the first millisecond after its last second, and not before', async () => {
    const leaf = await forgeLeaf(root, { notBefore: NOW, notAfter: NOW + 60 * SECOND });
    expect(outcome([leaf], bundle, NOW - 1)).toBe('not-yet-valid');
    expect(outcome([leaf], bundle, NOW)).toBe(LEAF_ID);
    expect(outcome([leaf], bundle, NOW + 60 * SECOND + 999)).toBe(LEAF_ID);
    expect(outcome([leaf], bundle, NOW + 61 * SECOND)).toBe('expired');
    expect(outcome([leaf], bundle, Number.NaN)).toBe('not-yet-valid');
  });

  it('signed by itself', async () => {
    const leaf = await forgeLeaf(root, { name: 'CN=Leaf' });
    const self = await forgeLeaf({ ...leaf, name: 'CN=Leaf' }, { name: 'CN=Leaf', keys: leaf.keys });
    expect(outcome([self])).toBe('untrusted-issuer');
    const pretender = await forgeLeaf({ ...leaf, name: root.name }, { name: root.name, keys: leaf.keys });
    expect(outcome([pretender])).toBe('bad-signature');
  });

  it('of a CA with the same name and another key', async () => {
    expect(outcome([await forgeLeaf(await forgeCa())])).toBe('bad-signature');
  });

  it('of a foreign CA', async () => {
    const foreign = await forgeCa({ name: 'CN=Foreign' });
    expect(outcome([await forgeLeaf(foreign)])).toBe('untrusted-issuer');
    expect(outcome([await forgeLeaf(foreign), foreign])).toBe('untrusted-issuer');
  });

  it('that is the CA itself', () => {
    expect(outcome([root])).toBe('leaf-is-ca');
  });

  it('with any bit of its signature flipped, or any of the signed bytes', async () => {
    const leaf = await forgeLeaf(root);
    const [tbs] = elementsOf(leaf.der) as [Buffer];
    const expected = ['bad-signature', 'malformed-certificate'];
    for (let at = leaf.der.length - 64; at < leaf.der.length; at++) {
      const flipped = Buffer.from(leaf.der);
      flipped[at]! ^= 1;
      expect(expected).toContain(outcome([flipped]));
    }
    for (let at = 0; at < tbs.length; at++) {
      const flipped = Buffer.from(leaf.der);
      flipped[leaf.der.indexOf(tbs) + at]! ^= 0x20;
      expect(outcome([flipped])).not.toBe(LEAF_ID);
    }
  });
});

describe('an issuer is refused', () => {
  const chainWith = async (recipe: Recipe, leaf: Recipe = {}): Promise<string> => {
    const intermediate = await forgeIntermediate(root, recipe);
    return outcome([await forgeLeaf(intermediate, leaf), intermediate]);
  };

  it.each<[what: string, recipe: Recipe, code: string]>([
    [
      'that is a leaf',
      { ca: false, usage: Usage.digitalSignature, uris: [`spiffe://${DOMAIN}/sibling`] },
      'not-a-ca',
    ],
    ['without basic constraints', { ca: 'absent' }, 'not-a-ca'],
    ['whose CA flag is false', { ca: false }, 'not-a-ca'],
    ['without keyCertSign', { usage: Usage.digitalSignature | Usage.cRLSign }, 'key-usage'],
    ['without key usage', { usage: 'absent' }, 'key-usage'],
    ['that has expired', { notAfter: NOW - SECOND }, 'expired'],
    ['that is not valid yet', { notBefore: NOW + SECOND }, 'not-yet-valid'],
    ['without a name', { name: '' }, 'chain-invalid'],
    ['of another trust domain', { uris: ['spiffe://other.example'] }, 'wrong-trust-domain'],
    ['with the ID of a service', { uris: [`spiffe://${DOMAIN}/web`] }, 'invalid-spiffe-id'],
    ['with two SPIFFE IDs', { uris: [`spiffe://${DOMAIN}`, `spiffe://${DOMAIN}`] }, 'several-uri-sans'],
    ['with a malformed SPIFFE ID', { uris: [`SPIFFE://${DOMAIN}`] }, 'invalid-spiffe-id'],
    ['for one purpose only', { purposes: [x509.ExtendedKeyUsage.serverAuth] }, 'key-usage'],
    [
      'with an unknown critical extension',
      { more: [extension('2.5.29.36', true, Buffer.from([0x30, 0]))] },
      'unknown-critical-extension',
    ],
    ['with an RSA key of 1,024 bits', { kind: 'rsa1024' }, 'unsupported-algorithm'],
    ['with a P-521 key', { kind: 'p521' }, 'unsupported-algorithm'],
  ])('%s', async (_what, recipe, code) => {
    expect(await chainWith(recipe)).toBe(code);
  });

  it('that is the leaf of a sibling, whatever the sibling calls itself', async () => {
    const sibling = await forgeLeaf(root, { name: 'CN=Sibling' });
    const victim = await forgeLeaf(sibling);
    expect(outcome([victim, sibling])).toBe('not-a-ca');
  });

  it('whose path length is crossed, by an intermediate or by the anchor', async () => {
    const one = await forgeIntermediate(root, { name: 'CN=1', pathLength: 0 });
    const two = await forgeIntermediate(one, { name: 'CN=2' });
    expect(outcome([await forgeLeaf(two), two, one])).toBe('path-too-long');
    const strict = await forgeCa({ name: 'CN=Strict', pathLength: 0 });
    const below = await forgeIntermediate(strict);
    const leaf = await forgeLeaf(below);
    expect(outcome([leaf, below], bundleOf(strict))).toBe('path-too-long');
    expect(outcome([leaf, below, strict], bundleOf(strict))).toBe('path-too-long');
    expect(outcome([await forgeLeaf(strict)], bundleOf(strict))).toBe(LEAF_ID);
  });

  it('that issued itself to get around a path length', async () => {
    const strict = await forgeCa({ name: 'CN=Strict', pathLength: 0 });
    const same = await forgeIntermediate(strict, { name: 'CN=Strict' });
    expect(outcome([await forgeLeaf(same), same], bundleOf(strict))).toBe('path-too-long');
  });

  it('in the bundle, once it has expired', async () => {
    const old = await forgeCa({ name: 'CN=Old', notAfter: NOW - SECOND });
    expect(outcome([await forgeLeaf(old)], bundleOf(old, root))).toBe('expired');
  });

  it('whose key is of another kind than the signature says', async () => {
    const ed = await forgeCa({ name: 'CN=Root', kind: 'ed25519' });
    const leaf = await forgeLeaf(root);
    expect(outcome([leaf], bundleOf(ed))).toBe('bad-signature');
  });
});

describe('a chain is refused', () => {
  it('that is empty', () => {
    expect(outcome([])).toBe('empty-chain');
  });

  it('with an anchor sent along that has another name than the issuer, though its key has signed', async () => {
    const leaf = await forgeLeaf(root, { issuerName: 'CN=Elsewhere' });
    expect(outcome([leaf, root])).toBe('chain-invalid');
    expect(outcome([await forgeLeaf(root), root])).toBe(LEAF_ID);
  });

  it('whose signature names an algorithm of another kind of key than made it', async () => {
    // OpenSSL goes by the key, not by the name: this ECDSA signature with SHA-256 holds, and calls itself RSA.
    const rsa = await forgeCa({ name: 'CN=RSA', kind: 'rsa' });
    const model = await forgeLeaf(rsa);
    const root256 = await forgeCa({ name: 'CN=RSA' });
    expect(outcome([model], bundleOf(rsa))).toBe(LEAF_ID);
    const disguised = await resigned(model, root256, (fields) => fields);
    expect(outcome([disguised], bundleOf(root256))).toBe('bad-signature');
  });

  it('in another order than leaf first', async () => {
    const one = await forgeIntermediate(root, { name: 'CN=1' });
    const two = await forgeIntermediate(one, { name: 'CN=2' });
    const leaf = await forgeLeaf(two);
    expect(outcome([leaf, two, one])).toBe(LEAF_ID);
    expect(outcome([two, leaf, one])).toBe('leaf-is-ca');
    expect(outcome([leaf, one, two])).toBe('untrusted-issuer');
    expect(outcome([leaf, one])).toBe('chain-invalid');
    expect(outcome([leaf, root, two, one])).toBe('chain-invalid');
  });

  it('with a certificate that does not belong to it', async () => {
    const stranger = await forgeIntermediate(root, { name: 'CN=Stranger' });
    expect(outcome([await forgeLeaf(root), stranger])).toBe('chain-invalid');
    const twin = await forgeIntermediate(root, { name: 'CN=Root' });
    expect(outcome([await forgeLeaf(root), twin])).toBe('bad-signature');
  });

  it('with a certificate missing', async () => {
    const intermediate = await forgeIntermediate(root);
    expect(outcome([await forgeLeaf(intermediate)])).toBe('untrusted-issuer');
  });

  it('of five certificates', async () => {
    const leaf = await forgeLeaf(root);
    expect(outcome([leaf, leaf, leaf, leaf, leaf])).toBe('chain-too-long');
    expect(outcome([leaf, leaf, leaf, leaf])).not.toBe('chain-too-long');
  });

  it('of more than 12 KiB, before any of it is parsed', async () => {
    expect(outcome([Buffer.alloc(12 * 1024)])).toBe('malformed-certificate');
    expect(outcome([Buffer.alloc(12 * 1024 + 1)])).toBe('chain-too-large');
    expect(outcome([Buffer.alloc(6 * 1024), Buffer.alloc(6 * 1024 + 1)])).toBe('chain-too-large');
  });

  it('with an error that says which certificate and why', async () => {
    const intermediate = await forgeIntermediate(root, { notAfter: NOW - SECOND });
    const leaf = await forgeLeaf(intermediate);
    expect(() => bundle.verifyChain([leaf.der, intermediate.der], NOW)).toThrow(
      'certificate 2 of 2 (issuer): expired at 2026-06-01T11:59:59.999Z',
    );
  });
});

it('the key of the leaf verifies signatures of its own algorithm only', async () => {
  const ecdsa = bundle.verifyChain([(await forgeLeaf(root)).der], NOW);
  expect(ecdsa.verifySignature(0x0807, Buffer.from('x'), Buffer.alloc(64))).toBe(false);
  expect(ecdsa.verifySignature(0x0403, Buffer.from('x'), Buffer.alloc(0))).toBe(false);
  expect(ecdsa.verifySignature(0x0403, Buffer.from('x'), Buffer.alloc(72, 0x30))).toBe(false);
});
