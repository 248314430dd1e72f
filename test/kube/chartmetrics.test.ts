import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DEFINITIONS } from '../../src/telemetry/definitions.ts';

const CHART = new URL('../../helm/hauberk/', import.meta.url);
const dashboards = readdirSync(new URL('dashboards/', CHART)).map((file) => `dashboards/${file}`);
const FILES = ['templates/prometheusrule.yaml', ...dashboards];

/** What Prometheus adds. */
const ADDED = ['namespace', 'pod', 'job', 'le'];
const definitions = DEFINITIONS as Record<string, { labels: readonly string[] }>;

interface Use {
  readonly metric: string;
  readonly labels: readonly string[];
}

/** Expressions of PromQL in a rule or a dashboard. */
function expressionsOf(file: string): string[] {
  const text = readFileSync(new URL(file, CHART), 'utf8');
  if (file.endsWith('.yaml')) return [...text.matchAll(/^ +expr: (.*)$/gm)].map(([, expr]) => expr as string);
  const found: string[] = [];
  JSON.parse(text, (key, value) => {
    if (key === 'expr' || key === 'definition') found.push(value);
    return value;
  });
  return found;
}

/** Metrics of an expression, with the labels that it selects and groups by. */
function usesOf(expression: string): Use[] {
  const grouped = [...expression.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].flatMap(([, labels]) =>
    (labels as string).split(', '),
  );
  return [...expression.matchAll(/\b((?:hauberk|process|nodejs)_\w+)\b(?:\{([^}]*)\})?/g)].map(
    ([, name, selected]) => ({
      metric: (name as string).replace(/_(bucket|sum|count)$/, ''),
      labels: [...grouped, ...[...(selected ?? '').matchAll(/(\w+)(?==~|=|!=|!~)/g)].map(([label]) => label)],
    }),
  );
}

describe.each(FILES)('%s', (file) => {
  const expressions = expressionsOf(file);

  it('asks for metrics that there are, by labels that they have', () => {
    expect(expressions.length).toBeGreaterThan(5);
    for (const expression of expressions) {
      const uses = usesOf(expression);
      if (!/^absent\(up/.test(expression)) expect(uses.length, expression).toBeGreaterThan(0);
      const known = uses.flatMap(({ metric }) => definitions[metric]?.labels ?? []);
      for (const { metric, labels } of uses) {
        expect(definitions, expression).toHaveProperty(metric);
        const own =
          expression.includes(' or ') || expression.includes(' / ')
            ? known
            : (definitions[metric]?.labels ?? []);
        for (const label of labels) expect([...own, ...ADDED], expression).toContain(label);
      }
    }
  });
});

it('dashboards: panels have titles, ids and places of their own', () => {
  for (const file of dashboards) {
    const { panels, uid, title } = JSON.parse(readFileSync(new URL(file, CHART), 'utf8'));
    expect(uid).toMatch(/^hauberk-/);
    expect(title).toMatch(/^Hauberk/);
    const places = panels.map(({ gridPos }: { gridPos: object }) => JSON.stringify(gridPos));
    expect(new Set(places).size).toBe(panels.length);
    expect(new Set(panels.map(({ id }: { id: number }) => id)).size).toBe(panels.length);
    for (const panel of panels) expect(panel.title).toMatch(/^[A-Z]/);
  }
});
