import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Stream } from '../../src/http2/stream.ts';
import { StreamTable } from '../../src/http2/streamtable.ts';

/** The table looks at nothing but the identifier. */
const streamOf = (id: number): Stream => ({ id }) as Stream;

describe('the table of streams', () => {
  it('does what a Map does, whatever is opened and closed in which order', () => {
    const id = fc.oneof(
      fc.integer({ min: 1, max: 40 }),
      // Identifiers of one slot: a peer may leave out as many as it likes.
      fc.integer({ min: 0, max: 30 }).map((n) => 1 + n * 4096),
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
    );
    const step = fc.record({ id, remove: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const table = new StreamTable();
        const model = new Map<number, Stream>();
        for (const { id, remove } of steps) {
          if (remove) {
            table.delete(id);
            model.delete(id);
          } else if (!model.has(id)) {
            const stream = streamOf(id);
            table.add(stream);
            model.set(id, stream);
          }
          expect(table.get(id)).toBe(model.get(id));
        }
        expect(table.size).toBe(model.size);
        expect(table.list().map((stream) => stream.id)).toEqual([...model.keys()].sort((a, b) => a - b));
        for (const [known, stream] of model) expect(table.get(known)).toBe(stream);
      }),
    );
  });

  it('holds thousands and forgets them all', () => {
    const table = new StreamTable();
    const ids = Array.from({ length: 4096 }, (_, n) => 2 * n + 1);
    for (const id of ids) table.add(streamOf(id));
    expect(table.size).toBe(4096);
    expect(ids.every((id) => table.get(id)?.id === id)).toBe(true);
    for (const id of ids) table.delete(id);
    expect(table.size).toBe(0);
    expect(ids.some((id) => table.get(id) !== undefined)).toBe(false);
    expect(table.list()).toEqual([]);
  });

  it('takes a list that does not change under its reader', () => {
    const table = new StreamTable();
    for (const id of [5, 1, 3]) table.add(streamOf(id));
    const seen: number[] = [];
    for (const { id } of table.list()) {
      table.delete(id);
      table.add(streamOf(id + 100));
      seen.push(id);
    }
    expect(seen).toEqual([1, 3, 5]);
  });
});
