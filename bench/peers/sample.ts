/** What a generator saw of the calls that it made. */
export interface Sample {
  readonly calls: number;
  readonly failed: number;
  readonly callsPerSecond: number;
  /** Exact percentiles over all calls, from sending the request to the end of the trailers. */
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Nearest rank; 0 of none. */
export function percentile(sorted: Float64Array, fraction: number): number {
  if (sorted.length === 0) return 0;
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)];
}

/** Of at least one value; the mean of the middle two of an even number. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
