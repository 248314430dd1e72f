/** One metric as the Prometheus text format 0.0.4 gives it. */
export interface ParsedMetric {
  readonly help: string;
  readonly type: string;
  readonly samples: Array<{
    readonly name: string;
    readonly labels: Map<string, string>;
    readonly value: number;
  }>;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*/;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: [''],
  gauge: [''],
  histogram: ['_bucket', '_sum', '_count'],
};

/**
 * A strict reader of the text format: HELP and TYPE stand once and before the samples of a metric, which stand
 * together; names and escapes are legal; no sample comes twice; the text ends in a newline. Throws otherwise.
 */
export function parseExposition(text: string): Map<string, ParsedMetric> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const metrics = new Map<string, ParsedMetric>();
  const seen = new Set<string>();
  let help: [name: string, text: string] | undefined;
  let current: [name: string, metric: ParsedMetric] | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    if (line === '') continue;
    if (line.startsWith('# HELP ')) {
      const [, name, rest] = /^# HELP (\S+) (.+)$/.exec(line) ?? fail(line);
      help = [name as string, rest as string];
      current = undefined;
    } else if (line.startsWith('# TYPE ')) {
      const [, name, type] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? fail(line);
      if (help?.[0] !== name || metrics.has(name as string)) fail(line);
      current = [name as string, { help: help?.[1] as string, type: type as string, samples: [] }];
      metrics.set(...current);
    } else {
      const sample = parseSample(line);
      const [name, metric] = current ?? fail(line);
      if (!SUFFIXES[metric.type]?.some((suffix) => sample.name === name + suffix)) fail(line);
      const key = JSON.stringify([sample.name, [...sample.labels].sort()]);
      if (seen.has(key)) fail(line);
      seen.add(key);
      metric.samples.push(sample);
    }
  }
  return metrics;
}

function parseSample(line: string): ParsedMetric['samples'][number] {
  const name = NAME.exec(line)?.[0] ?? fail(line);
  let rest = line.slice(name.length);
  const labels = new Map<string, string>();
  if (rest.startsWith('{')) {
    rest = rest.slice(1);
    for (;;) {
      const label = LABEL_NAME.exec(rest)?.[0] ?? fail(line);
      const value = /^="((?:[^"\\]|\\\\|\\"|\\n)*)"/.exec(rest.slice(label.length)) ?? fail(line);
      if (labels.has(label)) fail(line);
      labels.set(
        label,
        (value[1] as string).replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c)),
      );
      rest = rest.slice(label.length + value[0].length);
      if (rest.startsWith('}')) break;
      if (!rest.startsWith(',')) fail(line);
      rest = rest.slice(1);
    }
    rest = rest.slice(1);
  }
  const [, number] = /^ (-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|\+?Inf)|NaN)$/.exec(rest) ?? fail(line);
  return { name, labels, value: Number((number as string).replace('+Inf', 'Infinity')) };
}

function fail(line: string): never {
  throw new Error(`not the Prometheus text format: ${line}`);
}
