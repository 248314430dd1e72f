// What scripts/generate-docs.mjs writes: a page and a JSON schema for each sort of file.
import { CONTROLLER_SCHEMA } from './controllerschema.ts';
import { CONTROLLER_INTRODUCTION } from './controllertext.ts';
import { overridableKeys } from './environment.ts';
import { kindOf } from './kinds.ts';
import { below, dotted } from './pointer.ts';
import { formatDuration, formatSize } from './quantity.ts';
import { INTRODUCTION } from './referencetext.ts';
import { SCHEMA } from './schema.ts';
import type { SchemaNode } from './schemanode.ts';

/** A sort of file, and what is written by hand of its page. */
export interface Page {
  readonly schema: SchemaNode;
  readonly title: string;
  readonly introduction: readonly string[];
}

/** docs/configuration.md and docs/sidecar.schema.json. */
export const SIDECAR_PAGE: Page = {
  schema: SCHEMA as unknown as SchemaNode,
  title: 'Hauberk sidecar',
  introduction: INTRODUCTION,
};

/** docs/controller-configuration.md and docs/controller.schema.json. */
export const CONTROLLER_PAGE: Page = {
  schema: CONTROLLER_SCHEMA as unknown as SchemaNode,
  title: 'Hauberk controller',
  introduction: CONTROLLER_INTRODUCTION,
};

/** Every key of the file in order; items of a list are `routes[].service`. */
export function schemaKeys({ schema }: Page): Array<{ key: string; node: SchemaNode; required: boolean }> {
  const found: Array<{ key: string; node: SchemaNode; required: boolean }> = [];
  const visit = (node: SchemaNode, path: string): void => {
    for (const [name, child] of Object.entries(node.properties ?? {})) {
      const key = path === '' ? name : `${path}.${name}`;
      found.push({ key, node: child, required: node.required?.includes(name) === true });
      visit(child, key);
      if (child.items !== undefined) visit(child.items, `${key}[]`);
    }
  };
  visit(schema, '');
  return found;
}

/** A value as it is written in YAML's flow style, which JSON mostly is; plain where quotes are not needed. */
function yaml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(yaml).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(([key, item]) => `${key}: ${yaml(item)}`);
    return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
  }
  const text = String(value);
  return typeof value === 'string' && !/^[A-Za-z0-9./][\w./-]*(:[\w./-]+)*$/.test(text) ? `"${text}"` : text;
}

function typeOf(node: SchemaNode): string {
  const types = [node.type].flat();
  if (node.enum !== undefined) return node.enum.map((word) => `\`${word}\``).join(', ');
  if (node['x-words'] !== undefined) return 'word or mapping';
  if (node['x-kind'] !== undefined) {
    const noun = kindOf(node['x-kind']).noun.replace(/^an? /, '');
    return types.includes('array') ? `${noun}, or a list of them` : noun;
  }
  if (types[0] === 'array')
    return `list of ${node.items?.properties === undefined ? plural(node.items) : 'mappings'}`;
  if (types[0] === 'object') return 'mapping';
  const plain =
    { integer: 'whole number', number: 'number', boolean: '`true` or `false`' }[types[0]] ?? 'text';
  return node['x-unit'] === undefined ? plain : `${plain} (${node['x-unit']})`;
}

function plural(items: SchemaNode | undefined): string {
  if (items?.['x-words'] !== undefined) return 'words and mappings';
  const noun = items?.['x-kind'] === undefined ? 'values' : kindOf(items['x-kind']).noun;
  if (noun.startsWith('a glob')) return noun.replace('a glob', 'globs');
  return noun.replace(/^an? /, '').replace(/y$/, 'ie').replace(/$/, 's');
}

function rangeOf(node: SchemaNode): string {
  const [least, most] = node['x-range'] ?? [node.minimum, node.maximum];
  if (least === undefined || most === undefined) return '';
  const write =
    node['x-kind'] === 'duration' ? formatDuration : node['x-kind'] === 'size' ? formatSize : String;
  return `${write(least)} to ${write(most)}`;
}

