import { describe, expect, it } from 'vitest';
import { RefusalTally } from '../../src/transport/refusaltally.ts';
import { FakeClock } from '../harness/fake-clock.ts';

describe('refusals of one key', () => {
  it('are told the first at once, then once a second, and none is lost', () => {
    const clock = new FakeClock();
    const tally = new RefusalTally(clock);
    const told: Array<[string, number]> = [];
    const add = (key: string, times: number): void => {
      for (let i = 0; i < times; i++) tally.add(key, (count) => told.push([key, count]));
    };
    add('a', 5_000);
    add('b', 1);
    expect(told).toEqual([
      ['a', 1],
      ['b', 1],
    ]);
    clock.advance(500);
    add('a', 7);
    clock.advance(500);
    expect(told.slice(2)).toEqual([['a', 5_006]]);
    add('a', 3);
    clock.advance(1_000);
    expect(told.slice(3)).toEqual([['a', 3]]);
    clock.advance(1_000);
    add('a', 1);
    expect(told.slice(4)).toEqual([['a', 1]]);
  });

  it('leave nothing behind when they end', () => {
    const clock = new FakeClock();
    const tally = new RefusalTally(clock);
    for (let i = 0; i < 100; i++) tally.add(`${i}`, () => {});
    clock.advance(1_000);
    expect([tally.size, clock.pending]).toEqual([0, 0]);
  });
});
