/** Series beyond this number in one family share one whose open label says `other`. */
const MAX_SERIES = 100;
const MAX_LABEL = 128;
const OTHER = 'other';

/** One sample of a metric as prom-client writes it. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Where it differs from the metric's name: `_bucket`, `_sum`, `_count`. */
  readonly metricName?: string;
}

/** A value that goes up (counter) or up and down (gauge). Holding on to one saves the look-up by labels. */
export class Series {
  value = 0;

  inc(by = 1): void {
    this.value += by;
  }

  dec(by = 1): void {
    this.value -= by;
  }
}

/** Label values may come from outside: bounded, and without control characters. */
function labelValue(value: string): string {
  const text = value.length > MAX_LABEL ? `${value.slice(0, MAX_LABEL - 1)}…` : value;
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

/**
 * The series of one metric by their label values, at most `maxSeries` and a few: further values of the last label, the
 * only one that may be open-ended, are counted as `other`, and should even those be too many, so are the other labels.
 */
export class LabelledSeries<L extends readonly string[], S> {
  readonly #labels: readonly string[];
  readonly #make: () => S;
  readonly #maxSeries: number;
  readonly #series = new Map<
    string,
    { readonly labels: Readonly<Record<string, string>>; readonly series: S }
  >();

  constructor(labels: readonly string[], make: () => S, maxSeries = MAX_SERIES) {
    this.#labels = labels;
    this.#make = make;
    this.#maxSeries = maxSeries;
  }

  get size(): number {
    return this.#series.size;
  }

  /** The series of these label values, made when first asked for. */
  of(...values: L): S {
    const found = this.#series.get(values.join('\0'));
    if (found !== undefined) return found.series;
    let bounded = values.map(labelValue);
    if (this.#series.size >= this.#maxSeries) bounded = [...bounded.slice(0, -1), OTHER];
    if (this.#series.size >= 2 * this.#maxSeries) bounded = bounded.map(() => OTHER);
    const key = bounded.join('\0');
    let entry = this.#series.get(key);
    if (entry === undefined) {
      const labels = Object.fromEntries(this.#labels.map((label, i) => [label, bounded[i] as string]));
      entry = { labels, series: this.#make() };
      this.#series.set(key, entry);
    }
    return entry.series;
  }

  [Symbol.iterator](): IterableIterator<{
    readonly labels: Readonly<Record<string, string>>;
    readonly series: S;
  }> {
    return this.#series.values();
  }
}

/** Counters or gauges of one metric. */
export class NumberFamily<L extends readonly string[]> extends LabelledSeries<L, Series> {
  constructor(labels: readonly string[], maxSeries?: number) {
    super(labels, () => new Series(), maxSeries);
  }

  samples(): Sample[] {
    return Array.from(this, ({ labels, series }) => ({ labels, value: series.value }));
  }
}

/** Counts of observations by upper bound, their sum and number. Bounds ascend; a value on a bound belongs below it. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let i = 0;
    while (i < bounds.length && value > (bounds[i] as number)) i++;
    this.#counts[i] = (this.#counts[i] as number) + 1;
    this.#sum += value;
  }

  samples(name: string, labels: Readonly<Record<string, string>>): Sample[] {
    const samples: Sample[] = [];
    let total = 0;
    this.#counts.forEach((count, i) => {
      total += count;
      const le = i < this.#bounds.length ? String(this.#bounds[i]) : '+Inf';
      samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: total });
    });
    samples.push({ metricName: `${name}_sum`, labels, value: this.#sum });
    samples.push({ metricName: `${name}_count`, labels, value: total });
    return samples;
  }
}
