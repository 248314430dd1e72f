import { expect, it } from 'vitest';
import { CallError } from '../../src/mesh/callerror.ts';

it('a CallError has its status by number or name', () => {
  const byName = new CallError('NOT_FOUND', 'no order 7');
  const byNumber = new CallError(5, 'no order 7');
  for (const error of [byName, byNumber]) {
    expect([error.code, error.status, error.details, error.message]).toEqual([
      5,
      'NOT_FOUND',
      'no order 7',
      'NOT_FOUND: no order 7',
    ]);
  }
});

it('a CallError of no status, or of success, is UNKNOWN', () => {
  for (const code of [0, 17, -1, 1.5, Number.NaN, 'OK' as 'UNKNOWN', 'toString' as 'UNKNOWN']) {
    expect(new CallError(code, '').code).toBe(2);
  }
});
