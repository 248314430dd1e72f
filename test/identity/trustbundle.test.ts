import { describe, expect, it } from 'vitest';
import { IdentityError } from '../../src/identity/errors.ts';
import { toPem } from '../../src/identity/pem.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { DOMAIN, extension, forgeCa, forgeIntermediate, forgeLeaf, NOW, Usage } from './forge.ts';

const root = await forgeCa();
const pem = toPem('CERTIFICATE', root.der);
const newBundle = (): TrustBundle => TrustBundle.fromPem(pem, DOMAIN);

const refusal = (run: () => unknown): IdentityError => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(IdentityError);
    return error as IdentityError;
  }
  throw new Error('accepted');
};

describe('a validated chain', () => {
  it('is remembered, and every later peer with it is the same object', async () => {
    const bundle = newBundle();
    const { der } = await forgeLeaf(root);
    const first = bundle.verifyChain([der], NOW);
    expect(bundle.verifyChain([Buffer.from(der)], NOW + 1)).toBe(first);
    expect(bundle.cached).toBe(1);
  });

  it('is refused from the cache too, once any of it is out of its validity', async () => {
    const bundle = newBundle();
    const { der } = await forgeLeaf(root, { notBefore: NOW - 1000, notAfter: NOW + 1000 });
    bundle.verifyChain([der], NOW);
    expect(refusal(() => bundle.verifyChain([der], NOW - 1001)).code).toBe('not-yet-valid');
    bundle.verifyChain([der], NOW);
    expect(refusal(() => bundle.verifyChain([der], NOW + 2000)).code).toBe('expired');
    expect(bundle.cached).toBe(0);
  });

  it('is refused from the cache too, once the CA of the bundle has expired', async () => {
    const short = await forgeCa({ notAfter: NOW + 1000 });
    const bundle = new TrustBundle({ trustDomain: DOMAIN, certificates: [short.der] });
    const { der } = await forgeLeaf(short);
    bundle.verifyChain([der], NOW);
    expect(refusal(() => bundle.verifyChain([der], NOW + 2000)).code).toBe('expired');
  });

  it('does not change when the bytes it came in are used again', async () => {
    const bundle = newBundle();
    const { der } = await forgeLeaf(root);
    const read = Buffer.from(der);
    const peer = bundle.verifyChain([read], NOW);
    read.fill(0);
    expect(peer.chain[0]).toEqual(der);
    expect(bundle.verifyChain([der], NOW)).toBe(peer);
  });

  it('cannot be split in another way and be taken for the same', async () => {
    const bundle = newBundle();
    const { der } = await forgeLeaf(root);
    bundle.verifyChain([der], NOW);
    const split = [der.subarray(0, 100), der.subarray(100)];
    expect(refusal(() => bundle.verifyChain(split, NOW)).code).toBe('malformed-certificate');
    expect(refusal(() => bundle.verifyChain([der, Buffer.alloc(0)], NOW)).code).toBe('malformed-certificate');
  });

  it('is forgotten by the bundle of the next generation', async () => {
    const bundle = newBundle();
    const { der } = await forgeLeaf(root);
    bundle.verifyChain([der], NOW);
    const other = await forgeCa();
    const next = new TrustBundle({ trustDomain: DOMAIN, certificates: [other.der], generation: 2 });
    expect(next.generation).toBe(2);
    expect(refusal(() => next.verifyChain([der], NOW)).code).toBe('bad-signature');
  });

  it('is kept in bounded memory: of 400 chains of 11 KiB the oldest are dropped', async () => {
    const bundle = newBundle();
    const more = [extension('1.2.3.4', false, Buffer.alloc(10 * 1024))];
    const large = await forgeIntermediate(root, { more });
    for (let n = 0; n < 400; n++) bundle.verifyChain([(await forgeLeaf(large)).der, large.der], NOW);
    expect(bundle.cached).toBeGreaterThan(250);
    expect(bundle.cached).toBeLessThan(400);
  });

  it('that was refused is not remembered', async () => {
    const bundle = newBundle();
    const { der } = await forgeLeaf(root, { usage: Usage.keyCertSign });
    refusal(() => bundle.verifyChain([der], NOW));
    expect(bundle.cached).toBe(0);
  });
});

describe('a bundle', () => {
  it('may hold several CAs, with text between them', async () => {
    const second = await forgeCa({ name: 'CN=Second' });
    const text = `# old\n${pem}\n# new\r\n${toPem('CERTIFICATE', second.der)}`;
    const bundle = TrustBundle.fromPem(text, DOMAIN, 7);
    expect(bundle.trustDomain).toBe(DOMAIN);
    expect(bundle.generation).toBe(7);
    expect(bundle.verifyChain([(await forgeLeaf(second)).der], NOW).trustDomain).toBe(DOMAIN);
  });

  it('may hold an intermediate without its root', async () => {
    const intermediate = await forgeCa({ name: 'CN=Intermediate', issuer: root });
    const bundle = new TrustBundle({ trustDomain: DOMAIN, certificates: [intermediate.der] });
    expect(bundle.verifyChain([(await forgeLeaf(intermediate)).der], NOW).trustDomain).toBe(DOMAIN);
  });

  it.each([
    ['a leaf', { ca: false, usage: Usage.digitalSignature }, 'not-a-ca'],
    ['a CA without keyCertSign', { usage: Usage.cRLSign }, 'key-usage'],
    ['a CA of another trust domain', { uris: ['spiffe://other.example'] }, 'wrong-trust-domain'],
    ['a CA with the ID of a service', { uris: [`spiffe://${DOMAIN}/web`] }, 'invalid-spiffe-id'],
    ['a CA with a weak key', { kind: 'rsa1024' }, 'unsupported-algorithm'],
  ] as const)('with %s is refused', async (_what, recipe, code) => {
    const bad = await forgeCa(recipe as never);
    const error = refusal(() => new TrustBundle({ trustDomain: DOMAIN, certificates: [root.der, bad.der] }));
    expect(error.code).toBe(code);
    expect(error.message).toContain('certificate 2 of 2 in the bundle');
  });

  it('with a self-signed certificate whose signature is broken is refused', () => {
    const broken = Buffer.from(root.der);
    broken[broken.length - 1]! ^= 1;
    const error = refusal(() => new TrustBundle({ trustDomain: DOMAIN, certificates: [broken] }));
    expect(error.code).toBe('bad-signature');
  });

  it('without a certificate or with 65 is refused', () => {
    for (const count of [0, 65]) {
      const certificates = Array.from({ length: count }, () => root.der);
      const error = refusal(() => new TrustBundle({ trustDomain: DOMAIN, certificates }));
      expect(error.code).toBe('bad-bundle');
    }
    const certificates = Array.from({ length: 64 }, () => root.der);
    expect(new TrustBundle({ trustDomain: DOMAIN, certificates }).cached).toBe(0);
  });

  it('whose CA expires says when the last one does', async () => {
    const later = await forgeCa({ notAfter: NOW + 9_000_000 });
    const bundle = new TrustBundle({ trustDomain: DOMAIN, certificates: [root.der, later.der] });
    expect(bundle.notAfter).toBe(NOW + 9_000_999);
  });
});
