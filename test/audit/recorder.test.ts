import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AuditLineAdapter } from '../../src/audit/adapter.ts';
import type { AuditEvent, AuditEventOf } from '../../src/audit/event.ts';
import { Collector, call, ready, recorderOf, SOURCE, turns } from './collector.ts';

const never = (): Promise<void> => new Promise(() => {});
const dropsIn = (events: readonly AuditEvent[]): Array<AuditEventOf<'audit.dropped'>> =>
  events.filter((event) => event.type === 'audit.dropped');

describe('recording', () => {
  it('writes nothing within record, and everything in order a little later', async () => {
    const adapter = new Collector('a');
    const { recorder, tick } = recorderOf([adapter]);
    for (let i = 0; i < 600; i++) recorder.record(ready(i));
    expect(adapter.writes).toBe(0);
    expect(recorder.stats().adapters[0]?.queued).toBe(600);
    await tick();
    expect(adapter.events.map((event) => event.seq)).toEqual(Array.from({ length: 600 }, (_, i) => i + 1));
    expect(adapter.writes).toBe(3);
    expect(adapter.events[0]).toEqual({
      time: '2026-01-01T00:00:00.000Z',
      seq: 1,
      type: 'sidecar.ready',
      sidecar: SOURCE.spiffeId,
      instance: SOURCE.instance,
      listeners: ['n=0'],
    });
  });

  it('bears the time of the recording, not of the delivery', async () => {
    const adapter = new Collector('a');
    const { recorder, clock, tick } = recorderOf([adapter]);
    recorder.record(ready());
    clock.advance(5);
    recorder.record(ready());
    await tick();
    expect(adapter.events.map((event) => event.time.slice(-5))).toEqual(['.000Z', '.005Z']);
  });

  it('is inactive without adapters', async () => {
    const { recorder, clock } = recorderOf([]);
    recorder.record(ready());
    expect(recorder.active).toBe(false);
    expect(recorder.stats().recorded).toBe(0);
    expect(clock.pending).toBe(0);
    expect(await recorder.close(1000)).toEqual([]);
  });

  it('gives adapters of lines the same lines', async () => {
    const got: string[][] = [[], []];
    const lines = (i: number): AuditLineAdapter => ({
      name: `lines${i}`,
      writeLines: (lines) => void got[i]?.push(lines.toString()),
    });
    const { recorder, tick } = recorderOf([lines(0), lines(1)]);
    recorder.record(call());
    await tick();
    expect(got[0]).toEqual(got[1]);
    expect(JSON.parse(got[0]?.[0] as string)).toMatchObject({ seq: 1, type: 'call.completed' });
  });

  it('tells adapters of the same name apart', () => {
    const { recorder } = recorderOf([new Collector('a'), new Collector('a'), new Collector('a')]);
    expect(recorder.stats().adapters.map(({ name }) => name)).toEqual(['a', 'a#2', 'a#3']);
  });

  it('passes a reopen on to every adapter, also when one throws', async () => {
    const bad = new Collector('bad');
    bad.reopen = () => {
      throw new Error('no');
    };
    const good = new Collector('good');
    const { recorder } = recorderOf([bad, good]);
    await recorder.reopen();
    expect(good.calls).toEqual(['reopen']);
    expect(recorder.stats().adapters[0]?.lastError).toBe('reopen: no');
  });
});

