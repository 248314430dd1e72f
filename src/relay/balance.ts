import type { Upstream } from './upstream.ts';

/** Above so many not all are looked at for every call. */
const LOOKED_AT = 16;

/**
 * The upstream that a call goes to: of two that are drawn at random the one with fewer calls, healthy ones before all
 * others. Those that are passed over for their health are told; of many, not by each call. Undefined if the call has
 * been to all.
 */
export function balance(
  upstreams: readonly Upstream[],
  tried: readonly Upstream[] | undefined,
  random: () => number,
): Upstream | undefined {
  let candidates = upstreams;
  if (tried !== undefined && tried.length > 0) candidates = candidates.filter((u) => !tried.includes(u));
  if (candidates.length === 1) return candidates[0];
  if (candidates.length > LOOKED_AT) {
    const [a, b] = draw(candidates, random);
    // The first of all comes with one call in as many as there are: then the others are looked at, too.
    if (a.healthy && b.healthy && a !== candidates[0]) return b.load < a.load ? b : a;
  }
  if (candidates.some(({ healthy }) => !healthy)) {
    const healthy = candidates.filter((upstream) => upstream.healthy);
    if (healthy.length > 0) {
      for (const upstream of candidates) if (!upstream.healthy) upstream.avoided();
      candidates = healthy;
    }
  }
  if (candidates.length < 2) return candidates[0];
  const [a, b] = draw(candidates, random);
  return b.load < a.load ? b : a;
}

/** Two different ones of at least two. */
function draw(candidates: readonly Upstream[], random: () => number): [Upstream, Upstream] {
  const n = candidates.length;
  const first = Math.floor(random() * n);
  let second = Math.floor(random() * (n - 1));
  if (second >= first) second++;
  return [candidates[first] as Upstream, candidates[second] as Upstream];
}
