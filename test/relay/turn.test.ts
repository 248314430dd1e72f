import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Connection } from '../../src/http2/connection.ts';
import { Turn } from '../../src/relay/turn.ts';

/** A connection that has something to write to `to` for each thing that it reads. */
function relaying(turn: Turn, to: () => Connection, fault?: Error): Connection {
  return {
    receive() {
      turn.schedule(to());
      if (fault !== undefined) throw fault;
    },
  } as unknown as Connection;
}

function sending(log: string[], name: string): Connection {
  return { flush: () => log.push(name) } as unknown as Connection;
}

const SMALL = Buffer.alloc(100);

describe('the turn', () => {
  it('gathers what all reads of a turn bring, while several calls are open', async () => {
    const log: string[] = [];
    const turn = new Turn(() => 2);
    const peer = sending(log, 'flush');
    for (const each of ['first', 'second']) {
      turn.receive(
        relaying(turn, () => peer),
        SMALL,
      );
      log.push(each);
    }
    expect(log).toEqual(['first', 'second']);
    await nextTurn();
    // The connection itself asks once only; here each asks.
    expect(log).toEqual(['first', 'second', 'flush', 'flush']);
  });

  it('sends what a read brings at its end, while one call is open', () => {
    const log: string[] = [];
    const turn = new Turn(() => 1);
    const to = sending(log, 'flush');
    turn.receive(
      relaying(turn, () => to),
      SMALL,
    );
    expect(log).toEqual(['flush']);
  });

  it('gathers the parts of large messages, also of a single call', async () => {
    const log: string[] = [];
    const turn = new Turn(() => 1);
    const to = sending(log, 'flush');
    turn.receive(
      relaying(turn, () => to),
      Buffer.alloc(65_536),
    );
    expect(log).toEqual([]);
    await nextTurn();
    expect(log).toEqual(['flush']);
  });

  it('keeps the order: a read while a flush is due waits for it', async () => {
    const log: string[] = [];
    let calls = 2;
    const turn = new Turn(() => calls);
    turn.receive(
      relaying(turn, () => sending(log, 'first')),
      SMALL,
    );
    calls = 1;
    turn.receive(
      relaying(turn, () => sending(log, 'second')),
      SMALL,
    );
    expect(log).toEqual([]);
    await nextTurn();
    expect(log).toEqual(['first', 'second']);
  });

  it('flushes what is asked for outside of a read, and after a read that threw', async () => {
    const log: string[] = [];
    const turn = new Turn(() => 1);
    turn.schedule(sending(log, 'timer'));
    expect(log).toEqual([]);
    await nextTurn();
    expect(log).toEqual(['timer']);
    const fault = new Error('a bug');
    const bad = relaying(turn, () => sending(log, 'after the bug'), fault);
    expect(() => turn.receive(bad, SMALL)).toThrow(fault);
    expect(log).toEqual(['timer', 'after the bug']);
  });

  it('lets no more than 64 connections gather at a time', async () => {
    const log: string[] = [];
    const turn = new Turn(() => 1000);
    for (let i = 0; i < 130; i++) {
      turn.schedule({
        handOver: () => log.push(`hand over ${i}`),
        flush: () => log.push(`flush ${i}`),
      } as unknown as Connection);
      if (i === 63) expect(log).toEqual([]);
      if (i === 64) expect(log).toEqual(Array.from({ length: 64 }, (_, k) => `hand over ${k}`));
    }
    expect(log).toEqual(Array.from({ length: 128 }, (_, k) => `hand over ${k}`));
    log.length = 0;
    await nextTurn();
    expect(log).toEqual(Array.from({ length: 130 }, (_, k) => `flush ${k}`));
    log.length = 0;
    for (let i = 0; i < 64; i++) turn.schedule(sending(log, 'next turn'));
    expect(log).toEqual([]);
  });
});
