import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Deadlines } from '../../src/session/deadlines.ts';

it('hands out every item once, never late and at most one granularity early', () => {
  const step = fc.oneof(
    fc.record({
      act: fc.constant('set' as const),
      item: fc.nat(9),
      in: fc.integer({ min: -50, max: 5_000 }),
    }),
    fc.record({ act: fc.constant('delete' as const), item: fc.nat(9), in: fc.constant(0) }),
    fc.record({ act: fc.constant('take' as const), item: fc.constant(0), in: fc.nat(3_000) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.integer({ min: 1, max: 500 }), (steps, granularity) => {
      const deadlines = new Deadlines<number>(granularity, 0);
      const model = new Map<number, number>();
      let now = 0;
      for (const { act, item, in: ms } of steps) {
        if (act === 'set') {
          deadlines.set(item, now + ms);
          model.set(item, now + ms);
        } else if (act === 'delete') {
          deadlines.delete(item);
          model.delete(item);
        } else {
          now += Math.max(ms, granularity);
          for (const due of deadlines.take(now)) {
            expect(model.get(due)).toBeLessThan(now + granularity);
            model.delete(due);
          }
          for (const at of model.values()) expect(at).toBeGreaterThan(now - granularity);
        }
        expect(deadlines.size).toBe(model.size);
      }
    }),
  );
});
