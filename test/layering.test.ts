import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src/', import.meta.url));

/** Upper layers first: a folder may import from itself and from those after it. */
const LAYERS = [
  'cli',
  'index.ts',
  'entries',
  'mesh',
  'sidecar',
  'kube',
  'admin',
  'control',
  'capture',
  'relay',
  'session',
  'transport',
  'noise',
  'http2',
  'hpack',
  'identity',
  'policy',
  'limit',
  'audit',
  'telemetry',
  'crypto',
  'config',
  'clock',
  'lifecycle',
  'octets',
];

/** Layers that published vectors and fuzzers drive directly: no sockets, timers, files or environment. */
const PURE = ['noise', 'http2', 'hpack', 'crypto', 'lifecycle', 'octets'];
const IMPURE_MODULES =
  /^node:(net|tls|http|https|http2|fs|fs\/promises|dns|dns\/promises|child_process|timers)$/;

/** Folders that may import a layer's sibling only as listed, although the order would allow more. */
const FORBIDDEN: Array<[from: string, to: string, why: string]> = [
  ['http2', 'noise', 'http2 knows nothing of Noise'],
  ['http2', 'session', 'http2 knows nothing of sessions'],
  ['transport', 'http2', 'transport is bytes in, bytes out'],
  ['transport', 'hpack', 'transport is bytes in, bytes out'],
  ['noise', 'http2', 'noise knows nothing of HTTP'],
];

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Static and dynamic imports, and re-exports, of one file. */
function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const found = text.matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)(['"])([^'"]+)\1/g);
  return [...found].map((match) => match[2] as string);
}

const layerOf = (file: string): string => relative(SRC, file).split(sep)[0] as string;

const edges = sources(SRC).flatMap((file) =>
  importsOf(file).map((specifier) => ({
    file: relative(SRC, file),
    from: layerOf(file),
    specifier,
    to: specifier.startsWith('.') ? layerOf(join(dirname(file), specifier)) : undefined,
  })),
);

it('every folder under src is a known layer', () => {
  const unknown = sources(SRC)
    .map(layerOf)
    .filter((layer) => !LAYERS.includes(layer));
  expect(unknown).toEqual([]);
  expect(edges.length).toBeGreaterThan(0);
});

it('a folder imports only from itself and lower layers', () => {
  const upward = edges.filter(
    ({ from, to }) => to !== undefined && LAYERS.indexOf(to) < LAYERS.indexOf(from),
  );
  expect(upward).toEqual([]);
});

it('layers that must not know of one another do not', () => {
  const bad = edges.filter(({ from, to }) => FORBIDDEN.some((rule) => rule[0] === from && rule[1] === to));
  expect(bad).toEqual([]);
});

it('the pure layers use no sockets, files or timers', () => {
  const bad = edges.filter(({ from, specifier }) => PURE.includes(from) && IMPURE_MODULES.test(specifier));
  expect(bad).toEqual([]);
});

it('process.env is read only in config', () => {
  const readers = sources(SRC)
    .filter((file) => layerOf(file) !== 'config' && /\bprocess\.env\b/.test(readFileSync(file, 'utf8')))
    .map((file) => relative(SRC, file));
  expect(readers).toEqual([]);
});

it('nothing prints outside cli', () => {
  const printers = sources(SRC)
    .filter(
      (file) =>
        layerOf(file) !== 'cli' && /\bconsole\.(log|error|warn|info)\b/.test(readFileSync(file, 'utf8')),
    )
    .map((file) => relative(SRC, file));
  expect(printers).toEqual([]);
});
