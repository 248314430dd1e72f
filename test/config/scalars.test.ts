import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatAddress,
  isLoopback,
  parseAppAddress,
  parseAuthority,
  parseEndpoint,
  parseListen,
  parseListener,
  parseService,
} from '../../src/config/address.ts';
import { ValueError } from '../../src/config/errors.ts';
import { KINDS } from '../../src/config/kinds.ts';
import { editDistance, nearest } from '../../src/config/nearest.ts';
import { formatDuration, formatSize, parseDuration, parseSize } from '../../src/config/quantity.ts';
import {
  parseMethodGlob,
  parseSpiffeGlob,
  parseSpiffeId,
  parseTrustDomain,
} from '../../src/config/spiffe.ts';

const same = (path: string) => path;
const tcp = (host: string, port: number) => ({ kind: 'tcp', host, port });

describe('quantities', () => {
  it.each([
    ['500ms', 500],
    ['60s', 60_000],
    ['1.5h', 5_400_000],
    ['0s', 0],
    ['2d', 172_800_000],
  ])('%s is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each([
    ['512B', 512],
    ['64KiB', 65_536],
    ['0.5MiB', 524_288],
    ['32GiB', 34_359_738_368],
  ])('%s is %d bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each([
    '',
    's',
    '60',
    '-1s',
    '1 s',
    '1h30m',
    '1e3s',
    '1H',
    '1.s',
    `${'9'.repeat(400)}d`,
    '60\n',
    'Infinitys',
  ])('%j is no duration', (text) => expect(() => parseDuration(text)).toThrow(ValueError));
  it.each(['', '64', '64k', '64KB', '64kib', '-1B', `${'9'.repeat(30)}TiB`])('%j is no size', (text) =>
    expect(() => parseSize(text)).toThrow(ValueError),
  );

  it('what is formatted parses to the same', () => {
    fc.assert(fc.property(fc.nat(2 ** 31 - 1), (n) => parseDuration(formatDuration(n)) === n));
    fc.assert(fc.property(fc.maxSafeNat(), (n) => parseSize(formatSize(n)) === n));
  });
});

