import { expect, it } from 'vitest';
import { Roster } from '../../src/lifecycle/roster.ts';

it('a roster has what came and has not gone, the oldest first', () => {
  const roster = new Roster<string>();
  expect(roster.oldest).toBeUndefined();
  for (const member of ['a', 'b', 'c', 'd']) roster.add(member);
  expect(roster.delete('b')).toBe(true);
  expect(roster.delete('b')).toBe(false);
  roster.add('b');
  expect([...roster]).toEqual(['a', 'c', 'd', 'b']);
  expect(roster.size).toBe(4);
  expect(roster.oldest).toBe('a');
  expect(roster.has('d')).toBe(true);
  expect(roster.has('e')).toBe(false);
});

it('who goes through a roster sees each once, whoever comes and goes meanwhile', () => {
  const roster = new Roster<number>();
  for (let n = 0; n < 4; n++) roster.add(n);
  const seen: number[] = [];
  for (const member of roster) {
    seen.push(member);
    roster.delete(member);
    roster.add(member + 10);
  }
  expect(seen).toEqual([0, 1, 2, 3]);
  expect([...roster]).toEqual([10, 11, 12, 13]);
});
