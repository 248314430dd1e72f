import { describe, expect, it } from 'vitest';
import { parseAuthority } from '../../src/relay/authority.ts';
import { RouteTable } from '../../src/relay/routes.ts';

type Entry = readonly [service: string, ...authorities: string[]];

function match(entries: readonly Entry[], authority: string): string | undefined {
  const table = new RouteTable(
    entries.map(([service, ...authorities]) => [{ service, authorities }, service] as const),
  );
  const parsed = parseAuthority(authority);
  return parsed === undefined ? undefined : table.match(parsed);
}

describe('a route table', () => {
  it('knows a service by its name in any case, with or without a port', () => {
    for (const authority of ['greeter.shop', 'GREETER.shop', 'greeter.shop:1', 'greeter.shop.'])
      expect(match([['greeter.shop']], authority)).toBe('greeter.shop');
  });

  it('knows Kubernetes’ forms of name.namespace, and no others', () => {
    const entries: Entry[] = [['greeter.shop']];
    for (const form of ['greeter', 'greeter.shop.svc', 'greeter.shop.svc.cluster.local'])
      expect(match(entries, form)).toBe('greeter.shop');
    for (const form of ['shop', 'greeter.shop.svc.cluster', 'greeter.shop.cluster.local', 'x.greeter.shop'])
      expect(match(entries, form)).toBeUndefined();
  });

  it('knows a service with a port by that port, in all forms', () => {
    const entries: Entry[] = [['greeter.shop:50051'], ['greeter.shop:50052']];
    for (const form of ['greeter', 'greeter.shop', 'greeter.shop.svc', 'greeter.shop.svc.cluster.local']) {
      expect(match(entries, `${form}:50052`)).toBe('greeter.shop:50052');
      expect(match(entries, form)).toBeUndefined();
      expect(match(entries, `${form}:50053`)).toBeUndefined();
    }
  });

  it('derives no forms for names of one or of three parts', () => {
    expect(match([['greeter']], 'greeter.svc')).toBeUndefined();
    expect(match([['a.b.c']], 'a')).toBeUndefined();
    expect(match([['a.b.c']], 'a.b.c.svc')).toBeUndefined();
  });

  it('gives a short name to no one when two services would have it', () => {
    const entries: Entry[] = [['greeter.shop'], ['greeter.bank']];
    expect(match(entries, 'greeter')).toBeUndefined();
    expect(match(entries, 'greeter.bank')).toBe('greeter.bank');
    expect(match([...entries, ['greeter.zoo']], 'greeter')).toBeUndefined();
  });

  it('lets what the file says outright go before a derived form', () => {
    expect(match([['greeter.shop'], ['billing.shop', 'greeter']], 'greeter')).toBe('billing.shop');
    expect(match([['greeter.shop'], ['billing.shop', 'greeter.shop.svc']], 'greeter.shop.svc')).toBe(
      'billing.shop',
    );
  });

  it('prefers an exact name with its port, then the name, then wildcards from long to short', () => {
    const entries: Entry[] = [
      ['any.shop', '*'],
      ['short.shop', '*.example'],
      ['long.shop', '*.eu.example'],
      ['port.shop', '*.eu.example:99'],
      ['name.shop', 'a.eu.example'],
      ['both.shop', 'a.eu.example:99'],
    ];
    expect(match(entries, 'a.eu.example:99')).toBe('both.shop');
    expect(match(entries, 'a.eu.example:98')).toBe('name.shop');
    expect(match(entries, 'b.eu.example:99')).toBe('port.shop');
    expect(match(entries, 'b.eu.example')).toBe('long.shop');
    expect(match(entries, 'b.example')).toBe('short.shop');
    expect(match(entries, 'b.other')).toBe('any.shop');
  });

  it('takes a wildcard for what is below it, never for itself or for a name that only ends alike', () => {
    const entries: Entry[] = [['any.shop', '*.example']];
    expect(match(entries, 'a.b.example')).toBe('any.shop');
    expect(match(entries, 'example')).toBeUndefined();
    expect(match(entries, 'badexample')).toBeUndefined();
    expect(match(entries, 'example.com')).toBeUndefined();
  });

  it('lists its exact names for error messages', () => {
    const table = new RouteTable([[{ service: 'greeter.shop', authorities: ['hello', '*.x'] }, 1]]);
    expect(table.names.slice(0, 2)).toEqual(['greeter.shop', 'hello']);
  });
});
