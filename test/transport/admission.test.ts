import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Admission, addressKey, type HalfOpen } from '../../src/transport/admission.ts';
import { DEFAULT_HANDSHAKE_LIMITS } from '../../src/transport/limits.ts';
import { FakeClock } from '../harness/fake-clock.ts';

function gate(): {
  admission: Admission;
  clock: FakeClock;
  evicted: number[];
  open(id: number, address: string): HalfOpen;
  /** Handshakes that do not give way. */
  busy: Set<number>;
  refused: number[];
} {
  const clock = new FakeClock();
  const admission = new Admission(DEFAULT_HANDSHAKE_LIMITS, clock);
  const evicted: number[] = [];
  const busy = new Set<number>();
  const refused: number[] = [];
  const open = (id: number, address: string): HalfOpen => {
    const handshake = {
      address,
      evict: () => evicted.push(id),
      get busy() {
        return busy.has(id);
      },
    };
    if (!admission.enter(handshake)) refused.push(id);
    return handshake;
  };
  return { admission, clock, evicted, open, busy, refused };
}

describe('half-open handshakes', () => {
  it('are at most 16 an address: the oldest of it gives way', () => {
    const { admission, evicted, open } = gate();
    open(100, 'other');
    for (let i = 0; i < 18; i++) open(i, 'a');
    expect(evicted).toEqual([0, 1]);
    expect(admission.halfOpen).toBe(17);
  });

  it('are at most 256 in all: the oldest of all gives way', () => {
    const { admission, evicted, open } = gate();
    for (let i = 0; i < 258; i++) open(i, `address ${i}`);
    expect(evicted).toEqual([0, 1]);
    expect(admission.halfOpen).toBe(256);
  });

  it('that are busy keep their places: the oldest other gives way, or the new one is refused', () => {
    const { admission, evicted, refused, open, busy } = gate();
    for (const id of [0, 1, 3]) busy.add(id);
    for (let i = 0; i < 18; i++) open(i, 'a');
    expect([evicted, refused]).toEqual([[2, 4], []]);
    for (let i = 0; i < 300; i++) busy.add(i);
    open(300, 'a');
    expect([evicted, refused]).toEqual([[2, 4], [300]]);
    expect(admission.halfOpen).toBe(16);
  });

  it('that are busy give way to an address that has far fewer places: the oldest of the one that has most', () => {
    const { admission, evicted, refused, open, busy } = gate();
    for (let i = 0; i < 1_000; i++) busy.add(i);
    for (let i = 0; i < 14; i++) open(i, 'a');
    for (let i = 14; i < 30; i++) open(i, 'b');
    for (let i = 30; i < 256; i++) open(i, `address ${i >> 1}`);
    open(256, 'new');
    expect([evicted, refused]).toEqual([[14], []]);
    for (let i = 257; i < 300; i++) open(i, `address ${i}`);
    // a and b have two each, as many as others have.
    expect([evicted.length, refused.length, admission.halfOpen]).toEqual([26, 18, 256]);
    expect(evicted.every((id) => id < 30)).toBe(true);
  });

  it('that are busy give way to an address that has wasted less of our work, and not when they are alike', () => {
    const { admission, clock, evicted, refused, open, busy } = gate();
    const waste = (address: string): void => admission.leave(open(-1, address), true);
    for (let i = 0; i < 1_000; i++) busy.add(i);
    for (const address of ['twice', 'twice', 'once', 'late']) waste(address);
    for (let i = 0; i < 253; i++) open(i, `address ${i}`);
    for (const [i, address] of ['once', 'twice', 'late'].entries()) open(253 + i, address);
    open(256, 'late');
    open(257, 'new');
    open(258, 'late');
    expect([evicted, refused]).toEqual([[254, 255], [258]]);
    clock.advance(15_001); // half of it is forgiven
    open(259, 'new too');
    expect(refused).toEqual([258, 259]);
  });

  it('make room when they end, and ending twice counts once', () => {
    const { admission, evicted, open } = gate();
    const first = open(0, 'a');
    for (let i = 1; i < 16; i++) open(i, 'a');
    admission.leave(first, false);
    admission.leave(first, false);
    open(16, 'a');
    expect(evicted).toEqual([]);
    expect(admission.halfOpen).toBe(16);
  });
});

describe('the rate of handshakes of an address', () => {
  it('is 50 a second after a burst of 100', () => {
    const { admission, clock } = gate();
    const taken = (): number => {
      let count = 0;
      while (admission.take('a')) count++;
      return count;
    };
    expect(taken()).toBe(100);
    clock.advance(1_000);
    expect(taken()).toBe(50);
    clock.advance(20);
    expect(taken()).toBe(1);
    clock.advance(3_600_000);
    expect(taken()).toBe(100);
  });

  it('is one address’s own affair', () => {
    const { admission } = gate();
    while (admission.take('a'));
    expect(admission.take('b')).toBe(true);
  });

  it('is remembered for a bounded number of addresses, the exhausted ones longest', () => {
    const { admission, clock } = gate();
    for (let i = 0; i < 16_000; i++) admission.take(`idle ${i}`);
    clock.advance(60_000);
    while (admission.take('busy'));
    for (let i = 0; i < 1_000; i++) admission.take(`new ${i}`);
    expect(admission.take('busy')).toBe(false);
    for (let i = 0; i < 100_000; i++) admission.take(`flood ${i}`);
    expect(admission.take('after the flood')).toBe(true);
  });
});

describe('an address', () => {
  const cases: Array<[string, string]> = [
    ['10.1.2.3', '10.1.2.3'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::FFFF:10.1.2.3', '10.1.2.3'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8:0:0:ffff::2', '2001:db8:0:0::/64'],
    ['2001:0DB8:0:1::2', '2001:db8:0:1::/64'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['1::', '1:0:0:0::/64'],
    ['1:2:3:4:5:6:7::', '1:2:3:4::/64'],
    ['64:ff9b::10.1.2.3', '64:ff9b:0:0::/64'],
  ];
  for (const [address, key] of cases) {
    it(`${address} counts as ${key}`, () => expect(addressKey(address)).toBe(key));
  }

  it('of IPv6 counts the same in long and short form, and by its first four groups only', () => {
    const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(groups, fc.integer({ min: 0, max: 0xffff }), (words, last) => {
        const text = (list: number[]): string => list.map((word) => word.toString(16)).join(':');
        const long = text(words);
        const sibling = text([...words.slice(0, 7), last]);
        const short = new URL(`http://[${long}]`).hostname.slice(1, -1);
        expect(addressKey(long)).toBe(`${text(words.slice(0, 4))}::/64`);
        expect(addressKey(sibling)).toBe(addressKey(long));
        expect(addressKey(short)).toBe(addressKey(long));
      }),
    );
  });
});
