import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { endShares } from '../../src/sidecar/endshares.ts';

describe('the shares of the end', () => {
  it.each([
    [30_000, { calls: 22_500, closing: 2000, audit: 5000, last: 500 }],
    [3_600_000, { calls: 3_592_500, closing: 2000, audit: 5000, last: 500 }],
    [6000, { calls: 3000, closing: 800, audit: 2000, last: 200 }],
    [0, { calls: 0, closing: 100, audit: 1000, last: 100 }],
  ])('of a deadline of %i ms', (deadlineMs, shares) => {
    const { calls, closing, audit, last } = endShares(deadlineMs);
    expect({ calls, closing, audit, last: Math.round(last) }).toEqual(shares);
  });

  it('from 3 s on they are the deadline; below, the audit still has a second', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3_600_000 }), (deadlineMs) => {
        const { calls, closing, audit, last } = endShares(deadlineMs);
        expect(calls).toBeGreaterThanOrEqual(deadlineMs / 2);
        expect(audit).toBeGreaterThanOrEqual(1000);
        if (deadlineMs >= 3000) expect(calls + closing + audit + last).toBeCloseTo(deadlineMs, 6);
      }),
    );
  });
});
