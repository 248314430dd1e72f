import { expect, it } from 'vitest';
import { FakeClock } from './harness/fake-clock.ts';

it('the fake clock fires timers in the order of their time and repeats the periodic ones', () => {
  const clock = new FakeClock();
  const fired: string[] = [];
  clock.after(30, () => fired.push('once'));
  const every = clock.every(20, () => fired.push('every'));
  clock.advance(60);
  expect(fired).toEqual(['every', 'once', 'every', 'every']);
  clock.clear(every);
  clock.advance(100);
  expect(fired).toHaveLength(4);
  expect(clock.pending).toBe(0);
});
