import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type HealthChange,
  HealthMonitor,
  type HealthMonitorOptions,
} from '../../src/admin/healthmonitor.ts';
import { FakeClock } from '../harness/fake-clock.ts';

let clock: FakeClock;
let monitor: HealthMonitor;
let changes: HealthChange[];

function make(options: HealthMonitorOptions = {}): HealthMonitor {
  monitor = new HealthMonitor({ clock, ...options });
  monitor.on('change', (change) => changes.push(change));
  return monitor;
}

beforeEach(() => {
  clock = new FakeClock();
  changes = [];
  make();
});

afterEach(() => {
  monitor.stop();
  expect(clock.pending).toBe(0);
});

/** Everything that promises have to do by now. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function advance(ms: number): Promise<void> {
  clock.advance(ms);
  await settled();
}

/** A check of which the test says when it comes back, and how. */
class Manual {
  readonly signals: AbortSignal[] = [];
  #settle: { resolve(answer?: unknown): void; reject(error: unknown): void } | undefined;

  readonly check = (signal: AbortSignal): Promise<unknown> => {
    this.signals.push(signal);
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
  };

  async pass(answer?: unknown): Promise<void> {
    this.#settle?.resolve(answer);
    await settled();
  }

  async fail(error: unknown): Promise<void> {
    this.#settle?.reject(error);
    await settled();
  }
}

describe('a check', () => {
  it.each<[string, () => unknown, string | undefined]>([
    ['that returns nothing', () => undefined, undefined],
    ['that resolves to something', async () => ({ rows: 1 }), undefined],
    ['that returns 0', () => 0, undefined],
    ['that returns false', () => false, 'it returned false'],
    ['that resolves to false', async () => false, 'it returned false'],
    [
      'that throws',
      () => {
        throw new Error('no database');
      },
      'no database',
    ],
    ['that rejects', () => Promise.reject(new Error('no queue')), 'no queue'],
    ['that rejects with a text', () => Promise.reject('no disk'), 'no disk'],
    ['that rejects with nothing', () => Promise.reject(undefined), 'it threw undefined'],
    [
      'that rejects with what cannot be printed',
      () =>
        Promise.reject({
          toString: () => {
            throw 1;
          },
        }),
      'an error that cannot be printed',
    ],
  ])('%s is told as it is', async (_what, check, error) => {
    const health = await monitor.add('part', check).check();
    const state = error === undefined ? 'healthy' : 'unhealthy';
    expect(health).toEqual({
      healthy: error === undefined,
      checks: [
        {
          name: 'part',
          critical: true,
          state,
          healthy: error === undefined,
          since: clock.now(),
          lastError: error,
          checkedAt: clock.now(),
        },
      ],
    });
    expect(changes).toEqual([
      { name: 'part', from: 'pending', to: state, error, healthy: error === undefined },
    ]);
  });

  it('is pending, and so not healthy, until its first result', () => {
    monitor.add('part', () => undefined);
    expect(monitor.status()).toMatchObject({
      healthy: false,
      checks: [{ state: 'pending', healthy: false }],
    });
    expect(monitor.status('part')).toMatchObject({
      since: clock.now(),
      checkedAt: undefined,
      lastError: undefined,
    });
    expect(changes).toEqual([]);
  });

  it('with too long an error is told in short', async () => {
    await monitor.add('part', () => Promise.reject(new Error('x'.repeat(5_000)))).check();
    expect(monitor.status('part')?.lastError).toHaveLength(1_024);
  });

  it('that comes back too late is unhealthy at its deadline, its signal aborted, its result dropped', async () => {
    const part = new Manual();
    const done = monitor.add('part', part.check).check();
    await settled();
    await advance(999);
    expect(monitor.status('part')?.state).toBe('pending');
    expect(part.signals[0]?.aborted).toBe(false);
    await advance(1);
    expect((await done).healthy).toBe(false);
    expect(monitor.status('part')).toMatchObject({
      state: 'unhealthy',
      lastError: 'no result within 1000 ms',
    });
    expect(part.signals[0]?.reason).toMatchObject({ name: 'TimeoutError' });
    await part.pass();
    expect(monitor.status('part')?.state).toBe('unhealthy');
  });

  it('may have a deadline of its own', async () => {
    const part = new Manual();
    monitor.add('part', part.check, { timeoutMs: 20 }).start();
    await settled();
    await advance(20);
    expect(monitor.status('part')?.lastError).toBe('no result within 20 ms');
  });

  it('never overlaps itself, however long it takes', async () => {
    const part = new Manual();
    monitor.add('part', part.check).start();
    await settled();
    await advance(3 * 5_000 + 1_000);
    expect(part.signals).toHaveLength(1);
    expect(monitor.status('part')).toMatchObject({
      state: 'unhealthy',
      lastError: 'the check before it has not come back',
    });
    await part.fail(new Error('long forgotten'));
    expect(monitor.status('part')?.lastError).toBe('the check before it has not come back');
    await advance(4_000);
    expect(part.signals).toHaveLength(2);
    await part.pass();
    expect(monitor.status('part')?.state).toBe('healthy');
  });

  it('that waited for the one before runs once that comes back', async () => {
    const part = new Manual();
    monitor.add('part', part.check, { timeoutMs: 4_000 }).start();
    await settled();
    await advance(5_500);
    await part.pass();
    expect(part.signals).toHaveLength(2);
    await part.pass();
    expect(monitor.status('part')?.state).toBe('healthy');
  });

  it('is asked once for all who want it at once', async () => {
    const part = new Manual();
    monitor.add('part', part.check);
    const all = Promise.all([monitor.check(), monitor.check(), monitor.start().check()]);
    await settled();
    await part.pass();
    expect((await all).map(({ healthy }) => healthy)).toEqual([true, true, true]);
    expect(part.signals).toHaveLength(1);
  });
});

