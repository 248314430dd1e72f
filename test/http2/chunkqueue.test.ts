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

it('is the queue that a plain array of octets is, also beside others that use its chunks again', () => {
  const size = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 200_000 }));
  const which = fc.integer({ min: 0, max: 2 });
  const command = fc.oneof(
    fc.record({ which, push: size }),
    fc.record({ which, take: size }),
    fc.record({ which, clear: fc.constant(true) }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
      const queues = Array.from({ length: 3 }, () => new ChunkQueue());
      const plains: Buffer[] = queues.map(() => Buffer.alloc(0));
      let next = 0;
      for (const of of commands) {
        const queue = queues[of.which] as ChunkQueue;
        let plain = plains[of.which] as Buffer;
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
        plains[of.which] = plain;
        expect(queue.length).toBe(plain.length);
        expect(queue.contiguous > 0).toBe(plain.length > 0);
      }
      for (const [i, plain] of plains.entries()) {
        expect(shift(queues[i] as ChunkQueue, plain.length).equals(plain)).toBe(true);
      }
    }),
    { numRuns: 60 },
  );
});

it('uses large chunks again: what passes through a queue leaves nothing to collect', () => {
  const chunks = new Set<Buffer>();
  const queue = new ChunkQueue();
  const octets = Buffer.alloc(100_000);
  for (let i = 0; i < 1000; i++) {
    queue.push(octets, 0, octets.length);
    while (queue.length > 0) {
      chunks.add(queue.chunk);
      queue.skip(queue.contiguous);
    }
  }
  expect(chunks.size).toBeLessThanOrEqual(64);
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
