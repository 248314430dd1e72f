import { describe, expect, it } from 'vitest';
import type { AdminControl } from '../../src/admin/admincontrol.ts';
import { METHODS } from '../../src/admin/adminmethods.ts';
import type { RevokeSessionsRequest, SessionFilterMessage } from '../../src/admin/messages.ts';
import type { RevokeSelection } from '../../src/relay/revocation.ts';

const FILTER: SessionFilterMessage = {
  peer: '',
  service: '',
  direction: 'DIRECTION_UNSPECIFIED',
  states: [],
  metadata: {},
};
const ID = '01234567-89ab-8def-8123-456789abcdef';

/** What RevokeSessions would cut, or the status that it is refused with. */
async function selected(request: Partial<RevokeSessionsRequest>): Promise<RevokeSelection | string> {
  const asked: RevokeSelection[] = [];
  const control = {
    now: () => 0,
    revocation: {
      revoke: async (which: RevokeSelection) => {
        asked.push(which);
        return { reason: 'test', sessions: [], unknown: [], cutMicros: 0, blocked: [], hold: undefined };
      },
    },
  } as unknown as AdminControl;
  const whole = { ids: [], filter: null, all: false, blockPeers: false, reason: 'test', ...request };
  try {
    await METHODS.RevokeSessions.run(control, whole, 'test');
  } catch (error) {
    expect(asked).toEqual([]);
    return (error as { code: string }).code;
  }
  return asked[0] as RevokeSelection;
}

describe('RevokeSessions', () => {
  it('takes ids, a filter or all', async () => {
    expect(await selected({ ids: [ID] })).toEqual({ ids: [ID] });
    expect(await selected({ all: true })).toEqual({ all: true });
    expect(await selected({ filter: { ...FILTER, direction: 'INBOUND' } })).toHaveProperty('where');
  });

  it.each<[string, Partial<RevokeSessionsRequest>]>([
    ['none of them', {}],
    ['two of them', { ids: [ID], all: true }],
    ['a filter and all', { filter: { ...FILTER, peer: 'spiffe://shop.example/a' }, all: true }],
    ['a filter that names nothing', { filter: FILTER }],
    ['an id that is none', { ids: ['../../etc/passwd'] }],
    ['more than 1,000 ids', { ids: Array.from({ length: 1001 }, () => ID) }],
  ])('cuts nothing by %s', async (_, request) => {
    expect(await selected(request)).toBe('INVALID_ARGUMENT');
  });
});