describe('a round', () => {
  it('runs the checks side by side, and one that hangs holds up no other', async () => {
    const [slow, quick] = [new Manual(), new Manual()];
    monitor.add('slow', slow.check).add('quick', quick.check).start();
    await settled();
    expect([slow.signals.length, quick.signals.length]).toEqual([1, 1]);
    await quick.pass();
    expect(monitor.status('quick')?.state).toBe('healthy');
    expect(monitor.status('slow')?.state).toBe('pending');
  });

  it('comes at once and every interval', async () => {
    let runs = 0;
    make({ intervalMs: 200, timeoutMs: 50 })
      .add('part', () => void runs++)
      .start()
      .start();
    await settled();
    expect(runs).toBe(1);
    for (let n = 0; n < 5; n++) await advance(200);
    expect(runs).toBe(6);
  });

  it('includes what is added and leaves out what is removed meanwhile', async () => {
    const part = new Manual();
    monitor.start().add('part', part.check);
    await settled();
    expect(part.signals).toHaveLength(1);
    expect(monitor.remove('part')).toBe(true);
    expect(part.signals[0]?.reason).toMatchObject({ name: 'AbortError' });
    await part.pass();
    expect(monitor.status('part')).toBeUndefined();
    expect(monitor.remove('part')).toBe(false);
    expect(changes).toEqual([
      { name: 'part', from: 'pending', to: 'removed', error: undefined, healthy: true },
    ]);
    expect(monitor.add('part', () => undefined).status('part')?.state).toBe('pending');
  });
});

describe('a change', () => {
  it('is told once, with since when, and only when there is one', async () => {
    const answers = [true, true, false, false, true];
    monitor.add('part', () => answers.shift()).start();
    await settled();
    const began = clock.now();
    for (let n = 0; n < 3; n++) await advance(5_000);
    expect(monitor.status('part')).toMatchObject({
      since: began + 10_000,
      checkedAt: began + 15_000,
      lastError: 'it returned false',
    });
    await advance(5_000);
    expect(monitor.status('part')).toMatchObject({ since: began + 20_000, lastError: 'it returned false' });
    expect(changes.map(({ from, to, healthy }) => [from, to, healthy])).toEqual([
      ['pending', 'healthy', true],
      ['healthy', 'unhealthy', false],
      ['unhealthy', 'healthy', true],
    ]);
  });

  it('of a check that is not critical leaves the whole healthy', async () => {
    monitor.add('cache', () => false, { critical: false }).add('database', () => true);
    expect(await monitor.check()).toMatchObject({
      healthy: true,
      checks: [
        { name: 'cache', critical: false, healthy: false },
        { name: 'database', critical: true, healthy: true },
      ],
    });
    // When the cache had failed, the database had no result yet.
    expect(changes.map(({ name, to, healthy }) => [name, to, healthy])).toEqual([
      ['cache', 'unhealthy', false],
      ['database', 'healthy', true],
    ]);
  });

  it('reaches every listener, whatever another throws, and none that has gone', async () => {
    const [heard, thrown]: [string[], unknown[]] = [[], []];
    make({ onListenerError: (error) => thrown.push(error) });
    const off = monitor.on('change', () => heard.push('gone'));
    monitor.on('change', () => {
      throw new RangeError('mine');
    });
    monitor.on('change', ({ to }) => heard.push(to));
    off();
    await monitor.add('part', () => undefined).check();
    expect([heard, thrown]).toEqual([['healthy'], [expect.any(RangeError)]]);
  });
});

