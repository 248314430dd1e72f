// What generate-docs.mjs writes of helm/hauberk: values.yaml, values.schema.json, the checks of durations, and the table of
// README.md, all from values.ts.

import { formatDuration } from '../../src/config/quantity.ts';
import { editorSchema } from '../../src/config/reference.ts';
import type { SchemaNode } from '../../src/config/schemanode.ts';
import { CHART_VALUES } from './values.ts';

const WIDTH = 110;

/** A value in YAML's flow style, which JSON mostly is. */
function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(([key, item]) => `${key}: ${flow(item)}`);
    return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
  }
  const text = String(value);
  if (typeof value !== 'string') return text;
  // Words that YAML reads as something else, and strings of digits, have quotes.
  const plain =
    /^[A-Za-z/][\w./-]*$|^\d+(\.\d+)?[a-zA-Z]+$/.test(text) &&
    !/^(true|false|yes|no|on|off|null)$/i.test(text);
  return plain ? text : JSON.stringify(text);
}

function comment(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = `${indent}#`;
  for (const word of text.split(' ')) {
    if (line.length + word.length + 1 > WIDTH) {
      lines.push(line);
      line = `${indent}#`;
    }
    line += ` ${word}`;
  }
  return [...lines, line];
}

/** Whether its keys are written out, rather than a value for all of it. */
const isSection = (node: SchemaNode): boolean =>
  node.type === 'object' &&
  Object.keys(node.properties ?? {}).length > 0 &&
  Object.keys((node.default as object | undefined) ?? {}).length === 0 &&
  !PASSED_ON.has(node);

/** Sections that have a page of their own. */
const PASSED_ON = new Set<SchemaNode>();
const proxy = CHART_VALUES.properties?.config?.properties?.injector?.properties?.proxy;
if (proxy !== undefined) PASSED_ON.add(proxy);

function valuesOf(node: SchemaNode, indent: string): string[] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const said = comment(child.description, indent);
    if (isSection(child)) {
      const below = valuesOf(child, `${indent}  `);
      const empty = below.every((line) => line.trim().startsWith('#'));
      return [...said, `${indent}${key}:${empty ? ' {}' : ''}`, ...below];
    }
    if (child.default !== undefined) return [...said, `${indent}${key}: ${flow(child.default)}`];
    const example = child.examples?.[0];
    return example === undefined ? [] : [...said, `${indent}# ${key}: ${flow(example)}`];
  });
}

/** values.yaml. */
export function renderValues(): string {
  const sections = Object.entries(CHART_VALUES.properties ?? {}).map(([key, child]) =>
    valuesOf({ ...CHART_VALUES, properties: { [key]: child } }, ''),
  );
  return [
    '# Generated from scripts/chart/values.ts by: node scripts/generate-docs.mjs',
    ...sections.filter((lines) => lines.length > 0).flatMap((lines) => ['', ...lines]),
    '',
  ].join('\n');
}

/** values.schema.json: what Helm checks. Our own keywords are left out. */
export function valuesSchema(): unknown {
  const strip = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(strip);
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).filter(([key]) => !key.startsWith('x-'));
    return Object.fromEntries(entries.map(([key, item]) => [key, strip(item)]));
  };
  return strip(
    editorSchema({ schema: CHART_VALUES, title: 'Values of the chart helm/hauberk', introduction: [] }),
  );
}

/** Every leaf of values.yaml, by its path. */
function leaves(node: SchemaNode, path: string): Array<{ path: string; node: SchemaNode }> {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const below = path === '' ? key : `${path}.${key}`;
    return isSection(child) ? leaves(child, below) : [{ path: below, node: child }];
  });
}

const cell = (text: string): string => text.replaceAll('|', '\\|');

/** The tables of README.md, a section each; what follows `## Values` is replaced. */
export function renderReadme(text: string): string {
  const [written] = text.split(/^## Values$/m) as [string];
  const row = ({ path, node }: { path: string; node: SchemaNode }): string => {
    const preset = node.default === undefined ? 'none' : `\`${flow(node.default)}\``;
    return `| \`${path}\` | ${cell(preset)} | ${cell(node.description)} |`;
  };
  return [
    `${written.trimEnd()}\n`,
    '## Values',
    '',
    '<!-- From here on generated from scripts/chart/values.ts by: node scripts/generate-docs.mjs -->',
    '',
    '| value | default | meaning |',
    '|---|---|---|',
    ...leaves(CHART_VALUES, '').map(row),
    '',
  ].join('\n');
}

/** templates/_ranges.tpl: bounds of durations, which JSON Schema cannot tell. */
export function renderRanges(): string {
  const checks = leaves(CHART_VALUES, '').flatMap(({ path, node }) => {
    const range = node['x-range'];
    if (range === undefined || node['x-kind'] !== 'duration') return [];
    const [least, most] = range;
    const args = [`"${path}"`, `.Values.${path}`, least / 1000, most / 1000];
    return [
      `{{- include "hauberk.range" (list ${args.join(' ')} "${formatDuration(least)} to ${formatDuration(most)}") -}}`,
    ];
  });
  return [
    '{{/* Generated from scripts/chart/values.ts by: node scripts/generate-docs.mjs */}}',
    '{{- define "hauberk.range" -}}',
    '{{- $seconds := include "hauberk.seconds" (index . 1) | float64 -}}',
    '{{- if or (lt $seconds (index . 2 | float64)) (gt $seconds (index . 3 | float64)) -}}',
    '{{- fail (printf "%s: %s is out of range: write %s." (index . 0) (index . 1) (index . 4)) -}}',
    '{{- end -}}',
    '{{- end }}',
    '',
    '{{- define "hauberk.ranges" -}}',
    ...checks,
    '{{- end }}',
    '',
  ].join('\n');
}
