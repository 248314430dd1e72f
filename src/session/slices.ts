import type { Clock } from '../clock/clock.ts';

/** What a slice may take of a turn of the event loop; calls are served in between. */
const SLICE_MS = 2;

/**
 * Calls `each` with every item, a slice a turn, the first before this returns; then `done`. For work whose items may be
 * all sessions. An item may have changed since: `each` looks. If it throws, the rest is done all the same. The process stays
 * until it is done.
 */
export function inSlices<T>(
  clock: Clock,
  items: Iterable<T>,
  each: (item: T) => void,
  done: () => void = () => undefined,
): void {
  const left = items[Symbol.iterator]();
  let release: (() => void) | undefined;
  const slice = (): void => {
    const until = clock.monotonic() + SLICE_MS;
    let over = false;
    try {
      do {
        const next = left.next();
        if (next.done === true) over = true;
        else each(next.value);
      } while (!over && clock.monotonic() < until);
    } finally {
      if (!over) {
        release ??= clock.hold();
        clock.after(0, slice);
      }
    }
    if (!over) return;
    release?.();
    done();
  };
  slice();
}