describe('addresses', () => {
  it.each([
    ['127.0.0.1:15001', [tcp('127.0.0.1', 15001)]],
    ['[::1]:0', [tcp('::1', 0)]],
    ['[0:0:0::1]:80', [tcp('::1', 80)]],
    ['[fe80::1%eth0]:80', [tcp('fe80::1%eth0', 80)]],
    [':15008', [tcp('0.0.0.0', 15008), tcp('::', 15008)]],
    ['*:15008', [tcp('0.0.0.0', 15008), tcp('::', 15008)]],
    ['LocalHost:1', [tcp('127.0.0.1', 1), tcp('::1', 1)]],
    ['unix:/run/a.sock', [{ kind: 'unix', path: '/run/a.sock' }]],
    ['unix:///run/a.sock', [{ kind: 'unix', path: '/run/a.sock' }]],
    ['off', []],
  ])('%s can be listened on', (text, addresses) => expect(parseListen(text, same)).toEqual(addresses));

  it.each([
    ['', 'has no port'],
    ['15001', 'has no host: write 127.0.0.1:15001'],
    ['127.0.0.1', 'write 127.0.0.1:15008'],
    ['::1', 'write [::1]:15008'],
    ['::1:x', 'needs brackets: write [::1]:x'],
    ['a:b:1', 'has too many colons'],
    ['fe80:0:0:0:0:0:0:1:80', 'needs brackets: write [fe80:0:0:0:0:0:0:1]:80'],
    ['[::1]', 'write [::1]:15008'],
    ['[127.0.0.1]:1', 'brackets around something that is not an IPv6 address'],
    ['127.0.0.1:65536', 'ports are 0 to 65535'],
    ['127.0.0.1:', 'has the port ""'],
    ['127.0.0.1:+1', 'has the port "+1"'],
    ['127.1:1', 'is not an IP address'],
    ['unix:', 'has no path'],
    [`unix:/${'x'.repeat(103)}`, 'more than 103 bytes'],
  ])('%j cannot be listened on', (text, problem) => expect(() => parseListen(text, same)).toThrow(problem));

  it('a listener of its own names one address', () => {
    expect(parseListener('localhost:1', same)).toEqual(tcp('127.0.0.1', 1));
    for (const text of [':1', '*:1', 'off']) expect(() => parseListener(text, same)).toThrow(ValueError);
  });

  it.each([
    ['10.1.2.3:15008', '10.1.2.3', 15008],
    ['[2001:db8::1]:1', '2001:db8::1', 1],
    ['Greeter-Mesh.shop:1', 'greeter-mesh.shop', 1],
    ['a.b.:1', 'a.b.', 1],
    ['_grpc._tcp.a:1', '_grpc._tcp.a', 1],
  ])('%s can be dialled', (text, host, port) => expect(parseEndpoint(text)).toEqual({ host, port }));

  it.each([
    'a',
    'a:0',
    ':1',
    'a b:1',
    'a..b:1',
    '-a:1',
    '10.0.0.256:1',
    '1.2:1',
    'http://a:1',
    `${'a'.repeat(64)}:1`,
  ])('%j cannot be dialled', (text) => expect(() => parseEndpoint(text)).toThrow(ValueError));

  it('an app may listen on a Unix socket', () => {
    expect(parseAppAddress('unix:/a', same)).toEqual({ kind: 'unix', path: '/a' });
    expect(parseAppAddress('127.0.0.1:1', same)).toEqual(tcp('127.0.0.1', 1));
  });

  it.each([
    ['Greeter', 'greeter'],
    ['greeter.shop:50051', 'greeter.shop:50051'],
    ['*', '*'],
    ['*:80', '*:80'],
    ['*.Shop.svc:1', '*.shop.svc:1'],
    ['::1', '[::1]'],
    ['[0::1]', '[::1]'],
    ['[::1]:5', '[::1]:5'],
    ['10.0.0.1', '10.0.0.1'],
    ['10.0.0.1:5', '10.0.0.1:5'],
  ])('%s is an authority', (text, canonical) => expect(parseAuthority(text)).toBe(canonical));

  it.each([
    '',
    'a/b',
    'a*',
    '*a.b',
    'a.*.b',
    '**',
    '*.',
    'a:',
    'a:0',
    'a:70000',
    'a:b',
    '1.2.3',
    '[::x]',
    'a b',
    'user@a',
  ])('%j is no authority', (text) => expect(() => parseAuthority(text)).toThrow(ValueError));

  it('services are names without ports', () => {
    expect(parseService('Greeter.Shop')).toBe('greeter.shop');
    for (const text of ['', 'a:1', '*', 'a.', '10.0.0.1', 'a/b'])
      expect(() => parseService(text)).toThrow(ValueError);
  });

  it.each([
    ['127.0.0.1:1', true],
    ['127.9.9.9:1', true],
    ['[::1]:1', true],
    ['[::ffff:127.0.0.1]:1', true],
    ['unix:/a', true],
    ['0.0.0.0:1', false],
    ['[::]:1', false],
    ['10.0.0.1:1', false],
    ['[::ffff:10.0.0.1]:1', false],
    ['[2001::7f00:1]:1', false],
  ])('%s is loopback: %s', (text, loopback) => expect(isLoopback(parseListen(text, same)[0])).toBe(loopback));

  it('a name that only begins like loopback is not', () => {
    expect(isLoopback({ kind: 'tcp', host: '127.0.0.1.evil.example', port: 1 })).toBe(false);
    expect(isLoopback({ kind: 'tcp', host: 'localhost', port: 1 })).toBe(true);
  });

  it('what is formatted parses to the same', () => {
    const host = fc.oneof(
      fc.ipV4(),
      fc.ipV6().map((ip) => `[${ip}]`),
    );
    fc.assert(
      fc.property(host, fc.nat(65_535), (name, port) => {
        const [address] = parseListen(`${name}:${port}`, same);
        expect(parseListen(formatAddress(address), same)).toEqual([address]);
      }),
    );
  });
});

