import type { Figures, Row } from './result.ts';
import { median } from './sample.ts';

/**
 * One row's figure divided by another's: the median over the rounds of the ratio within each, so that what slowed a
 * whole round cancels out. Undefined where the other has none (`direct` has no CPU).
 */
export function ratioOf(own: Row, other: Row, figure: keyof Figures): number | undefined {
  const ratios = own.rounds.map((round, at) => round[figure] / other.rounds[at][figure]);
  return ratios.every(Number.isFinite) ? median(ratios) : undefined;
}

/** How much more microseconds one row's calls take than another's: the median over the rounds. */
export function addedUs(own: Row, other: Row, figure: 'p50Us' | 'p99Us'): number {
  return median(own.rounds.map((round, at) => round[figure] - other.rounds[at][figure]));
}
