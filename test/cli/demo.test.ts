import { expect, it, vi } from 'vitest';
import { LIMIT } from '../../src/cli/demo/configurations.ts';
import { goOverTheLimit } from '../../src/cli/demo/demo.ts';

it.each([0, 1, LIMIT - 1])(
  'the demo goes over its limit, though a window ends after %i calls more',
  async (left) => {
    const printed = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    let room = left;
    let calls = 0;
    const hello = async (): Promise<never> => {
      if (calls++ === left) room = LIMIT;
      if (room-- > 0) return undefined as never;
      throw { code: 8, details: 'over the limit', metadata: { get: () => [] } };
    };
    expect(await goOverTheLimit({ hello })).toBe(true);
    const text = printed.mock.calls.join('');
    printed.mockRestore();
    expect(calls).toBe(left + LIMIT + 1);
    expect(text).toContain(`${left + LIMIT} more calls went through; then`);
  },
);
