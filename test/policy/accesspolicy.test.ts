import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AllowRule } from '../../src/config/config.ts';
import { AccessPolicy } from '../../src/policy/accesspolicy.ts';
import { Glob } from '../../src/policy/glob.ts';

const WEB = 'spiffe://shop.example/ns/shop/sa/web';
const CART = 'spiffe://shop.example/ns/shop/sa/cart';
const ANYONE = 'spiffe://shop.example/ns/*/sa/*';

const rule = (peer: string, method: string, action: AllowRule['action'] = 'allow'): AllowRule => ({
  peer,
  methods: [method],
  action,
});

describe('an access policy', () => {
  it('denies what no rule allows', () => {
    expect(new AccessPolicy([], 'enforce').check(WEB, '/a.B/C')).toEqual({ allowed: false });
    const policy = new AccessPolicy([rule(WEB, '/shop.Greeter/*')], 'enforce');
    expect(policy.check(WEB, '/shop.Greeter/Hello')).toEqual({ allowed: true, rule: 0 });
    expect(policy.check(CART, '/shop.Greeter/Hello')).toEqual({ allowed: false });
    expect(policy.check(WEB, '/shop.Other/Hello')).toEqual({ allowed: false });
    expect(policy.check(WEB, '')).toEqual({ allowed: false });
    expect(policy.check('', '/shop.Greeter/Hello')).toEqual({ allowed: false });
  });

  it('allows what no rule names in mode open, but still denies what a rule denies', () => {
    const policy = new AccessPolicy([rule(ANYONE, '/shop.Admin/*', 'deny')], 'open');
    expect(policy.check(WEB, '/shop.Greeter/Hello')).toEqual({ allowed: true });
    expect(policy.check(WEB, '/shop.Admin/Drop')).toEqual({ allowed: false, rule: 0 });
  });

  it('lets deny beat allow whatever their order', () => {
    const allow = rule(ANYONE, '/*/*');
    const deny = rule(WEB, '/shop.Admin/*', 'deny');
    expect(new AccessPolicy([allow, deny], 'enforce').check(WEB, '/shop.Admin/Drop')).toEqual({
      allowed: false,
      rule: 1,
    });
    expect(new AccessPolicy([deny, allow], 'enforce').check(WEB, '/shop.Admin/Drop')).toEqual({
      allowed: false,
      rule: 0,
    });
    expect(new AccessPolicy([deny, allow], 'enforce').check(CART, '/shop.Admin/Drop').allowed).toBe(true);
  });

  it('says when only an audit rule let a call pass', () => {
    const rules = [rule(ANYONE, '/*/*', 'audit'), rule(WEB, '/shop.Greeter/*')];
    const policy = new AccessPolicy(rules, 'enforce');
    expect(policy.check(CART, '/shop.Greeter/Hello')).toEqual({ allowed: true, rule: 0, auditOnly: true });
    expect(policy.check(WEB, '/shop.Greeter/Hello')).toEqual({ allowed: true, rule: 1 });
  });

  it('names the first of several rules of the deciding action', () => {
    const policy = new AccessPolicy([rule(CART, '/*/*'), rule(ANYONE, '/*/*'), rule(WEB, '/*/*')], 'enforce');
    expect(policy.check(WEB, '/a.B/C').rule).toBe(1);
  });

  it('matches any of several methods of a rule', () => {
    const rules: AllowRule[] = [{ peer: WEB, methods: ['/a.B/C', '/d.E/*'], action: 'allow' }];
    const policy = new AccessPolicy(rules, 'enforce');
    expect(policy.check(WEB, '/a.B/C').allowed).toBe(true);
    expect(policy.check(WEB, '/d.E/F').allowed).toBe(true);
    expect(policy.check(WEB, '/a.B/D').allowed).toBe(false);
  });

  it('takes a query for no part of the method', () => {
    const policy = new AccessPolicy([rule(WEB, '/*/*'), rule(WEB, '/shop.Admin/Drop', 'deny')], 'enforce');
    expect(policy.check(WEB, '/shop.Admin/Drop?').allowed).toBe(false);
    expect(policy.check(WEB, '/shop.Admin/Drop?x=/y').allowed).toBe(false);
    expect(policy.check(WEB, '/shop.Greeter/Hello?x=/y').allowed).toBe(true);
  });

  it('holds a path to what a server may read it as, besides what it says', () => {
    const spellings = [
      '%44rop',
      '%2544rop',
      'Drop#',
      'Drop%3Fx',
      'Drop%253Fx#',
      'Drop/',
      'Drop/.',
      './Drop',
      'x/../Drop',
      '/Drop',
    ];
    const paths = [
      ...spellings.map((name) => `/shop.Admin/${name}`),
      '//shop.Admin/Drop',
      '/shop.Admin\\Drop',
      '/shop.Greeter/..%2fshop.Admin%2fDrop',
      '/shop.Greeter/%2e%2e/shop.Admin/Drop?x',
    ];
    const deny = rule(WEB, '/shop.Admin/*', 'deny');
    const open = new AccessPolicy([deny], 'open');
    const wide = new AccessPolicy([rule(WEB, '/*/*'), rule(WEB, '/*/*/*'), deny], 'enforce');
    const narrow = new AccessPolicy(
      [rule(WEB, '/shop.Greeter/*'), rule(WEB, '/shop.Greeter/*/*/*')],
      'enforce',
    );
    for (const path of paths) {
      expect([path, open.check(WEB, path).allowed]).toEqual([path, false]);
      expect([path, wide.check(WEB, path).allowed]).toEqual([path, false]);
      expect([path, narrow.check(WEB, path).allowed]).toEqual([path, false]);
    }
    expect(narrow.check(WEB, '/shop.Greeter/a%20b')).toEqual({ allowed: true, rule: 0 });
    const audited = new AccessPolicy([rule(WEB, '/shop.Greeter/*'), rule(WEB, '/*/*', 'audit')], 'enforce');
    expect(audited.check(WEB, '/shop.Greeter/..%2fa.B%2fC')).toEqual({
      allowed: true,
      rule: 1,
      auditOnly: true,
    });
  });

  it('remembers a bounded number of answers, and no long ones', () => {
    const policy = new AccessPolicy([rule(WEB, '/*/*')], 'enforce');
    for (let i = 0; i < 10_000; i++) expect(policy.check(WEB, `/a.B/${i}`).allowed).toBe(true);
    expect(policy.remembered).toBe(4_096);
    const few = new AccessPolicy([rule(WEB, '/*/*')], 'enforce');
    expect(few.check(WEB, `/a.B/${'x'.repeat(600)}`).allowed).toBe(true);
    expect(few.remembered).toBe(0);
    expect(few.check(WEB, '/a.B/C')).toBe(few.check(WEB, '/a.B/C'));
    expect(few.remembered).toBe(1);
  });

  it('agrees with a plain reading of the rules, asked once or twice', () => {
    const segment = fc.constantFrom('a', 'b', 'ab', '*', 'a*', '*b');
    const word = fc.constantFrom('a', 'b', 'ab', 'aab');
    const rules = fc.array(
      fc.record({
        peer: segment.map((name) => `spiffe://d/${name}`),
        methods: fc.array(
          fc.tuple(segment, segment).map(([s, m]) => `/${s}/${m}`),
          { minLength: 1, maxLength: 3 },
        ),
        action: fc.constantFrom('allow' as const, 'deny' as const, 'audit' as const),
      }),
      { maxLength: 6 },
    );
    const mode = fc.constantFrom('enforce' as const, 'open' as const);
    const calls = fc.array(fc.tuple(word, word, word), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(rules, mode, calls, (list, how, asked) => {
        const policy = new AccessPolicy(list, how);
        for (const [who, service, name] of [...asked, ...asked]) {
          const peer = `spiffe://d/${who}`;
          const method = `/${service}/${name}`;
          const hit = (action: AllowRule['action']) =>
            list.findIndex(
              (one) =>
                one.action === action &&
                new Glob(one.peer).matches(peer) &&
                one.methods.some((glob) => new Glob(glob).matches(method)),
            );
          const [deny, allow, audit] = [hit('deny'), hit('allow'), hit('audit')];
          const expected =
            deny >= 0
              ? { allowed: false, rule: deny }
              : allow >= 0
                ? { allowed: true, rule: allow }
                : audit >= 0
                  ? { allowed: true, rule: audit, auditOnly: true }
                  : { allowed: how === 'open' };
          expect(policy.check(peer, method)).toEqual(expected);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
