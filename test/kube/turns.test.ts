import { describe, expect, it } from 'vitest';
import { Allowance } from '../../src/kube/allowance.ts';
import { type Turn, Turns } from '../../src/kube/turns.ts';
import { turns as settle } from '../audit/collector.ts';
import { FakeClock } from '../harness/fake-clock.ts';

interface Taken {
  readonly key: string;
  turn: Turn | undefined | 'waits';
}

function rig(
  over: Partial<{
    maxConcurrent: number;
    maxPerSecond: number;
    maxWaiting: number;
    maxConcurrentPerKey: number;
  }> = {},
) {
  const clock = new FakeClock();
  const turns = new Turns({ clock, maxConcurrent: 2, maxPerSecond: 1_000, maxWaiting: 100, ...over });
  const order: string[] = [];
  const take = (key: string, signal?: AbortSignal): Taken => {
    const taken: Taken = { key, turn: 'waits' };
    void turns.take(key, signal).then((turn) => {
      taken.turn = turn;
      if (turn !== undefined) order.push(key);
    });
    return taken;
  };
  return { clock, turns, order, take };
}

const end = (taken: Taken): void => (taken.turn as Turn).done();

describe('turns', () => {
  it('are as many at a time as may be, and one that is over lets the next in', async () => {
    const { turns, take } = rig();
    const all = ['a', 'a', 'a'].map((key) => take(key));
    await settle();
    expect(all.map(({ turn }) => turn === 'waits')).toEqual([false, false, true]);
    expect([turns.running, turns.waiting]).toEqual([2, 1]);
    end(all[0] as Taken);
    end(all[0] as Taken); // ended twice, it counts once
    await settle();
    expect([turns.running, turns.waiting]).toEqual([2, 0]);
    expect(all[2]?.turn).not.toBe('waits');
  });

  it('go round by key: one that comes with a hundred holds up another by one', async () => {
    const { order, take } = rig({ maxConcurrent: 1 });
    const flood = Array.from({ length: 90 }, () => take('flood'));
    const meek = take('meek');
    await settle();
    end(flood[0] as Taken);
    await settle();
    end(flood[1] as Taken);
    await settle();
    expect(order).toEqual(['flood', 'flood', 'meek']);
    expect(meek.turn).not.toBe('waits');
  });

  it('turn the newest of the key with the most away when too many wait', async () => {
    const { turns, take } = rig({ maxConcurrent: 1, maxWaiting: 10 });
    const flood = Array.from({ length: 11 }, () => take('flood'));
    const meek = ['b', 'c', 'd'].map((key) => take(key));
    await settle();
    expect(turns.waiting).toBe(10);
    expect(meek.map(({ turn }) => turn)).toEqual(['waits', 'waits', 'waits']);
    expect(flood.filter(({ turn }) => turn === undefined)).toHaveLength(3);
    expect(flood[10]?.turn).toBeUndefined();
    expect(flood[1]?.turn).toBe('waits');
  });

  it('turn away, of keys with as many, the one whose turn is last', async () => {
    const { turns, take } = rig({ maxConcurrent: 1, maxWaiting: 3 });
    const all = ['a', 'b', 'c', 'd', 'e'].map((key) => take(key));
    await settle();
    expect(turns.waiting).toBe(3);
    expect(all.filter(({ turn }) => turn === undefined).map(({ key }) => key)).toEqual(['e']);
  });

  it('are no more at a time of a key than may be, and others pass it', async () => {
    const { clock, turns, take } = rig({ maxConcurrent: 4, maxConcurrentPerKey: 2 });
    const flood = Array.from({ length: 5 }, () => take('flood'));
    const meek = take('meek');
    await settle();
    expect([turns.running, turns.waiting, clock.pending]).toEqual([3, 3, 0]);
    expect(meek.turn).not.toBe('waits');
    end(meek);
    await settle();
    expect(turns.running).toBe(2);
    end(flood[0] as Taken);
    await settle();
    expect(flood.filter(({ turn }) => turn === 'waits')).toHaveLength(2);
  });

  it('begin no faster than a second allows', async () => {
    const { clock, turns, take } = rig({ maxConcurrent: 100, maxPerSecond: 10 });
    const all = Array.from({ length: 30 }, (_, i) => take(`k${i}`));
    const begun = (): number => all.filter(({ turn }) => turn !== 'waits').length;
    await settle();
    expect(begun()).toBe(10);
    clock.advance(500);
    await settle();
    expect(begun()).toBe(15);
    clock.advance(10_000);
    await settle();
    expect(begun()).toBe(30);
    expect([turns.waiting, clock.pending]).toEqual([0, 0]);
  });

  it('are left by whoever does not wait any more', async () => {
    const { turns, take } = rig({ maxConcurrent: 1 });
    const first = take('a');
    const gone = new AbortController();
    const leaver = take('b', gone.signal);
    const other = take('c');
    await settle();
    gone.abort();
    await settle();
    expect([leaver.turn, turns.waiting]).toEqual([undefined, 1]);
    end(first);
    await settle();
    expect(other.turn).not.toBe('waits');
    expect(take('d', gone.signal).turn).toBe('waits');
    await settle();
    expect(turns.waiting).toBe(0);
  });

  it('are nobody’s once it is closed', async () => {
    const { clock, turns, take } = rig({ maxConcurrent: 1 });
    const [first, second] = [take('a'), take('b')];
    await settle();
    turns.close();
    const late = take('c');
    await settle();
    expect([second.turn, late.turn, turns.waiting, clock.pending]).toEqual([undefined, undefined, 0, 0]);
    end(first);
    expect(turns.running).toBe(0);
  });
});

describe('an allowance', () => {
  it('gives so many uses of a key in a period, and them back evenly', () => {
    const clock = new FakeClock();
    const allowance = new Allowance(clock, 3, 60_000);
    const uses = (): number[] => [1, 2, 3, 4].map(() => allowance.use('pod'));
    expect(uses()).toEqual([0, 0, 0, 20_000]);
    expect(allowance.use('other')).toBe(0);
    clock.advance(19_999);
    expect(allowance.use('pod')).toBe(1);
    clock.advance(1);
    expect([allowance.use('pod'), allowance.use('pod')]).toEqual([0, 20_000]);
    clock.advance(1_000_000);
    expect(uses()).toEqual([0, 0, 0, 20_000]);
  });

  it('keeps no more keys than it may', () => {
    const allowance = new Allowance(new FakeClock(), 1, 60_000, 2);
    expect(['a', 'b', 'b', 'c', 'a'].map((key) => allowance.use(key))).toEqual([0, 0, 60_000, 0, 0]);
  });
});
