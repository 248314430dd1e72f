import { describe, expect, it } from 'vitest';
import { StaticKey } from '../../src/transport/statickey.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { codeOf, crypto } from './world.ts';

const HOUR = 3_600_000;
const remote = crypto.generateX25519().publicKey;

describe('the static key of a process', () => {
  it('stays the same for its lifetime, then is another, whether it is used or not', () => {
    const clock = new FakeClock();
    const key = new StaticKey(crypto, clock, 12 * HOUR);
    const first = key.current;
    clock.advance(12 * HOUR - 1);
    expect(key.current).toBe(first);
    clock.advance(1);
    const second = key.current;
    expect(second.publicKey.equals(first.publicKey)).toBe(false);
    clock.advance(36 * HOUR);
    expect(key.current).not.toBe(second);
    expect(key.ageMs).toBeLessThan(12 * HOUR);
  });

  it('never lives longer than 24 h', () => {
    const clock = new FakeClock();
    const key = new StaticKey(crypto, clock, 1_000 * HOUR);
    const first = key.current;
    clock.advance(24 * HOUR);
    expect(key.current).not.toBe(first);
  });

  it('lets handshakes finish with the old key, then wipes it', () => {
    const clock = new FakeClock();
    const key = new StaticKey(crypto, clock, HOUR, 10_000);
    const first = key.current;
    clock.advance(HOUR + 9_999);
    expect(crypto.dh(first, remote)).toHaveLength(32);
    clock.advance(1);
    expect(codeOf(() => crypto.dh(first, remote))).toBe('key-wiped');
  });

  it('is wiped at the end with the one before it, whose handshakes still had time', () => {
    const clock = new FakeClock();
    const key = new StaticKey(crypto, clock, HOUR, 10_000);
    const pairs = [key.current];
    clock.advance(HOUR + 1);
    pairs.push(key.current);
    expect(pairs.map((pair) => crypto.dh(pair, remote).length)).toEqual([32, 32]);
    key.close();
    expect(pairs.map((pair) => codeOf(() => crypto.dh(pair, remote)))).toEqual(['key-wiped', 'key-wiped']);
  });

  it('is wiped at the end, and no timer remains', () => {
    const clock = new FakeClock();
    const key = new StaticKey(crypto, clock, HOUR);
    const pair = key.current;
    key.close();
    expect(codeOf(() => crypto.dh(pair, remote))).toBe('key-wiped');
    expect(clock.pending).toBe(0);
  });
});
