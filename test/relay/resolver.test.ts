import { describe, expect, it } from 'vitest';
import { ResolvedName } from '../../src/relay/resolver.ts';
import { FakeClock } from '../harness/fake-clock.ts';

interface Pending {
  answer(addresses: string[], ttlMs: number): Promise<void>;
  fail(): Promise<void>;
}

/** A name whose look-ups the test answers. */
function named(host = 'greeter.shop') {
  const clock = new FakeClock();
  const asked: Pending[] = [];
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
  const name = new ResolvedName(host, clock, (wanted) => {
    expect(wanted).toBe(host);
    return new Promise((resolve, reject) => {
      asked.push({
        answer: (addresses, ttlMs) => {
          resolve({ addresses, ttlMs });
          return settled();
        },
        fail: () => {
          reject(new Error('ENOTFOUND'));
          return settled();
        },
      });
    });
  });
  return { clock, name, asked };
}

describe('an endpoint’s name', () => {
  it('that is an address is never looked up', () => {
    for (const host of ['10.1.2.3', '::1', '2001:db8::1']) {
      const { name, asked, clock } = named(host);
      clock.advance(1e9);
      expect([name.addresses, name.stale, asked.length]).toEqual([[host], false, 0]);
    }
  });

  it('is stale until it was looked up, and again when the TTL is over', async () => {
    const { clock, name, asked } = named();
    expect(name.stale).toBe(true);
    name.refresh();
    await asked[0]?.answer(['10.0.0.2', '10.0.0.1', '10.0.0.2'], 30_000);
    expect(name.addresses).toEqual(['10.0.0.1', '10.0.0.2']);
    clock.advance(29_999);
    expect(name.stale).toBe(false);
    clock.advance(1);
    expect(name.stale).toBe(true);
    expect(name.addresses).toEqual(['10.0.0.1', '10.0.0.2']);
  });

  it.each([
    [0, 1000],
    [86_400_000, 300_000],
  ])('with a TTL of %i ms is looked up again after %i ms', async (ttl, held) => {
    const { clock, name, asked } = named();
    name.refresh();
    await asked[0]?.answer(['10.0.0.1'], ttl);
    clock.advance(held - 1);
    expect(name.stale).toBe(false);
    clock.advance(1);
    expect(name.stale).toBe(true);
  });

  it('that is distrusted is stale a second after it was asked, and an address never', async () => {
    const { name: address } = named('10.1.2.3');
    address.distrust();
    expect(address.stale).toBe(false);
    const { name, clock, asked } = named();
    void name.refresh();
    await asked[0]?.answer(['10.0.0.1'], 60_000);
    name.distrust();
    clock.advance(999);
    expect(name.stale).toBe(false);
    clock.advance(1);
    expect(name.stale).toBe(true);
    void name.refresh();
    await asked[1]?.answer(['10.0.0.1'], 60_000);
    clock.advance(30_000);
    expect(name.stale).toBe(false);
  });

  it('is looked up once for all that ask at the same time', async () => {
    const { name, asked } = named();
    const both = Promise.all([name.refresh(), name.refresh()]);
    expect(asked).toHaveLength(1);
    await asked[0]?.answer(['10.0.0.1'], 1000);
    expect(await both).toEqual([['10.0.0.1'], ['10.0.0.1']]);
  });

  it('keeps its last answer while look-ups fail', async () => {
    const { clock, name, asked } = named();
    name.refresh();
    await asked[0]?.answer(['10.0.0.1'], 1000);
    clock.advance(1000);
    const again = name.refresh();
    await asked[1]?.fail();
    expect(await again).toEqual(['10.0.0.1']);
    // Not asked again at once, but soon.
    expect(name.stale).toBe(false);
    clock.advance(1000);
    expect(name.stale).toBe(true);
  });

  it('that never had an answer fails, and is asked again later', async () => {
    const { clock, name, asked } = named();
    const first = name.refresh();
    const failed = expect(first).rejects.toThrow('ENOTFOUND');
    await asked[0]?.fail();
    await failed;
    expect(name.addresses).toEqual([]);
    clock.advance(1000);
    name.refresh();
    await asked[1]?.answer(['10.0.0.9'], 5000);
    expect(name.addresses).toEqual(['10.0.0.9']);
  });
});
