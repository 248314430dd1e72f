import { expect, it } from 'vitest';
import { LeaderElection } from '../../src/kube/lease.ts';
import type { LeaseSpec } from '../../src/kube/objects.ts';
import { LeaseWorld } from '../harness/leaseworld.ts';
import { Mulberry } from '../harness/seeded.ts';

const LOST = { thereMs: 0, backMs: 0, lost: 'there' } as const;

const names = (world: LeaseWorld): string[] =>
  world.leaders.map(({ election }) => election.identity.split('_')[0] as string);

it('the first that asks makes the Lease and leads; it renews it every two seconds', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(50);
  expect([names(world), a.heard]).toEqual([['a'], [true]]);
  expect(world.lease?.spec).toEqual({
    holderIdentity: a.election.identity,
    leaseDurationSeconds: 15,
    acquireTime: '2026-01-01T00:00:00.000000Z',
    renewTime: '2026-01-01T00:00:00.000000Z',
    leaseTransitions: 0,
  });
  await world.pass(60_000, () => expect(names(world)).toEqual(['a']));
  expect(world.lease?.spec).toMatchObject({
    acquireTime: '2026-01-01T00:00:00.000000Z',
    renewTime: '2026-01-01T00:01:00.000000Z',
  });
  // It knows the version that it has written: one request a renewal.
  expect(world.asked.slice(0, 4)).toEqual(['GET', 'POST', 'PUT', 'PUT']);
  expect(a.heard).toEqual([true]);
});

it('of several that begin together one leads, and the others stay ready', async () => {
  const world = new LeaseWorld();
  for (const name of ['a', 'b', 'c']) world.add(name);
  await world.pass(60_000, () => expect(world.leaders.length).toBe(1));
  expect(new Set(world.electors.map(({ election }) => election.holder)).size).toBe(1);
});

it('a leader that dies is followed once its Lease was seen unchanged for its duration', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(10_050);
  const b = world.add('b');
  await world.pass(1000);
  a.clock.frozen = true;
  const frozenAt = world.time.monotonic();
  await world.pass(60_000);
  expect(names(world)).toEqual(['b']);
  expect(world.lease?.spec).toMatchObject({ holderIdentity: b.election.identity, leaseTransitions: 1 });
  const taken = Date.parse(world.lease?.spec?.acquireTime as string) - Date.UTC(2026, 0, 1);
  expect(taken - frozenAt).toBeGreaterThan(15_000 - 2000);
  expect(taken - frozenAt).toBeLessThan(15_000 + 2 * 4400);
});

it('a leader that cannot renew has stopped before another can begin', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(10_050);
  const b = world.add('b');
  await world.pass(5000);
  a.fate = () => LOST;
  const since = world.time.monotonic();
  let ended = 0;
  let began = 0;
  await world.pass(40_000, () => {
    expect(world.leaders.length).toBeLessThan(2);
    if (ended === 0 && !a.election.isLeader) ended = world.time.monotonic() - since;
    if (began === 0 && b.election.isLeader) began = world.time.monotonic() - since;
  });
  expect(ended).toBeLessThanOrEqual(10_000);
  expect(ended).toBeGreaterThanOrEqual(8000);
  expect(began - ended).toBeGreaterThanOrEqual(5000);
  expect(a.heard).toEqual([true, false]);
});

it('a process that was stopped for longer than its leadership learns it before it acts', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(5000);
  world.add('b');
  a.clock.frozen = true;
  await world.pass(60_000);
  expect(names(world)).toEqual(['b']);
  // Before any of its timers have run.
  expect(a.election.isLeader).toBe(false);
  a.clock.frozen = false;
  await world.pass(10_000, () => expect(names(world)).toEqual(['b']));
  expect(a.heard).toEqual([true, false]);
});

it('a machine that was suspended learns it by its wall clock', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(5000);
  a.clock.wallStep = 3_600_000;
  expect(a.election.isLeader).toBe(false);
  await world.pass(5000);
  // Nobody has taken over: it leads again, and has said so.
  expect([names(world), a.heard]).toEqual([['a'], [true, false, true]]);
});

