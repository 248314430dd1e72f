import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Wheel, type WheelEntry } from '../../src/clock/wheel.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const TICK = 10;
const SLOTS = 16; // few, so that entries go round the wheel several times

class Entry implements WheelEntry {
  wheelSlot: WheelEntry[] | undefined = undefined;
  wheelIndex = 0;
  wheelTurns = 0;
  firedAt: number[] = [];
  readonly #clock: FakeClock;
  readonly #then: (() => void) | undefined;

  constructor(clock: FakeClock, then?: () => void) {
    this.#clock = clock;
    this.#then = then;
  }

  onTimeout(): void {
    this.firedAt.push(this.#clock.monotonic());
    this.#then?.();
  }
}

describe('the timing wheel', () => {
  it('fires every entry once, never early, at most a tick late', () => {
    const step = fc.record({ wait: fc.integer({ min: 0, max: 700 }), ms: fc.integer({ min: 0, max: 1500 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
        const clock = new FakeClock();
        const wheel = new Wheel(clock, TICK, SLOTS);
        const added = steps.map(({ wait, ms }) => {
          clock.advance(wait);
          const entry = new Entry(clock);
          wheel.add(entry, ms);
          return { entry, due: clock.monotonic() + ms };
        });
        clock.advance(3000);
        for (const { entry, due } of added) {
          expect(entry.firedAt).toHaveLength(1);
          expect(entry.firedAt[0]).toBeGreaterThanOrEqual(due);
          // Its own tick, and the one that was under way when it was added.
          expect(entry.firedAt[0]).toBeLessThanOrEqual(due + TICK);
        }
        expect([wheel.size, clock.pending]).toEqual([0, 0]);
      }),
    );
  });

  it('never fires what was removed, whatever stood beside it', () => {
    const plan = fc.array(fc.record({ ms: fc.integer({ min: 0, max: 400 }), remove: fc.boolean() }), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(
      fc.property(plan, fc.integer({ min: 0, max: 300 }), (entries, wait) => {
        const clock = new FakeClock();
        const wheel = new Wheel(clock, TICK, SLOTS);
        const added = entries.map(({ ms, remove }) => {
          const entry = new Entry(clock);
          wheel.add(entry, ms);
          return { entry, remove };
        });
        clock.advance(wait);
        const fired = added.map(({ entry }) => entry.firedAt.length);
        for (const { entry, remove } of added) if (remove) wheel.remove(entry);
        clock.advance(1000);
        for (const [i, { entry, remove }] of added.entries())
          expect(entry.firedAt.length).toBe(remove ? fired[i] : 1);
        expect([wheel.size, clock.pending]).toEqual([0, 0]);
      }),
    );
  });

  it('fires at most a tick late when it was itself held up', () => {
    const clock = new FakeClock();
    const wheel = new Wheel(clock, TICK, SLOTS);
    const early = new Entry(clock);
    const late = new Entry(clock);
    wheel.add(early, 25);
    wheel.add(late, 500);
    clock.advance(499);
    expect([early.firedAt, late.firedAt]).toEqual([[30], []]);
    clock.advance(11);
    expect(late.firedAt).toEqual([500]);
  });

  it('takes new entries from within one that fires', () => {
    const clock = new FakeClock();
    const wheel = new Wheel(clock, TICK, SLOTS);
    const second = new Entry(clock);
    wheel.add(new Entry(clock, () => wheel.add(second, 100)), 50);
    clock.advance(1000);
    expect(second.firedAt).toHaveLength(1);
    expect(second.firedAt[0]).toBeGreaterThanOrEqual(150);
    expect(clock.pending).toBe(0);
  });

  it('lets an entry that fires take away one that is due with it', () => {
    const clock = new FakeClock();
    const wheel = new Wheel(clock, TICK, SLOTS);
    const victim = new Entry(clock);
    wheel.add(new Entry(clock, () => wheel.remove(victim)), 50);
    wheel.add(victim, 50);
    clock.advance(1000);
    expect(victim.firedAt).toEqual([]);
  });

  it('runs its timer only while there are entries', () => {
    const clock = new FakeClock();
    const wheel = new Wheel(clock, TICK, SLOTS);
    expect(clock.pending).toBe(0);
    const entry = new Entry(clock);
    wheel.add(entry, 100);
    expect(clock.pending).toBe(1);
    wheel.remove(entry);
    wheel.remove(entry);
    expect([wheel.size, clock.pending]).toEqual([0, 0]);
  });
});
