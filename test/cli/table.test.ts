import { describe, expect, it } from 'vitest';
import { table } from '../../src/cli/admin/table.ts';

const ROWS = [
  ['ID', 'PEER', 'STATE'],
  ['a1', 'spiffe://shop.example/ns/shop/sa/web', 'idle'],
  ['b22', 'spiffe://shop.example/ns/shop/sa/cart', ''],
];

describe('a table', () => {
  it('has columns as wide as what is in them, and says nothing by a dash', () => {
    expect(table(ROWS).split('\n')).toEqual([
      'ID   PEER                                   STATE',
      'a1   spiffe://shop.example/ns/shop/sa/web   idle',
      'b22  spiffe://shop.example/ns/shop/sa/cart  -',
    ]);
  });

  it('on a narrow terminal shows the ends of long names, and stays in its columns', () => {
    expect(table(ROWS, { columns: 30, elastic: 1 }).split('\n')).toEqual([
      'ID   PEER                STATE',
      'a1   …ample/ns/shop/sa/web  idle'.replace('ample', 'le'),
      'b22  …e/ns/shop/sa/cart  -',
    ]);
  });

  it('leaves everything whole where it fits, and where there is no terminal', () => {
    for (const columns of [undefined, 49, 500]) {
      expect(table(ROWS, { columns, elastic: 1 })).toBe(table(ROWS));
    }
  });

  it('becomes wider than the terminal rather than unreadable', () => {
    const lines = table(ROWS, { columns: 5, elastic: 1 }).split('\n');
    expect(lines[1]).toBe('a1   …/ns/shop/sa/web  idle');
  });

  it('obeys nothing that stands in a cell', () => {
    expect(table([['\u001b[31mred', '\u200bgap\u202e']])).toBe('\\u001b[31mred  \\u200bgap\\u202e');
  });
});
