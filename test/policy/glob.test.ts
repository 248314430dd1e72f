import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Glob } from '../../src/policy/glob.ts';

/** The plain twin: all splits of the text, without memory, exponential. */
function naive(pattern: string, text: string): boolean {
  if (pattern === '') return text === '';
  if (pattern[0] !== '*')
    return text !== '' && text[0] === pattern[0] && naive(pattern.slice(1), text.slice(1));
  return naive(pattern.slice(1), text) || (text !== '' && text[0] !== '/' && naive(pattern, text.slice(1)));
}

const TABLE: Array<[pattern: string, text: string, matches: boolean]> = [
  ['/shop.Greeter/Hello', '/shop.Greeter/Hello', true],
  ['/shop.Greeter/Hello', '/shop.Greeter/Hello2', false],
  ['/shop.Greeter/*', '/shop.Greeter/Hello', true],
  ['/shop.Greeter/*', '/shop.Greeter/', true],
  ['/shop.Greeter/*', '/shop.Greeter', false],
  ['/shop.Greeter/*', '/shop.Greeter/Hello/x', false],
  ['/shop.Greeter/*', '/shop.Greeter2/Hello', false],
  ['/*/*', '/grpc.health.v1.Health/Check', true],
  ['/*/*', '/a/b/c', false],
  ['/*', '/a/b', false],
  ['/*.Admin/*', '/shop.v1.Admin/Drop', true],
  ['/*/Get*', '/shop.Greeter/GetAll', true],
  ['/*/Get*', '/shop.Greeter/ForGet', false],
  ['/*/*Get*', '/shop.Greeter/ForGetAll', true],
  ['spiffe://shop.example/ns/shop/sa/*', 'spiffe://shop.example/ns/shop/sa/web', true],
  ['spiffe://shop.example/ns/shop/sa/*', 'spiffe://shop.example/ns/shop/sa/web/admin', false],
  ['spiffe://shop.example/ns/*/sa/web', 'spiffe://shop.example/ns/a/b/sa/web', false],
  ['spiffe://*.example/ns/*/sa/*', 'spiffe://shop.example/ns/a/sa/b', true],
  ['*', 'spiffe://shop.example/ns/a/sa/b', false],
  ['', '', true],
  ['*', '', true],
  ['', 'x', false],
  ['a*b*c', 'abbbc', true],
  ['a*b*c', 'abbbcd', false],
  ['*a', 'bab', false],
  ['*ab', 'aab', true],
  ['a.c', 'abc', false],
  ['a+', 'aa', false],
  ['[ab]', 'a', false],
  ['*', '*', true],
];

describe('a glob', () => {
  it.each(TABLE)('%j against %j: %s', (pattern, text, matches) => {
    expect(new Glob(pattern).matches(text)).toBe(matches);
    expect(naive(pattern, text)).toBe(matches);
  });

  it('agrees with its plain twin on any pattern and text', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*'), maxLength: 12 });
    fc.assert(
      fc.property(text, text, (pattern, subject) => {
        expect(new Glob(pattern).matches(subject)).toBe(naive(pattern, subject));
      }),
      { numRuns: 5_000 },
    );
  });

  it('agrees with its plain twin on texts that were made to match', () => {
    const piece = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 4 });
    const filling = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 3 });
    fc.assert(
      fc.property(fc.array(fc.tuple(piece, filling), { maxLength: 4 }), piece, (parts, end) => {
        const pattern = `${parts.map(([fixed]) => `${fixed}*`).join('')}${end}`;
        const subject = `${parts.map(([fixed, filled]) => fixed + filled).join('')}${end}`;
        expect(new Glob(pattern).matches(subject)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it('takes no more steps than pattern times text, where a regular expression would hang', () => {
    let steps = 0;
    const text = 'a'.repeat(2_000);
    const counted = {
      length: text.length,
      charCodeAt: (at: number) => {
        steps++;
        return text.charCodeAt(at);
      },
    } as unknown as string;
    const pattern = `${'*a'.repeat(50)}*b`;
    expect(new Glob(pattern).matches(counted)).toBe(false);
    expect(steps).toBeLessThan(4 * pattern.length * text.length);
  });
});
