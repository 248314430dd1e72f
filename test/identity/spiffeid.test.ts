import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IdentityError } from '../../src/identity/errors.ts';
import {
  fileNameFor,
  parseSpiffeId,
  parseTrustDomain,
  spiffeIdForName,
} from '../../src/identity/spiffeid.ts';

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(IdentityError);
    return (error as IdentityError).code;
  }
  return 'accepted';
};

describe('a SPIFFE ID', () => {
  it.each([
    ['spiffe://shop.example', 'shop.example', ''],
    ['spiffe://shop.example/ns/default/sa/web', 'shop.example', '/ns/default/sa/web'],
    ['spiffe://a_b-c.9/X.y_z-0', 'a_b-c.9', '/X.y_z-0'],
    ['spiffe://d/...', 'd', '/...'],
    [`spiffe://${'a'.repeat(255)}/x`, 'a'.repeat(255), '/x'],
    [`spiffe://d/${'p'.repeat(2048 - 11)}`, 'd', `/${'p'.repeat(2048 - 11)}`],
  ])('%s is one', (id, trustDomain, path) => {
    expect(parseSpiffeId(id)).toEqual({ id, trustDomain, path });
  });

  it.each([
    ['nothing', ''],
    ['another scheme', 'https://shop.example/web'],
    ['an upper-case scheme', 'SPIFFE://shop.example/web'],
    ['no authority', 'spiffe:/web'],
    ['no trust domain', 'spiffe:///web'],
    ['an upper-case trust domain', 'spiffe://Shop.example/web'],
    ['a port', 'spiffe://shop.example:443/web'],
    ['a user', 'spiffe://user@shop.example/web'],
    ['a wildcard domain', 'spiffe://*.example/web'],
    ['a wildcard path', 'spiffe://shop.example/*'],
    ['a trailing slash', 'spiffe://shop.example/web/'],
    ['only a slash', 'spiffe://shop.example/'],
    ['an empty segment', 'spiffe://shop.example/a//b'],
    ['a dot segment', 'spiffe://shop.example/a/./b'],
    ['a parent segment', 'spiffe://shop.example/../b'],
    ['percent encoding', 'spiffe://shop.example/%61'],
    ['a query', 'spiffe://shop.example/web?x=1'],
    ['a query without a path', 'spiffe://shop.example?x=1'],
    ['a fragment', 'spiffe://shop.example/web#x'],
    ['a NUL', 'spiffe://shop.example/web\0'],
    ['a line end', 'spiffe://shop.example/web\n'],
    ['letters beyond ASCII', 'spiffe://shöp.example/web'],
    ['a trust domain of 256 bytes', `spiffe://${'a'.repeat(256)}/x`],
    ['2,049 bytes', `spiffe://d/${'p'.repeat(2048 - 10)}`],
  ])('with %s is refused', (_what, id) => {
    expect(codeOf(() => parseSpiffeId(id))).toBe('invalid-spiffe-id');
  });

  it('of any text is either parsed into its own parts or refused', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.string().map((s) => `spiffe://${s}`),
        ),
        (text) => {
          if (codeOf(() => parseSpiffeId(text)) === 'invalid-spiffe-id') return;
          const { trustDomain, path } = parseSpiffeId(text);
          expect(`spiffe://${trustDomain}${path}`).toBe(text);
          expect(new URL(text).host).toBe(trustDomain);
          expect(text).toMatch(/^[ -~]+$/);
        },
      ),
    );
  });

  it('that is refused is quoted in bounded, printable form', () => {
    const text = `spiffe://\u001b[31m\u2028${'x'.repeat(10_000)}`;
    const error = (() => {
      try {
        return parseSpiffeId(text);
      } catch (caught) {
        return caught as IdentityError;
      }
    })() as IdentityError;
    expect(error.message.length).toBeLessThan(300);
    expect(error.message).toMatch(/^[ -~]+$/);
  });
});

it('a trust domain is given by its name or its ID', () => {
  expect(parseTrustDomain('shop.example')).toBe('shop.example');
  expect(parseTrustDomain('spiffe://shop.example')).toBe('shop.example');
  for (const bad of ['', 'Shop', 'a b', 'shop.example/web', 'spiffe://', 'a'.repeat(256), 'x:1', 'x\n']) {
    expect(codeOf(() => parseTrustDomain(bad))).toBe('invalid-trust-domain');
  }
});

describe('NAME', () => {
  it.each([
    ['greeter', 'spiffe://shop.example/ns/default/sa/greeter', 'greeter'],
    ['default/greeter', 'spiffe://shop.example/ns/default/sa/greeter', 'greeter'],
    ['shop/greeter', 'spiffe://shop.example/ns/shop/sa/greeter', 'shop.greeter'],
    ['spiffe://shop.example/ns/a/sa/b', 'spiffe://shop.example/ns/a/sa/b', 'a.b'],
    ['spiffe://shop.example/db', 'spiffe://shop.example/db', 'db'],
    ['spiffe://shop.example/x/y/z', 'spiffe://shop.example/x/y/z', 'x.y.z'],
  ])('%s stands for %s and lies in %s.pem', (name, id, file) => {
    const parsed = spiffeIdForName(name, 'shop.example');
    expect(parsed.id).toBe(id);
    expect(fileNameFor(parsed)).toBe(file);
  });

  it.each(['', '/', 'a/', '/a', 'a/b/c', '..', '../x', 'a b', 'a*', 'ä', 'a\n', 'spiffe://shop.example'])(
    '%j is refused',
    (name) => {
      expect(codeOf(() => spiffeIdForName(name, 'shop.example'))).toBe('invalid-name');
    },
  );

  it('of another trust domain is refused', () => {
    expect(codeOf(() => spiffeIdForName('spiffe://other.example/a', 'shop.example'))).toBe(
      'wrong-trust-domain',
    );
  });

  it.each(['ca', 'CA', 'bundle', '.hidden'])('%s would clash with files of the CA', (name) => {
    expect(codeOf(() => fileNameFor(spiffeIdForName(name, 'shop.example')))).toBe('invalid-name');
  });
});
