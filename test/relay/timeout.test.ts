import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatTimeout, parseTimeout } from '../../src/relay/timeout.ts';

describe('grpc-timeout', () => {
  it.each([
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3000],
    ['4m', 4],
    ['5u', 0.005],
    ['6n', 0.000006],
    ['0n', 0],
    ['00000007S', 7000],
    ['99999999H', 359_999_996_400_000],
  ])('%s is %d ms', (text, ms) => expect(parseTimeout(text)).toBeCloseTo(ms, 9));

  it.each(['', 'S', '5', '5s', '5h', '123456789S', '1.5S', '-1S', '+1S', ' 1S', '1S ', '1 S', '٣S', '1SS'])(
    '%j is none',
    (text) => expect(parseTimeout(text)).toBeUndefined(),
  );

  it('anything else than 1 to 8 digits and a unit is none', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (text) => {
        expect(parseTimeout(text) !== undefined).toBe(/^[0-9]{1,8}[HMSmun]$/.test(text));
      }),
    );
  });

  it('that is written is never longer than what was left', () => {
    const times = fc.oneof(
      fc.double({ min: 0, max: 1e15, noNaN: true }),
      fc.double({ min: 0, max: 1e5, noNaN: true }),
      fc.integer({ min: 0, max: 400_000_000 }),
    );
    fc.assert(
      fc.property(times, (ms) => {
        const text = formatTimeout(ms);
        expect(text).toMatch(/^[0-9]{1,8}[HMSmun]$/);
        // In whole nanoseconds: what a double adds in the 16th digit is no time.
        const written = parseTimeout(text) as number;
        expect(written).toBeLessThanOrEqual(ms * (1 + 2 ** -50));
      }),
      { numRuns: 2000 },
    );
  });

  it('that is written is at most a thousandth, or a second of a very long time, shorter', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.001, max: 9e10, noNaN: true }), (ms) => {
        const written = parseTimeout(formatTimeout(ms)) as number;
        expect(ms - written).toBeLessThanOrEqual(Math.max(ms / 1000, 1e-6));
      }),
    );
  });

  it('of a deadline that has passed is zero', () => {
    for (const ms of [0, -0, -1, -1e9]) expect(parseTimeout(formatTimeout(ms))).toBe(0);
  });

  it('passes both ways unchanged in value', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 98_999_999 }), (ms) => {
        expect(parseTimeout(formatTimeout(ms))).toBeCloseTo(ms, 6);
      }),
    );
  });
});
