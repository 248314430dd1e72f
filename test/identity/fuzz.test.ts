import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseCertificate } from '../../src/identity/certificate.ts';
import { DerReader, Tag } from '../../src/identity/der.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { certificatesIn, privateKeyIn } from '../../src/identity/pem.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { DOMAIN, extension, forgeCa, forgeLeaf, NOW, nameConstraints, x509 } from './forge.ts';

const root = await forgeCa();
const intermediate = await forgeCa({
  name: 'CN=Intermediate',
  issuer: root,
  pathLength: 0,
  more: [nameConstraints([[6, '.example']], [[6, 'other.example']])],
});
const leaf = await forgeLeaf(intermediate, {
  purposes: [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
  dns: ['web'],
  more: [extension('1.2.3.4', false, Buffer.from('anything'))],
});
const chain = [leaf.der, intermediate.der];

/** Runs `run` and lets nothing but an IdentityError pass. */
function refused(run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch (error) {
    if (!(error instanceof IdentityError)) throw error;
    expect(error.message).toMatch(/^[ -~]+$/);
    return true;
  }
}

type Mutation = (bytes: Buffer) => Buffer;

const position = fc.nat({ max: 4095 });
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(position, fc.nat({ max: 7 })).map(
    ([at, bit]): Mutation =>
      (bytes) => {
        const copy = Buffer.from(bytes);
        if (copy.length > 0) copy[at % copy.length]! ^= 1 << bit;
        return copy;
      },
  ),
  fc.tuple(position, fc.nat({ max: 255 })).map(
    ([at, byte]): Mutation =>
      (bytes) => {
        const copy = Buffer.from(bytes);
        if (copy.length > 0) copy[at % copy.length] = byte;
        return copy;
      },
  ),
  fc.tuple(position, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(
    ([at, more]): Mutation =>
      (bytes) => {
        const cut = at % (bytes.length + 1);
        return Buffer.concat([bytes.subarray(0, cut), more, bytes.subarray(cut)]);
      },
  ),
  fc.tuple(position, fc.integer({ min: 1, max: 64 })).map(
    ([at, count]): Mutation =>
      (bytes) => {
        const cut = at % (bytes.length + 1);
        return Buffer.concat([bytes.subarray(0, cut), bytes.subarray(cut + count)]);
      },
  ),
  fc.tuple(position, position, position).map(
    ([from, to, length]): Mutation =>
      (bytes) => {
        const copy = Buffer.from(bytes);
        if (copy.length > 0)
          bytes.copy(copy, to % copy.length, from % copy.length, (from % copy.length) + (length % 40));
        return copy;
      },
  ),
  position.map(
    (at): Mutation =>
      (bytes) =>
        bytes.subarray(0, at % (bytes.length + 1)),
  ),
);

it('the chain that is mutated below is a good one', () => {
  const bundle = new TrustBundle({ trustDomain: DOMAIN, certificates: [root.der] });
  expect(bundle.verifyChain(chain, NOW).trustDomain).toBe(DOMAIN);
});

it('a mutated chain is refused with an IdentityError, whatever the mutation', () => {
  const bundle = new TrustBundle({ trustDomain: DOMAIN, certificates: [root.der] });
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), fc.boolean(), (mutations, first) => {
      const target = first ? leaf.der : intermediate.der;
      const mutated = mutations.reduce((bytes, mutate) => mutate(bytes), target);
      fc.pre(!mutated.equals(target));
      expect(
        refused(() => bundle.verifyChain(first ? [mutated, intermediate.der] : [leaf.der, mutated], NOW)),
      ).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

it('a mutated CA certificate gives a bundle or an IdentityError', () => {
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
      const mutated = mutations.reduce((bytes, mutate) => mutate(bytes), intermediate.der);
      refused(() => new TrustBundle({ trustDomain: DOMAIN, certificates: [mutated] }));
    }),
    { numRuns: 1000 },
  );
});

it('any bytes at all give an IdentityError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
      expect(refused(() => parseCertificate(bytes))).toBe(true);
      expect(
        refused(() => parseCertificate(Buffer.concat([Buffer.from([0x30, 0x82, 2, 0, 0x30]), bytes]))),
      ).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

it('the DER reader ends after as many elements as there are bytes, or throws IdentityError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const reader = new DerReader(Buffer.from(bytes));
      let elements = 0;
      refused(() => {
        while (!reader.atEnd) {
          reader.element(reader.nextTag);
          expect(++elements).toBeLessThanOrEqual(bytes.length);
        }
      });
    }),
    { numRuns: 1000 },
  );
});

it('a time is read as Date has it, or refused', () => {
  fc.assert(
    fc.property(
      fc.date({
        min: new Date('0000-01-01T00:00:00Z'),
        max: new Date('9999-12-31T23:59:59Z'),
        noInvalidDate: true,
      }),
      (date) => {
        const whole = Math.floor(date.getTime() / 1000) * 1000;
        const text = `${new Date(whole).toISOString().replace(/[-T:]|\.\d+/g, '')}`;
        const der = Buffer.concat([Buffer.from([Tag.GENERALIZED_TIME, text.length]), Buffer.from(text)]);
        expect(new DerReader(der).time()).toBe(whole);
      },
    ),
  );
});

it('any file gives certificates or an IdentityError, and so for keys', () => {
  const pem = fc.stringMatching(
    /^(-----(BEGIN|END) (CERTIFICATE|PRIVATE KEY|EC PARAMETERS|X)-----|[A-Za-z0-9+/=\n]{0,9}|[ -~\n]){0,40}$/,
  );
  fc.assert(
    fc.property(fc.oneof(pem, fc.string({ unit: 'binary' })), (text) => {
      refused(() => certificatesIn(Buffer.from(text)));
      refused(() => privateKeyIn(Buffer.from(text)));
    }),
    { numRuns: 300 },
  );
});
