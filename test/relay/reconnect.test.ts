import { beforeEach, describe, expect, it } from 'vitest';
import { Reconnect, type ReconnectPolicy } from '../../src/relay/reconnect.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { Mulberry } from '../harness/seeded.ts';

const POLICY: ReconnectPolicy = {
  backoffMs: 100,
  maxBackoffMs: 1_000,
  maxAttempts: 4,
  healthCheckMs: 2_000,
};

let clock: FakeClock;
let dials: number[];

function make(policy: Partial<ReconnectPolicy> = {}, random: () => number = () => 0.5): Reconnect {
  return new Reconnect({
    clock,
    policy: { ...POLICY, ...policy },
    random,
    dial: () => dials.push(clock.monotonic()),
  });
}

/** How long a call may not dial. */
function pause(reconnect: Reconnect): number {
  const from = clock.monotonic();
  while (!reconnect.mayDial) clock.advance(1);
  return clock.monotonic() - from;
}

beforeEach(() => {
  clock = new FakeClock();
  dials = [];
});

describe('after failed dials', () => {
  it('the pause doubles up to its bound, and one success begins anew', () => {
    const reconnect = make({ maxAttempts: 0 });
    const pauses = Array.from({ length: 7 }, () => {
      reconnect.failed();
      return pause(reconnect);
    });
    expect(pauses).toEqual([50, 100, 200, 400, 500, 500, 500]);
    reconnect.succeeded();
    expect(reconnect.mayDial).toBe(true);
    reconnect.failed();
    expect(pause(reconnect)).toBe(50);
  });

  it('the pause is anywhere from none to the whole span: full jitter', () => {
    const { random } = new Mulberry(7);
    const pauses = Array.from({ length: 2_000 }, () => {
      const reconnect = make({}, () => random());
      reconnect.failed();
      const from = clock.monotonic();
      while (!reconnect.mayDial) clock.advance(0.5);
      return clock.monotonic() - from;
    });
    const tenths = new Set(pauses.map((ms) => Math.floor(Math.min(ms, 99.9) / 10)));
    expect(tenths.size).toBe(10);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(100.5);
    const mean = pauses.reduce((sum, ms) => sum + ms, 0) / pauses.length;
    expect(Math.abs(mean - 50)).toBeLessThan(3);
  });

  it('that only calls wanted, nothing is dialled without a call until the endpoint is down', () => {
    const reconnect = make();
    for (let i = 0; i < 3; i++) reconnect.failed();
    clock.advance(60_000);
    expect([dials, reconnect.isDown]).toEqual([[], false]);
  });

  it('so many in a row that the endpoint is down, it is dialled at the pace of health checks, for ever', () => {
    const reconnect = make();
    for (let i = 0; i < 4; i++) reconnect.failed();
    expect(reconnect.isDown).toBe(true);
    for (let i = 0; i < 5; i++) {
      const before = dials.length;
      clock.advance(1_999);
      expect(dials).toHaveLength(before);
      expect(reconnect.mayDial).toBe(false);
      clock.advance(1);
      expect(dials).toHaveLength(before + 1);
      reconnect.failed();
    }
    reconnect.succeeded();
    expect(reconnect.isDown).toBe(false);
    clock.advance(60_000);
    expect(dials).toHaveLength(5);
  });
});

describe('after the loss of a connection', () => {
  it('dials of its own accord, with backoff, until it is back', () => {
    const reconnect = make();
    reconnect.lost();
    expect(reconnect.mayDial).toBe(true); // a call need not wait
    clock.advance(50);
    expect(dials).toEqual([50]);
    reconnect.failed();
    clock.advance(50);
    expect(dials).toEqual([50, 100]);
    reconnect.failed();
    clock.advance(100);
    expect(dials).toEqual([50, 100, 200]);
    reconnect.succeeded();
    clock.advance(60_000);
    expect(dials).toHaveLength(3);
    expect(clock.pending).toBe(0);
  });

  it('gives up after so many attempts, and only checks', () => {
    const reconnect = make();
    reconnect.lost();
    for (let i = 0; i < 4; i++) {
      while (dials.length === i) clock.advance(1);
      reconnect.failed();
    }
    expect(reconnect.isDown).toBe(true);
    clock.advance(1_999);
    expect(dials).toHaveLength(4);
    clock.advance(1);
    expect(dials).toHaveLength(5);
  });

  it('does nothing if it may not dial by itself, or has been stopped', () => {
    const calls = make({ maxAttempts: 0 });
    calls.lost();
    const stopped = make();
    stopped.lost();
    stopped.stop();
    stopped.lost();
    stopped.failed();
    clock.advance(60_000);
    expect([dials, clock.pending]).toEqual([[], 0]);
  });
});
