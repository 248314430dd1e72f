import { describe, expect, it } from 'vitest';
import { fitsAll, matching, type SessionFilter } from '../../src/session/filter.ts';
import { HOUR, MINUTE, setUp, WEB } from './sessions.ts';

const CART = 'spiffe://shop.example/ns/shop/sa/cart';

describe('a filter', () => {
  it.each<[SessionFilter, string[]]>([
    [{}, ['old', 'busy', 'young']],
    [{ peer: WEB }, ['old', 'young']],
    [{ peer: 'spiffe://shop.example/ns/shop/sa/*' }, ['old', 'busy', 'young']],
    [{ peer: 'spiffe://shop.example/*' }, []],
    [{ direction: 'outbound' }, ['busy']],
    [{ service: 'cart.shop' }, ['busy']],
    [{ metadata: { tenant: 'acme' } }, ['old', 'young']],
    [{ metadata: { tenant: 'Acme' } }, []],
    [{ metadata: { level: 3 } }, ['old', 'young']],
    [{ metadata: { beta: true } }, ['young']],
    [{ metadata: { beta: 'true', tenant: 'acme' } }, ['young']],
    [{ metadata: { more: '[object Object]' } }, []],
    [{ metadata: { none: 'undefined' } }, []],
    [{ metadata: { constructor: 'x' } }, []],
    [{ olderThanMs: 30 * MINUTE }, ['old', 'busy']],
    [{ olderThanMs: 60 * MINUTE }, ['old']],
    [{ olderThanMs: 60 * MINUTE + 1 }, []],
    [{ olderThanMs: 0 }, ['old', 'busy', 'young']],
    [{ idleForMs: 30 * MINUTE }, ['old']],
    [{ peer: WEB, direction: 'inbound', olderThanMs: MINUTE, metadata: { tenant: 'acme' } }, ['old']],
    [{ peer: WEB, direction: 'outbound' }, []],
  ])('%j takes %j', (filter, ids) => {
    const { clock, manager, open } = setUp({ idleMs: 10 * HOUR });
    open({ id: 'old', metadata: { tenant: 'acme', level: 3 } });
    clock.advance(30 * MINUTE);
    open({ id: 'busy', peer: CART, direction: 'outbound', serviceId: 'cart.shop' }).callStarted();
    clock.advance(30 * MINUTE);
    open({ id: 'young', metadata: { tenant: 'acme', level: '3', beta: true, more: { a: 1 } } });
    const fits = matching(filter, clock.now());
    const found = manager.getSessionsByLastUsed(fits);
    expect(found.map(({ id }) => id).sort()).toEqual([...ids].sort());
  });

  it.each([{ olderThanMs: -1 }, { idleForMs: Number.NaN }, { direction: 'up' as never }])(
    '%j makes no sense',
    (filter) => {
      expect(() => matching(filter, 0)).toThrow(expect.objectContaining({ code: 'bad-option' }));
    },
  );

  it('that names nothing is known as one that fits all', () => {
    for (const filter of [{}, { peer: undefined }, { metadata: {} }]) expect(fitsAll(filter)).toBe(true);
    for (const filter of [{ peer: '' }, { metadata: { a: 1 } }, { olderThanMs: 0 }]) {
      expect(fitsAll(filter)).toBe(false);
    }
  });
});