it('a wall clock that is set back lengthens nothing', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(5000);
  a.clock.wallStep = -3_600_000;
  a.fate = () => LOST;
  await world.pass(10_000);
  expect(names(world)).toEqual([]);
});

it('a process that was stopped while its wall clock was set back learns it all the same', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(5000);
  a.clock.frozen = true;
  a.clock.wallStep = -3_600_000;
  await world.pass(10_000);
  expect(a.election.isLeader).toBe(false);
});

it('a renewal counts from when it was asked for, not from its answer', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(1950);
  a.fate = () => ({ thereMs: 0, backMs: 4000 });
  await world.pass(50);
  expect(world.asked.filter((method) => method === 'PUT')).toHaveLength(1);
  a.fate = () => LOST;
  await world.pass(9950);
  expect(names(world)).toEqual(['a']);
  await world.pass(50);
  expect(names(world)).toEqual([]);
});

it('clocks of different machines are not compared', async () => {
  const world = new LeaseWorld();
  world.add('a', { date: Date.UTC(2020, 0, 1) });
  await world.pass(50);
  world.add('b', { date: Date.UTC(2030, 0, 1) });
  await world.pass(60_000, () => expect(names(world)).toEqual(['a']));
});

it('who stops ceases to lead first, then lets go, and another leads at its next attempt', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(50);
  world.add('b');
  await world.pass(1000);
  let atRelease: boolean | undefined;
  a.fate = () => {
    atRelease ??= a.election.isLeader;
    return { thereMs: 100, backMs: 0 };
  };
  const stopped = a.election.stop();
  expect([names(world), a.heard]).toEqual([[], [true, false]]);
  await world.pass(4500, () => expect(world.leaders.length).toBeLessThan(2));
  await stopped;
  expect([names(world), atRelease]).toEqual([['b'], false]);
  expect(world.lease?.spec?.leaseTransitions).toBe(1);
});

it('a release overtaken by the renewal that was under way is made again', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(50);
  a.fate = () => ({ thereMs: 100, backMs: 100 });
  await world.pass(2000);
  expect(world.asked.at(-1)).toBe('PUT');
  a.fate = () => ({ thereMs: 500, backMs: 0 });
  const stopped = a.election.stop();
  await world.pass(3000);
  await stopped;
  expect(world.lease?.spec?.holderIdentity).toBe('');
});

it('whoever asks it to stop once more waits for the release, too', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(50);
  a.fate = () => ({ thereMs: 500, backMs: 0 });
  void a.election.stop();
  let stopped = false;
  const again = a.election.stop().then(() => {
    stopped = true;
  });
  await world.pass(450);
  expect([stopped, world.lease?.spec?.holderIdentity]).toEqual([false, a.election.identity]);
  await world.pass(100);
  await again;
  expect(world.lease?.spec?.holderIdentity).toBe('');
});

it('who stops without leading leaves the Lease alone', async () => {
  const world = new LeaseWorld();
  world.add('a');
  await world.pass(50);
  const b = world.add('b');
  await world.pass(5000);
  const before = world.lease?.spec?.holderIdentity;
  await b.election.stop();
  expect(world.lease?.spec?.holderIdentity).toBe(before);
});

it('a leader whose Lease another has taken by force ceases at its next renewal', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(50);
  const lease = world.lease;
  world.lease = {
    ...lease,
    metadata: lease?.metadata ?? {},
    spec: { ...lease?.spec, holderIdentity: 'kubectl' },
  };
  await world.pass(2100);
  expect([names(world), a.heard, a.election.holder]).toEqual([[], [true, false], 'kubectl']);
  await world.pass(20_000);
  expect(names(world)).toEqual(['a']);
});

it('a change that leaves the holder costs a leader nothing', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(50);
  const lease = world.lease;
  world.lease = { ...lease, metadata: { ...lease?.metadata, labels: { by: 'hand' } } };
  await world.pass(30_000, () => expect(names(world)).toEqual(['a']));
  expect(a.heard).toEqual([true]);
  expect(world.lease?.metadata.labels).toEqual({ by: 'hand' });
});

