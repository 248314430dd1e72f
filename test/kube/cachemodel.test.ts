import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { collectionPath, PODS } from '../../src/kube/client/resource.ts';
import type { Pod } from '../../src/kube/objects.ts';
import { Cache } from '../../src/kube/watch/cache.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { Mulberry } from '../harness/seeded.ts';

interface Kept {
  readonly name: string;
  readonly ip: string;
}

it.each([1, 2, 3])(
  'whatever fails on the way, the cache, its index and its listeners end as the server is (seed %i)',
  async (seed) => {
    await using api = await KubeApi.start();
    const { pick, below } = bound(new Mulberry(seed));
    const client = openKubeClient({ access: api.access, clock: systemClock });
    const cache = new Cache<Pod, Kept>({
      client,
      clock: systemClock,
      path: collectionPath(PODS),
      keep: ({ metadata, status }) => ({ name: metadata.name as string, ip: status?.podIP as string }),
      indexers: { ip: ({ ip }) => [ip] },
      random: () => 0,
      limit: 3,
    });
    const heard = new Map<string, string>();
    const impossible: string[] = [];
    cache.onChange(({ type, object }) => {
      // Each kind of change only where it can be.
      expect(heard.has(object.name)).toBe(type !== 'added');
      if (type === 'deleted') heard.delete(object.name);
      else heard.set(object.name, object.ip);
    });
    cache.start();
    const pods = collectionPath(PODS, 'shop');
    const change = (): void => {
      const name = `pod-${below(12)}`;
      if (below(3) > 0) api.put(pods, { metadata: { name }, status: { podIP: `10.0.0.${below(5)}` } });
      else if (api.at(`${pods}/${name}`) !== undefined) api.remove(`${pods}/${name}`);
    };
    const trouble: Array<() => unknown> = [
      () => api.cut(),
      () => api.expire(),
      () => api.tearEvent(),
      () => api.fail({ status: 503, retryAfter: '0' }),
      () => api.fail({ status: 410, reason: 'Expired' }),
      () => api.sendRaw('half an event'),
      () => {
        api.expiredAs = pick(['event', 'status'] as const);
      },
      async () => {
        await api.stop();
        change();
        await api.listen();
      },
    ];
    for (let step = 0; step < 60; step++) {
      for (let i = below(6); i > 0; i--) change();
      if (below(3) === 0) await pick(trouble)();
      await new Promise((resolve) => setTimeout(resolve, below(8)));
    }
    api.put(pods, { metadata: { name: 'last' }, status: { podIP: '10.0.0.9' } });
    const expected = () =>
      Object.fromEntries(
        api.store
          .all('/api/v1/pods')
          .map(({ metadata, status }) => [metadata.name, (status as { podIP: string }).podIP]),
      );
    const held = () => Object.fromEntries([...cache.all()].map(({ name, ip }) => [name, ip]));
    await expect.poll(held, { timeout: 20_000 }).toEqual(expected());
    expect(Object.fromEntries(heard)).toEqual(expected());
    expect(impossible).toEqual([]);
    const indexed = [0, 1, 2, 3, 4, 9].flatMap((n) => cache.by('ip', `10.0.0.${n}`));
    expect(Object.fromEntries(indexed.map(({ name, ip }) => [name, ip]))).toEqual(expected());
    expect(indexed).toHaveLength(cache.size);
    cache.stop();
    client.close();
  },
);

const bound = (seeded: Mulberry) => ({
  below: (n: number) => seeded.below(n),
  pick: <T>(from: readonly T[]) => seeded.pick(from),
});
