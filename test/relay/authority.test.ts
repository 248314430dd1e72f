import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAuthority } from '../../src/relay/authority.ts';

describe('an :authority', () => {
  it.each([
    ['greeter', 'greeter', 0],
    ['Greeter.SHOP:50051', 'greeter.shop', 50051],
    ['greeter.shop.', 'greeter.shop', 0],
    ['greeter.shop.:80', 'greeter.shop', 80],
    ['under_score-1.x', 'under_score-1.x', 0],
    ['10.1.2.3:15008', '10.1.2.3', 15008],
    ['[::1]', '[::1]', 0],
    ['[2001:DB8::1]:443', '[2001:db8::1]', 443],
    ['a:65535', 'a', 65535],
    ['a:00080', 'a', 80],
  ])('%s is name %s, port %i', (text, name, port) => expect(parseAuthority(text)).toEqual({ name, port }));

  it.each([
    '',
    '.',
    '..',
    'a..b',
    '.a',
    ':80',
    'a:',
    'a:0',
    'a:65536',
    'a:123456',
    'a:-1',
    'a:8x',
    'a b',
    'user@host',
    'a/b',
    'http://a',
    '::1',
    '::1:80',
    '[::1',
    '::1]',
    '[::1]x',
    '[::1]:',
    '[]',
    '[a]b:1',
    'grüße',
    'a\n',
    'a'.repeat(256),
  ])('%j is none', (text) => expect(parseAuthority(text)).toBeUndefined());

  it('never makes a name that could be read otherwise', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40, unit: 'binary' }), (text) => {
        const parsed = parseAuthority(text);
        if (parsed === undefined) return;
        expect(parsed.name).toMatch(/^(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])$/);
        expect(parsed.port).toBeGreaterThanOrEqual(0);
        expect(parsed.port).toBeLessThanOrEqual(65_535);
        const again = parseAuthority(parsed.port === 0 ? parsed.name : `${parsed.name}:${parsed.port}`);
        if (!parsed.name.endsWith('.')) expect(again).toEqual(parsed);
      }),
    );
  });

  it('gives back every name and port that it is made of', () => {
    const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);
    const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));
    fc.assert(
      fc.property(name, fc.integer({ min: 1, max: 65_535 }), (host, port) => {
        expect(parseAuthority(`${host.toUpperCase()}:${port}`)).toEqual({ name: host, port });
      }),
    );
  });
});
