import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ChunkQueue } from '../../src/http2/chunkqueue.ts';

/** Takes up to `n` octets from the front, in the pieces in which they lie. */
function shift(queue: ChunkQueue, n: number): Buffer {
  const pieces: Buffer[] = [];
  for (let left = Math.min(n, queue.length); left > 0; ) {
    const piece = Math.min(left, queue.contiguous);
    pieces.push(Buffer.from(queue.chunk.subarray(queue.at, queue.at + piece)));
    queue.skip(piece);
    left -= piece;
  }
  return Buffer.concat(pieces);
}

it('is the queue that a plain array of octets is', () => {
  const size = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 200_000 }));
  const command = fc.oneof(
    fc.record({ push: size }),
    fc.record({ take: size }),
    fc.constant({ clear: true as const }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 20 }), (commands) => {
      const queue = new ChunkQueue();
      let plain = Buffer.alloc(0);
      let next = 0;
      for (const of of commands) {
        if ('push' in of) {
          const octets = Buffer.from(Array.from({ length: of.push + 2 }, () => next++ % 251));
          queue.push(octets, 1, octets.length - 1);
          plain = Buffer.concat([plain, octets.subarray(1, -1)]);
        } else if ('take' in of) {
          expect(shift(queue, of.take).equals(plain.subarray(0, of.take))).toBe(true);
          plain = plain.subarray(of.take);
        } else {
          queue.clear();
          plain = Buffer.alloc(0);
        }
        expect(queue.length).toBe(plain.length);
        expect(queue.contiguous > 0).toBe(plain.length > 0);
      }
      expect(shift(queue, plain.length).equals(plain)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

it('owns its octets', () => {
  const queue = new ChunkQueue();
  const octets = Buffer.from('abc');
  queue.push(octets, 0, 3);
  octets.fill('x');
  expect(shift(queue, 3).toString()).toBe('abc');
});

it('holds little in little memory: a stalled stream of 5 KB does not cost 64', () => {
  const queue = new ChunkQueue();
  queue.push(Buffer.alloc(5000), 0, 5000);
  expect(queue.chunk.length).toBe(8192);
  const small = new ChunkQueue();
  for (let i = 0; i < 40; i++) small.push(Buffer.alloc(100), 0, 100);
  expect(small.chunk.length).toBe(4096);
});

it('lets its chunks go once they are read', () => {
  const queue = new ChunkQueue();
  queue.push(Buffer.alloc(100_000), 0, 100_000);
  shift(queue, 100_000);
  expect(queue.length).toBe(0);
  expect(queue.chunk).toBeUndefined();
});
