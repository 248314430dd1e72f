import { describe, expect, it } from 'vitest';
import { CopyTarget } from '../../src/octets/copytarget.ts';

const LONGEST = 200; // above the longest run that is copied by words
const ROOM = 256;

/** The plain twin. */
function copyPlainly(src: Uint8Array, from: number, dst: Uint8Array, to: number, n: number): void {
  for (let i = 0; i < n; i++) dst[to + i] = src[from + i] as number;
}

/** Every octet value, none at the same place as in the pattern of another `salt`. */
function pattern(length: number, salt: number): Buffer {
  const buf = Buffer.alloc(length);
  for (let i = 0; i < length; i++) buf[i] = i * 167 + salt;
  return buf;
}

describe('a copy by words is a copy octet by octet', () => {
  const target = new CopyTarget();

  it.each([0, 1, 3, 7])('of any length, %i octets into the buffers', (offset) => {
    for (let n = 0; n <= LONGEST; n++) {
      const src = pattern(ROOM, n);
      const dst = pattern(ROOM, 85);
      const expected = Buffer.from(dst);
      target.use(dst);
      target.copy(src, offset, offset + 2, n);
      copyPlainly(src, offset, expected, offset + 2, n);
      expect(dst.equals(expected), `${n} octets`).toBe(true);
    }
  });

  it('to the last octet of both buffers, and not beyond', () => {
    for (let n = 0; n <= LONGEST; n++) {
      const memory = pattern(2 * ROOM, 3);
      const dst = memory.subarray(10, 10 + ROOM);
      const expected = Buffer.from(memory);
      const src = pattern(ROOM, n);
      target.use(dst);
      target.copy(src, ROOM - n, ROOM - n, n);
      copyPlainly(src, ROOM - n, expected, 10 + ROOM - n, n);
      expect(memory.equals(expected), `${n} octets`).toBe(true);
    }
  });

  it('refuses to go beyond either', () => {
    target.use(Buffer.alloc(64));
    expect(() => target.copy(Buffer.alloc(64), 40, 0, 40)).toThrow(RangeError);
    expect(() => target.copy(Buffer.alloc(64), 0, 40, 40)).toThrow(RangeError);
  });

  it('nothing to a buffer that it has released', () => {
    const dst = Buffer.alloc(64);
    target.use(dst);
    target.release();
    expect(() => target.copy(Buffer.alloc(64, 1), 0, 0, 40)).toThrow(RangeError);
    expect(() => target.copy(Buffer.alloc(256, 1), 0, 0, 200)).toThrow(RangeError);
    target.copy(Buffer.alloc(64, 1), 0, 0, 7); // as little as that goes nowhere
    expect(dst.equals(Buffer.alloc(64))).toBe(true);
  });

  it('whichever of several sources and targets it meets in which order', () => {
    const sources = [1, 2, 3, 4].map((salt) => pattern(ROOM, salt).subarray(salt));
    const targets = [new CopyTarget(), new CopyTarget()];
    const buffers = [Buffer.alloc(ROOM), Buffer.alloc(ROOM), Buffer.alloc(ROOM)];
    const twins = buffers.map((buffer) => Buffer.from(buffer));
    let state = 1;
    const next = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % below;
    };
    for (let round = 0; round < 5000; round++) {
      const src = sources[next(sources.length)] as Buffer;
      const chosen = next(buffers.length);
      const by = targets[next(targets.length)] as CopyTarget;
      const n = next(100);
      const from = next(100);
      const to = next(100);
      by.use(buffers[chosen] as Buffer);
      by.copy(src, from, to, n);
      copyPlainly(src, from, twins[chosen] as Buffer, to, n);
    }
    expect(buffers.map((buffer) => buffer.toString('hex'))).toEqual(
      twins.map((buffer) => buffer.toString('hex')),
    );
  });

  it('of a source whose octets have changed since the last time', () => {
    const src = pattern(ROOM, 0);
    const dst = Buffer.alloc(ROOM);
    target.use(dst);
    target.copy(src, 0, 0, 50);
    src.fill(0xff);
    target.copy(src, 0, 0, 50);
    expect(dst.subarray(0, 50).equals(src.subarray(0, 50))).toBe(true);
  });
});
