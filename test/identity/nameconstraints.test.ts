import { describe, expect, it } from 'vitest';
import {
  bundleOf,
  DOMAIN,
  extension,
  forgeCa,
  forgeIntermediate,
  forgeLeaf,
  LEAF_ID,
  nameConstraints,
  outcome,
  type Recipe,
  tlv,
} from './forge.ts';

const root = await forgeCa();
const bundle = bundleOf(root);

describe('name constraints', () => {
  const under = async (more: Recipe['more'], leaf: Recipe = {}): Promise<string> => {
    const intermediate = await forgeIntermediate(root, { more: more ?? [], uris: [] });
    return outcome(bundle, [await forgeLeaf(intermediate, leaf), intermediate]);
  };

  it.each([
    ['the host itself is permitted', [[6, DOMAIN]], [], LEAF_ID],
    ['a domain above is permitted', [[6, '.example']], [], LEAF_ID],
    ['upper case makes no difference', [[6, 'SHOP.example']], [], LEAF_ID],
    ['another host is permitted', [[6, 'other.example']], [], 'name-constraint'],
    ['only hosts below are permitted', [[6, '.shop.example']], [], 'name-constraint'],
    ['a host whose name ends the same is permitted', [[6, '.hop.example']], [], 'name-constraint'],
    [
      'one of two is permitted',
      [
        [6, 'other.example'],
        [6, DOMAIN],
      ],
      [],
      LEAF_ID,
    ],
    ['the host is excluded', [], [[6, DOMAIN]], 'name-constraint'],
    ['the host is both permitted and excluded', [[6, DOMAIN]], [[6, '.example']], 'name-constraint'],
    ['another host is excluded', [], [[6, 'other.example']], LEAF_ID],
    ['the constraint is empty', [[6, '']], [], 'malformed-certificate'],
    ['the constraint is a whole URI', [[6, 'spiffe://shop.example']], [], 'malformed-certificate'],
    ['only another form is constrained, and does not occur', [[2, 'shop.example']], [], LEAF_ID],
    ['nothing is constrained', [], [], 'malformed-certificate'],
    ['the form is unknown', [[9, 'x']], [], 'malformed-certificate'],
  ] as const)('hold when %s', async (_what, permitted, excluded, expected) => {
    expect(await under([nameConstraints(permitted as never, excluded as never)])).toBe(expected);
  });

  it('of a form that is not evaluated refuse certificates with such a name', async () => {
    expect(await under([nameConstraints([[2, DOMAIN]])], { dns: ['web.shop.example'] })).toBe(
      'name-constraint',
    );
    expect(await under([nameConstraints([], [[1, 'x']])], { name: 'CN=web' })).toBe('name-constraint');
    expect(await under([nameConstraints([], [[4, 'x']])], { name: 'CN=web' })).toBe('name-constraint');
    expect(await under([nameConstraints([], [[4, 'x']])])).toBe(LEAF_ID);
  });

  it('with a minimum or a maximum are refused', async () => {
    const tree = tlv(0x30, tlv(0x86, Buffer.from(DOMAIN)), tlv(0x80, Buffer.from([1])));
    const value = tlv(0x30, tlv(0xa0, tree));
    expect(await under([extension('2.5.29.30', true, value)])).toBe('malformed-certificate');
  });

  it('hold if they are not critical, or in the bundle only', async () => {
    const value = tlv(0x30, tlv(0xa0, tlv(0x30, tlv(0x86, Buffer.from('other.example')))));
    expect(await under([extension('2.5.29.30', false, value)])).toBe('name-constraint');
    const anchor = await forgeCa({ more: [nameConstraints([[6, 'other.example']])], uris: [] });
    expect(outcome(bundleOf(anchor), [await forgeLeaf(anchor)])).toBe('name-constraint');
  });

  it('reach through every certificate below', async () => {
    const one = await forgeIntermediate(root, {
      name: 'CN=1',
      uris: [],
      more: [nameConstraints([[6, 'other.example']])],
    });
    const two = await forgeIntermediate(one, {
      name: 'CN=2',
      uris: [],
      more: [nameConstraints([[6, DOMAIN]])],
    });
    expect(outcome(bundle, [await forgeLeaf(two), two, one])).toBe('name-constraint');
    const limited = await forgeIntermediate(root, {
      name: 'CN=1',
      uris: [],
      more: [nameConstraints([[6, DOMAIN]])],
    });
    const odd = await forgeIntermediate(limited, { name: 'CN=2', uris: ['urn:uuid:1'] });
    expect(outcome(bundle, [await forgeLeaf(odd), odd, limited])).toBe('name-constraint');
  });
});