describe('SPIFFE IDs', () => {
  it.each(['shop.example', 'a', 'a-b_c.9'])('%s is a trust domain', (text) =>
    expect(parseTrustDomain(text)).toBe(text),
  );
  it.each(['', 'Shop', 'a b', 'a/b', 'spiffe://a', 'a'.repeat(256), 'a:1'])('%j is none', (text) =>
    expect(() => parseTrustDomain(text)).toThrow(ValueError),
  );

  it.each(['spiffe://shop.example/ns/shop/sa/web', 'spiffe://a/b', 'spiffe://a/...'])('%s is an ID', (text) =>
    expect(parseSpiffeId(text)).toBe(text),
  );
  it.each([
    '',
    'spiffe://a',
    'spiffe://a/',
    'spiffe:///b',
    'spiffe://a//b',
    'spiffe://a/b/',
    'spiffe://a/./b',
    'spiffe://a/../b',
    'spiffe://A/b',
    'SPIFFE://a/b',
    'spiffe://a/*',
    'spiffe://a/b c',
    'spiffe://a/%41',
    'spiffe://a:1/b',
    'spiffe://u@a/b',
    'https://a/b',
    `spiffe://a/${'b'.repeat(2048)}`,
  ])('%j is none', (text) => expect(() => parseSpiffeId(text)).toThrow(ValueError));

  it('globs are IDs with stars, and methods are paths', () => {
    for (const text of ['spiffe://a/*', 'spiffe://*.a/b/c*d', 'spiffe://a/b'])
      expect(parseSpiffeGlob(text)).toBe(text);
    for (const text of ['*', '**', 'spiffe://*', 'spiffe://a/**', 'spiffe://a/?', 'spiffe://a/[b]']) {
      expect(() => parseSpiffeGlob(text)).toThrow(ValueError);
    }
    for (const text of ['/a.B/C', '/*/*', '/a.B/*', '/']) expect(parseMethodGlob(text)).toBe(text);
    for (const text of ['', '*', 'a.B/C', '/a/**', '/a b', '/a?b', '/a#b', '/\u00e9']) {
      expect(() => parseMethodGlob(text)).toThrow(ValueError);
    }
  });
});

it('every kind takes its own example', () => {
  for (const [name, kind] of Object.entries(KINDS)) {
    expect(() => kind.parse(kind.example, same), name).not.toThrow();
    if ('pattern' in kind) expect(kind.example).toMatch(new RegExp(kind.pattern));
  }
});

it('no kind throws anything but a ValueError, whatever the text', () => {
  const piece = fc.constantFrom(
    'spiffe://',
    'unix:',
    '[',
    ']',
    ':',
    '::',
    '/',
    '*',
    '.',
    '-',
    '1',
    'a',
    's',
    'redis://',
    '@',
    '\0',
    '%',
    'file://',
  );
  const text = fc.oneof(
    fc.array(piece, { maxLength: 10 }).map((pieces) => pieces.join('')),
    fc.string({ unit: 'binary', maxLength: 30 }),
  );
  fc.assert(
    fc.property(text, fc.constantFrom(...Object.values(KINDS)), (value, kind) => {
      try {
        kind.parse(value, same);
      } catch (error) {
        expect(error).toBeInstanceOf(ValueError);
      }
    }),
    { numRuns: 5_000 },
  );
});

describe('the nearest name', () => {
  it.each([
    ['idel', 'idle'],
    ['iddle', 'idle'],
    ['max_per_peer', 'maxPerPeer'],
    ['MAXPERPEER', 'maxPerPeer'],
    ['maxPeerPeer', 'maxPerPeer'],
    ['absolut', 'absolute'],
  ])('to %s is %s', (asked, expected) => {
    expect(nearest(asked, ['absolute', 'idle', 'max', 'maxPerPeer'])).toBe(expected);
  });

  it('is nothing when nothing is near', () => {
    expect(nearest('zzz', ['idle', 'max'])).toBeUndefined();
    expect(nearest('', ['idle'])).toBeUndefined();
    expect(nearest('x', [])).toBeUndefined();
    expect(nearest('x'.repeat(100_000), ['idle'])).toBeUndefined();
  });

  it('has the distance of its plain twin', () => {
    const plain = (a: string, b: string): number => {
      if (a === '' || b === '') return a.length + b.length;
      const swap =
        a.length > 1 && b.length > 1 && a.at(-1) === b.at(-2) && a.at(-2) === b.at(-1)
          ? plain(a.slice(0, -2), b.slice(0, -2)) + 1
          : Number.POSITIVE_INFINITY;
      return Math.min(
        plain(a.slice(0, -1), b) + 1,
        plain(a, b.slice(0, -1)) + 1,
        plain(a.slice(0, -1), b.slice(0, -1)) + (a.at(-1) === b.at(-1) ? 0 : 1),
        swap,
      );
    };
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 5 });
    fc.assert(
      fc.property(word, word, (a, b) => editDistance(a, b) === plain(a, b)),
      { numRuns: 300 },
    );
  });
});