describe('a bad adapter', () => {
  const failures: Record<string, Collector['behave']> = {
    throws: () => {
      throw new Error('disk on fire');
    },
    rejects: () => Promise.reject(new Error('disk on fire')),
    'throws something that cannot be printed': () => {
      throw Object.create(null, {
        toString: {
          value: () => {
            throw new Error('gotcha');
          },
        },
      });
    },
    'returns a thenable that throws': () => ({
      // biome-ignore lint/suspicious/noThenProperty: a hostile thenable is what the test is about
      then: () => {
        throw new Error('disk on fire');
      },
    }),
    'changes the events it is given': (events) => {
      (events[0] as { seq: number }).seq = 0;
    },
    hangs: never,
  };

  for (const [what, behave] of Object.entries(failures)) {
    it(`that ${what} harms neither the caller nor another adapter, and gets its events later`, async () => {
      const bad = new Collector('bad', behave);
      const good = new Collector('good');
      const { recorder, tick } = recorderOf([bad, good]);
      for (let i = 0; i < 10; i++) recorder.record(ready(i));
      await tick();
      expect(good.events.slice(0, 10).map((event) => event.seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
      await tick(10_000);
      await tick();
      expect(recorder.stats().adapters[0]).toMatchObject({ state: 'suspended', delivered: 0 });
      expect(good.types()).toContain('audit.adapter-failed');

      bad.behave = () => {};
      for (let i = 0; i < 30; i++) await tick(10_000);
      expect(recorder.stats().adapters[0]).toMatchObject({ state: 'working', queued: 0, dropped: 0 });
      expect(good.types()).toContain('audit.adapter-recovered');
      const seqs = bad.events.map((event) => event.seq);
      expect(seqs).toEqual(good.events.map((event) => event.seq));
    });
  }

  it('that is slow gets one batch at a time, while another is not held up', async () => {
    let finish = (): void => {};
    const slow = new Collector('slow', () => new Promise((resolve) => (finish = resolve)));
    const quick = new Collector('quick');
    const { recorder, tick } = recorderOf([slow, quick], { batchSize: 10 });
    for (let i = 0; i < 30; i++) recorder.record(ready(i));
    await tick();
    expect(quick.events).toHaveLength(30);
    expect(slow.writes).toBe(1);
    finish();
    await turns();
    expect(slow.writes).toBe(2);
    expect(slow.events).toHaveLength(10);
  });

  it('is tried again with pauses that double up to the longest', async () => {
    const bad = new Collector('bad', () => {
      throw new Error('no');
    });
    const { recorder, clock, tick } = recorderOf([bad], { retryMinMs: 100, retryMaxMs: 400 });
    recorder.record(ready());
    await tick();
    const at: number[] = [];
    for (let ms = 0; ms < 1600; ms += 10) {
      const before = bad.writes;
      clock.advance(10);
      if (bad.writes > before) at.push(ms + 10);
    }
    expect(at).toEqual([100, 300, 700, 1100, 1500]);
  });

  it('whose write succeeds after its deadline gets nothing twice', async () => {
    let finish = (): void => {};
    const late = new Collector('late', (_, write) =>
      write === 1 ? new Promise((resolve) => (finish = resolve)) : undefined,
    );
    const { recorder, tick } = recorderOf([late]);
    for (let i = 0; i < 5; i++) recorder.record(ready(i));
    await tick();
    await tick(10_000);
    expect(recorder.stats().adapters[0]?.state).toBe('suspended');
    finish();
    await turns();
    await tick();
    expect(recorder.stats().adapters[0]).toMatchObject({ state: 'working', queued: 0 });
    expect(late.events.map((event) => event.seq)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it('that hangs for ever costs no more memory than its queue', async () => {
    const hung = new Collector('hung', never);
    const good = new Collector('good');
    const { recorder, tick } = recorderOf([hung, good], { queueLimit: 100 });
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 20; i++) recorder.record(ready(i));
      await tick(1000);
    }
    const [stats] = recorder.stats().adapters;
    expect(stats?.queued).toBeLessThanOrEqual(116);
    expect((stats?.queued ?? 0) + (stats?.dropped ?? 0)).toBe(recorder.stats().recorded);
    expect(good.events).toHaveLength(recorder.stats().recorded);
  });

  it('that chokes on one event loses that one only', async () => {
    const picky = new Collector('picky', (events) => {
      if (events.some((event) => event.seq === 7)) throw new Error('seven');
    });
    const { recorder, tick } = recorderOf([picky], { retryMaxMs: 1000 });
    for (let i = 0; i < 20; i++) recorder.record(ready(i));
    for (let i = 0; i < 60; i++) await tick(1000);
    const seqs = new Set(picky.events.map((event) => event.seq));
    expect([...Array(20).keys()].map((i) => i + 1).filter((seq) => !seqs.has(seq))).toEqual([7]);
    expect(dropsIn(picky.events)).toMatchObject([{ adapter: 'picky', count: 1 }]);
    expect(recorder.stats().adapters[0]).toMatchObject({ dropped: 1, queued: 0, state: 'working' });
  });
});

it('an adapter that refuses everything for long loses nothing that fits its queue', async () => {
  let working = false;
  const adapter = new Collector('a', () => {
    if (!working) throw new Error('no');
  });
  const { recorder, tick } = recorderOf([adapter], { retryMaxMs: 1000 });
  for (let i = 0; i < 20; i++) recorder.record(ready(i));
  for (let i = 0; i < 200; i++) await tick(1000);
  working = true;
  for (let i = 0; i < 20; i++) await tick(1000);
  expect(recorder.stats().adapters[0]).toMatchObject({ dropped: 0, queued: 0 });
  expect(adapter.events).toHaveLength(recorder.stats().recorded);
});

describe('a full queue', () => {
  it('drops the newest, counts them, and says so when the adapter takes events again', async () => {
    let working = false;
    const adapter = new Collector('a', () => {
      if (!working) throw new Error('no');
    });
    const other = new Collector('other');
    const { recorder, tick } = recorderOf([adapter, other], { queueLimit: 10 });
    for (let i = 0; i < 25; i++) {
      recorder.record(ready(i));
      await tick(10);
    }
    await tick();
    const dropped = recorder.stats().adapters[0]?.dropped as number;
    expect(dropped).toBe(recorder.stats().recorded - 10);
    working = true;
    for (let i = 0; i < 10; i++) await tick(1000);

    const seen = new Set(adapter.events.map((event) => event.seq));
    const gaps = other.events.filter((event) => !seen.has(event.seq));
    const reports = dropsIn(adapter.events).filter((event) => event.adapter === 'a');
    expect(reports.reduce((sum, report) => sum + report.count, 0)).toBe(gaps.length);
    expect(reports[0]).toMatchObject({ since: gaps[0]?.time, until: gaps.at(-1)?.time });
    expect(recorder.stats().adapters[0]?.dropped).toBe(gaps.length);
    expect(dropsIn(other.events)).toEqual(reports);
  });

  it('keeps a tenth for events that are not about calls', async () => {
    const adapter = new Collector('a', never);
    const { recorder, tick } = recorderOf([adapter], { queueLimit: 100 });
    for (let i = 0; i < 200; i++) recorder.record(call());
    await tick();
    expect(recorder.stats().adapters[0]).toMatchObject({ queued: 90, dropped: 110 });
    for (let i = 0; i < 20; i++) recorder.record(ready());
    await tick();
    expect(recorder.stats().adapters[0]).toMatchObject({ queued: 100, dropped: 120 });
  });

  it('keeps half for events that a stranger cannot cause', async () => {
    const adapter = new Collector('a', never);
    const { recorder, tick } = recorderOf([adapter], { queueLimit: 100 });
    for (let i = 0; i < 200; i++) {
      recorder.record({
        type: 'handshake.failed',
        direction: 'inbound',
        remote: '192.0.2.1:1',
        reason: 'not-hauberk',
        detail: '',
      });
    }
    await tick();
    expect(recorder.stats().adapters[0]).toMatchObject({ queued: 50, dropped: 150 });
    for (let i = 0; i < 50; i++) recorder.record(call());
    await tick();
    expect(recorder.stats().adapters[0]).toMatchObject({ queued: 90, dropped: 160 });
  });

  it('bounds what is gathered between two deliveries too', () => {
    const { recorder } = recorderOf([new Collector('a')], { queueLimit: 10 });
    for (let i = 0; i < 100_000; i++) recorder.record(ready(i));
    expect(recorder.stats().adapters[0]?.queued).toBeLessThanOrEqual(20);
  });
});

describe('flush and close', () => {
  it('flush resolves when all is written and made durable', async () => {
    const adapter = new Collector('a', () => new Promise((resolve) => setImmediate(resolve)));
    const { recorder } = recorderOf([adapter], { batchSize: 3 });
    for (let i = 0; i < 10; i++) recorder.record(ready(i));
    await recorder.flush();
    expect(adapter.events).toHaveLength(10);
    expect(adapter.calls).toEqual(['flush']);
  });

  it('flush does not wait for an adapter that hangs longer than its deadline', async () => {
    const hung = new Collector('hung', never);
    const good = new Collector('good');
    const { recorder, tick } = recorderOf([hung, good]);
    recorder.record(ready());
    let over = false;
    void recorder.flush().then(() => {
      over = true;
    });
    await tick(9_000);
    expect(over).toBe(false);
    await tick(1_000);
    expect(over).toBe(true);
  });

  it('flush does not wait for a flush that hangs', async () => {
    const adapter = new Collector('a');
    adapter.flush = () => never();
    const { recorder, tick } = recorderOf([adapter]);
    recorder.record(ready());
    const flushed = recorder.flush();
    await turns();
    await tick(10_000);
    await flushed;
    expect(recorder.stats().adapters[0]?.lastError).toContain('flush');
  });

  it('close delivers what was accepted, closes the adapters and takes nothing more', async () => {
    const adapter = new Collector('a');
    const { recorder, clock } = recorderOf([adapter]);
    for (let i = 0; i < 1000; i++) recorder.record(ready(i));
    expect(await recorder.close(5000)).toEqual([]);
    expect(adapter.events).toHaveLength(1000);
    expect(adapter.calls).toEqual(['close']);
    recorder.record(ready());
    expect(recorder.stats()).toMatchObject({ recorded: 1000, late: 1 });
    expect(recorder.stats().adapters[0]?.state).toBe('closed');
    expect(clock.pending).toBe(0);
    expect(await recorder.close(5000)).toEqual([]);
    expect(adapter.calls).toEqual(['close']);
  });

  it('close tries a suspended adapter again at once', async () => {
    const adapter = new Collector('a', (_, write) => {
      if (write === 1) throw new Error('no');
    });
    const { recorder, tick } = recorderOf([adapter]);
    recorder.record(ready());
    await tick();
    expect(adapter.events).toHaveLength(0);
    expect(await recorder.close(5000)).toEqual([]);
    expect(adapter.types()).toEqual(['sidecar.ready', 'audit.adapter-failed', 'audit.adapter-recovered']);
  });

  it('close gives up at its deadline, returns what was lost and tells the other adapters', async () => {
    const hung = new Collector('hung', never);
    hung.close = () => never();
    const good = new Collector('good');
    const { recorder, clock, tick } = recorderOf([hung, good]);
    for (let i = 0; i < 5; i++) recorder.record(ready(i));
    await tick();
    const closed = recorder.close(8000);
    for (let i = 0; i < 20; i++) await tick(400);
    expect(await closed).toEqual([{ adapter: 'hung', count: 5, error: undefined }]);
    expect(dropsIn(good.events)).toMatchObject([{ adapter: 'hung', count: 5 }]);
    expect(good.calls).toEqual(['close']);
    expect(clock.pending).toBe(0);
  });
});

it('whatever adapters do, every event is delivered in order or counted as dropped', async () => {
  const behaviour = fc.constantFrom('ok', 'later', 'throw', 'reject', 'hang', 'late');
  await fc.assert(
    fc.asyncProperty(
      fc.array(behaviour, { maxLength: 12 }),
      fc.array(fc.nat(15), { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 20 }),
      async (plan, bursts, queueLimit) => {
        const odd = new Collector('odd');
        const good = new Collector('good');
        const { recorder, clock, tick } = recorderOf([odd, good], {
          queueLimit,
          batchSize: 4,
          writeDeadlineMs: 100,
          retryMinMs: 50,
          retryMaxMs: 200,
        });
        odd.behave = () => {
          switch (plan.shift()) {
            case 'throw':
              throw new Error('throw');
            case 'reject':
              return Promise.reject(new Error('reject'));
            case 'hang':
              return never();
            case 'late':
              return new Promise((resolve) => void clock.after(130, resolve));
            case 'later':
              return Promise.resolve();
            default:
              return undefined;
          }
        };
        for (const burst of bursts) {
          for (let i = 0; i < burst; i++) recorder.record(i % 2 === 0 ? ready(i) : call());
          await tick(40);
        }
        const closed = recorder.close(100_000);
        for (let i = 0; i < 60; i++) await tick(100);
        await closed;
        const { recorded, adapters } = recorder.stats();
        const first = [...new Set(odd.events.map((event) => event.seq))];
        expect(first).toEqual([...first].sort((a, b) => a - b));
        expect((adapters[0]?.delivered ?? 0) + (adapters[0]?.dropped ?? 0)).toBe(recorded);
        expect((adapters[1]?.delivered ?? 0) + (adapters[1]?.dropped ?? 0)).toBe(recorded);
        expect(first.length).toBeGreaterThanOrEqual(adapters[0]?.delivered ?? 0);
        expect(clock.pending).toBeLessThanOrEqual(plan.length + 12);
      },
    ),
    { numRuns: 60 },
  );
});
