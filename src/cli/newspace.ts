import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** Octets, both halves together: calls under way are a small part of it, and it is no burden to a small container. */
const ENOUGH = 8 * 1024 * 1024;

/**
 * The new space is too small for several threads to share its collection: waking them, many times a second, costs more
 * than they do.
 */
const SCAVENGE_ALONE = '--no-parallel-scavenge';

function size(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')?.space_size ?? ENOUGH;
}

function allowGrowth(allowed: boolean): void {
  setFlagsFromString(`--semi-space-growth-factor=${allowed ? 2 : 1}`);
}

/**
 * Keeps V8's new space at its first size, 1 MiB: a program that starts leaves much behind in a larger one that it never
 * needs again.
 */
export function holdNewSpace(): void {
  allowGrowth(false);
}

/**
 * From now on V8's new space grows with the load as far as ENOUGH, and not to the 32 MiB that V8 would give it. Too small,
 * it is collected while most of its calls are under way, and they are copied; too large, it only takes memory. V8
 * reads its flag for the largest size only before it starts, but the factor by which it grows each time.
 */
export function boundNewSpace(): void {
  setFlagsFromString(SCAVENGE_ALONE);
  let allowed = size() < ENOUGH;
  allowGrowth(allowed);
  new PerformanceObserver(() => {
    const small = size() < ENOUGH;
    if (small === allowed) return;
    allowed = small;
    allowGrowth(allowed);
  }).observe({ entryTypes: ['gc'] });
}
