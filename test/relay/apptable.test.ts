import { describe, expect, it } from 'vitest';
import { AppTable } from '../../src/relay/apptable.ts';

const table = (
  ...apps: Array<string | number>
): AppTable<{ service: string; anyNameOn: number | undefined }> =>
  new AppTable(
    apps.map((app) =>
      typeof app === 'number'
        ? { service: `*:${app}`, anyNameOn: app }
        : { service: app, anyNameOn: undefined },
    ),
  );

describe('a table of apps', () => {
  it.each([
    ['web.shop', 'web.shop', 'its name'],
    ['WEB.Shop:50051', 'web.shop', 'its name with any port, before an app of any name with that port'],
    ['stock.shop:50051', '*:50051', 'any name with its port'],
    ['stock.shop:50052', '*:50052', 'any name with its port'],
    ['10.1.2.3:50052', '*:50052', 'an address with its port'],
    ['[fd00::1]:50052', '*:50052', 'an IPv6 address with its port'],
    ['stock.shop:50053', undefined, 'another port'],
    ['stock.shop', undefined, 'no port, where several are there'],
    ['*:50051', undefined, 'what is no authority'],
  ])('%s is for %s: %s', (authority, expected, _why) => {
    expect(table('web.shop', 50051, 50052).match(authority)?.service).toBe(expected);
  });

  it('gives a call without a port to the only app of any name', () => {
    expect(table('web.shop', 50051).match('stock.shop')?.service).toBe('*:50051');
    expect(table('web.shop').match('stock.shop')).toBeUndefined();
  });

  it('says which ports there are', () => {
    expect(table('web.shop', 9, 50051, 80).cure).toBe(
      'it takes any name with port 9, 80, 50051: ask for such a port, or add it under its ingress.apps',
    );
    expect(table('web.shop').cure).toBe('add it under its ingress.apps');
  });
});