it.each<[string, LeaseSpec | undefined, number]>([
  ['without a spec', undefined, 0],
  ['that nobody holds', { holderIdentity: '', leaseDurationSeconds: 600 }, 0],
  ['without a duration', { holderIdentity: 'x' }, 15_000],
  ['of a longer duration', { holderIdentity: 'x', leaseDurationSeconds: 60 }, 60_000],
  ['of a shorter duration', { holderIdentity: 'x', leaseDurationSeconds: 5 }, 5000],
])('a Lease %s is taken when it may be', async (_, spec, afterMs) => {
  const world = new LeaseWorld();
  const metadata = { name: 'lease', namespace: 'ns' };
  world.store.create('/apis/coordination.k8s.io/v1/leases', { metadata, ...(spec && { spec }) }, 'ns');
  world.add('a');
  if (afterMs > 0) await world.pass(afterMs - 50);
  expect(names(world)).toEqual([]);
  await world.pass(afterMs > 0 ? 8000 : 50);
  expect(names(world)).toEqual(['a']);
});

it('a server that asks for patience gets it from those that do not lead; a leader asks again while it still leads', async () => {
  const world = new LeaseWorld();
  const a = world.add('a');
  await world.pass(50);
  const b = world.add('b');
  await world.pass(5000);
  const refused = { thereMs: 0, backMs: 0, refused: { status: 429, retryAfterMs: 60_000 } } as const;
  let asked = 0;
  b.fate = () => {
    asked++;
    return refused;
  };
  await world.pass(60_000);
  expect(asked).toBe(1);
  let refusals = 1;
  a.fate = () => (refusals-- > 0 ? refused : { thereMs: 0, backMs: 0 });
  await world.pass(20_000, () => expect(names(world)).toEqual(['a']));
});

it.each([
  [{ durationMs: 10_000, renewMs: 10_000 }],
  [{ renewMs: 4000, retryMs: 2000 }],
  [{ retryMs: 0 }],
  [{ durationMs: Number.NaN }],
])('times that cannot work are refused: %j', (times) => {
  expect(() => new LeaseWorld().add('a', times)).toThrow(RangeError);
});

it('two of the same name are two', () => {
  const world = new LeaseWorld();
  expect(world.add('a').election.identity).not.toBe(world.add('a').election.identity);
  expect(world.add('a').election).toBeInstanceOf(LeaderElection);
});

it.each([1, 2, 3, 4, 5, 6])(
  'never two lead at a time, and one does once all is well again (seed %i)',
  async (seed) => {
    const seeded = new Mulberry(seed);
    const world = new LeaseWorld();
    const count = 2 + seeded.below(2);
    for (let i = 0; i < count; i++) {
      const rate = 0.98 + 0.04 * seeded.random();
      world.add(`e${i}`, { rate, date: seeded.below(2 ** 40), random: seeded.random });
    }
    const reigns: string[] = [];
    const look = (): void => {
      expect(names(world).length).toBeLessThan(2);
      const [leader] = names(world);
      if (leader !== undefined && reigns.at(-1) !== leader) reigns.push(leader);
    };
    for (let phase = 0; phase < 25; phase++) {
      for (const elector of world.electors) {
        const kind = seeded.below(6);
        const delay = seeded.pick([0, 100, 2000, 4900, 8000]);
        elector.fate = () => {
          const [thereMs, backMs] = [seeded.random() * delay, seeded.random() * delay];
          if (kind === 0) return { ...LOST };
          if (kind === 1 && seeded.below(2) === 0)
            return { thereMs, backMs, lost: seeded.pick(['there', 'back']) };
          if (kind === 2 && seeded.below(2) === 0) return { thereMs, backMs, refused: { status: 500 } };
          return { thereMs, backMs };
        };
        elector.clock.frozen = seeded.below(5) === 0;
        if (seeded.below(10) === 0) elector.clock.wallStep += seeded.pick([-1, 1]) * seeded.below(3_600_000);
      }
      await world.pass(3000 + seeded.below(30_000), look, 100);
    }
    for (const elector of world.electors) {
      elector.fate = () => ({ thereMs: 1, backMs: 1 });
      elector.clock.frozen = false;
    }
    await world.pass(40_000, look, 100);
    expect(world.leaders).toHaveLength(1);
    // It has not been quiet all the time.
    expect(reigns.length).toBeGreaterThan(2);
  },
);