const cell = (text: string): string => text.replaceAll('|', '\\|');

function row(key: string, node: SchemaNode, required: boolean): string {
  const shown = node.examples?.[0];
  const isSection = shown === undefined && (node.properties ?? node.items?.properties) !== undefined;
  const preset = isSection && node.type === 'object' ? undefined : node.default;
  const missing = isSection && node.default !== undefined ? 'as below' : 'none';
  const fallback = required ? '**required**' : preset === undefined ? missing : `\`${yaml(preset)}\``;
  const instead = Object.keys(node.properties ?? { keys: 1 }).length > 0 ? 'see its keys' : '`{}`';
  const example = shown === undefined ? instead : `\`${yaml(shown)}\``;
  return `| ${[`\`${key}\``, typeOf(node), fallback, rangeOf(node), node.description, example].map(cell).join(' | ')} |`;
}

function section(page: Page, name: string, node: SchemaNode): string[] {
  const heading = [`## ${name}`, '', node.description];
  const rows = schemaKeys(page)
    .filter(({ key }) => key.startsWith(`${name}.`) || key.startsWith(`${name}[].`))
    .map(({ key, node: child, required }) => row(key, child, required));
  return [
    ...heading,
    '',
    '| key | type | default | range | meaning | example |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
  ];
}

/** The page. */
export function renderReference(page: Page): string {
  const { schema, introduction } = page;
  const top = Object.entries(schema.properties ?? {});
  const nested = top.filter(
    ([, node]) => node.properties !== undefined || node.items?.properties !== undefined,
  );
  return [
    ...introduction,
    '## Top level',
    '',
    '| key | type | default | range | meaning | example |',
    '|---|---|---|---|---|---|',
    ...top.map(([key, node]) => row(key, node, schema.required?.includes(key) === true)),
    '',
    ...nested.flatMap(([name, node]) => section(page, name, node)),
    '## Environment variables',
    '',
    'Each of these sets the key beside it and wins over the file. An empty variable counts as unset; any other',
    'name that begins with `HAUBERK_` is refused, except `HAUBERK_CONFIG` and those that Kubernetes makes for a Service',
    'called `hauberk` (`HAUBERK_SERVICE_HOST`, `HAUBERK_PORT_...`). A list of addresses is separated by commas.',
    '',
    '| variable | key |',
    '|---|---|',
    ...overridableKeys(schema).map(({ variable, pointer }) => `| \`${variable}\` | \`${dotted(pointer)}\` |`),
    '',
  ].join('\n');
}

/** The schema as editors want it: patterns and dialect added. */
function editorNode(node: SchemaNode, pointer: string): Record<string, unknown> {
  const { properties, items, ...rest } = node;
  const pattern = node['x-kind'] === undefined ? undefined : kindOf(node['x-kind']).pattern;
  return {
    ...rest,
    ...(pattern === undefined ? {} : { pattern }),
    ...(items === undefined ? {} : { items: editorNode(items, below(pointer, 'items')) }),
    ...(properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(properties).map(([key, child]) => [key, editorNode(child, below(pointer, key))]),
          ),
        }),
  };
}

/** JSON Schema draft 7 of the file. */
export function editorSchema({ schema, title }: Page): Record<string, unknown> {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title,
    ...editorNode(schema, ''),
  };
}

const LINE = 110;

/** JSON with short lists on one line, as the formatter of this repository wants it. */
export function renderJson(value: unknown, indent = ''): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const deeper = `${indent}  `;
  if (Array.isArray(value)) {
    const inline = `[${value.map((item) => renderJson(item)).join(', ')}]`;
    if (!inline.includes('\n') && indent.length + inline.length < LINE - 24) return inline;
    return `[\n${value.map((item) => deeper + renderJson(item, deeper)).join(',\n')}\n${indent}]`;
  }
  const entries = Object.entries(value).map(
    ([key, item]) => `${deeper}${JSON.stringify(key)}: ${renderJson(item, deeper)}`,
  );
  return entries.length === 0 ? '{}' : `{\n${entries.join(',\n')}\n${indent}}`;
}