describe('the end', () => {
  it('aborts what runs, clears every timer, keeps what was found, and can begin again', async () => {
    const part = new Manual();
    monitor.add('part', part.check).start();
    await settled();
    await part.pass();
    const waiting = monitor.check();
    await settled();
    expect(part.signals).toHaveLength(2);
    monitor.stop();
    expect(part.signals[1]?.reason).toMatchObject({ name: 'AbortError', message: 'the monitor was stopped' });
    expect(clock.pending).toBe(0);
    expect(monitor.isRunning).toBe(false);
    expect((await waiting).healthy).toBe(true);

    // At once, before the check that was aborted has come back.
    monitor.start();
    await settled();
    expect(part.signals).toHaveLength(2);
    await part.fail(new Error('aborted'));
    expect(part.signals).toHaveLength(3);
    await part.pass();
    expect(monitor.status('part')).toMatchObject({ state: 'healthy', lastError: undefined });
    expect(changes).toHaveLength(1);
  });

  it('comes with the block that made it', async () => {
    {
      using inner = make()
        .add('part', () => undefined)
        .start();
      await settled();
      expect(inner.isRunning).toBe(true);
    }
    expect(clock.pending).toBe(0);
  });

  it('of a program is held up by one who waits for a result, and by nothing else', async () => {
    const part = new Manual();
    monitor.add('part', part.check).start();
    await settled();
    expect(clock.holds).toBe(0);
    const done = monitor.check();
    expect(clock.holds).toBe(1);
    await part.pass();
    await done;
    expect(clock.holds).toBe(0);
  });
});

it('what it tells is frozen', async () => {
  await monitor.add('part', () => undefined).check();
  const health = monitor.status();
  const told = [health, health.checks, health.checks[0], changes[0]];
  expect(told.every((part) => Object.isFrozen(part))).toBe(true);
  await monitor.remove('part');
  expect(health.checks).toHaveLength(1);
});

it('without a check it is healthy', async () => {
  expect(await monitor.check()).toEqual({ healthy: true, checks: [] });
});

it.each<[string, () => unknown, string, string]>([
  ['no interval', () => make({ intervalMs: 0 }), 'bad-option', 'intervalMs must be above 0'],
  ['an interval as text', () => make({ intervalMs: '5s' as never }), 'bad-option', 'not string'],
  ['a deadline beyond all timers', () => make({ timeoutMs: 2 ** 31 }), 'bad-option', 'timeoutMs'],
  [
    'a deadline of its own that is none',
    () => monitor.add('a', () => 1, { timeoutMs: Number.NaN }),
    'bad-option',
    'NaN',
  ],
  ['no name', () => monitor.add('', () => 1), 'bad-option', 'needs a name'],
  ['no function', () => monitor.add('a', undefined as never), 'bad-option', 'must be a function'],
  ['a name twice', () => monitor.add('a', () => 1).add('a', () => 1), 'duplicate-check', 'remove it first'],
  ['another event', () => monitor.on('changed' as never, () => 1), 'bad-option', "only 'change'"],
])('%s is a mistake that is named', (_what, mistake, code, says) => {
  expect(mistake).toThrowError(
    expect.objectContaining({ name: 'HealthError', code, message: expect.stringContaining(says) }),
  );
});
