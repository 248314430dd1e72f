import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, it } from 'vitest';

/*
 * What a bundler takes into a program that uses one part of the package: that part, and nothing of the relay, HTTP/2, gRPC or
 * certificates, whether it is imported from its own entry or from `hauberk`.
 */

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-bundles-'));
  await mkdir(join(folder, 'node_modules'));
  await symlink(fileURLToPath(new URL('../../', import.meta.url)), join(folder, 'node_modules/hauberk'));
});
afterAll(() => rm(folder, { recursive: true }));

interface Bundle {
  /** Minified. */
  readonly bytes: number;
  /** What it is made of: our own files by their folder, and the names of packages. */
  readonly parts: string[];
}

async function bundle(source: string): Promise<Bundle> {
  const { metafile } = await build({
    stdin: { contents: source, resolveDir: folder, sourcefile: 'program.js' },
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    outdir: 'out',
    external: ['ioredis'],
    logLevel: 'silent',
  });
  const [{ bytes, inputs }] = Object.values(metafile.outputs) as [(typeof metafile.outputs)[string]];
  const names = Object.entries(inputs)
    .filter(([path, { bytesInOutput }]) => bytesInOutput > 0 && !path.endsWith('program.js'))
    .map(
      ([path]) =>
        path.match(/.*node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ??
        path.replace(/^.*\bdist\/([^/]+).*$/, '$1'),
    );
  return { bytes, parts: [...new Set(names)].sort() };
}

/** A name of each entry, how many bytes a program may have for it, and what it is made of. */
const PARTS: Array<[entry: string, name: string, most: number, parts: string[]]> = [
  ['limits', 'RateLimiter', 13_000, ['clock', 'limit']],
  ['health', 'HealthMonitor', 5_500, ['admin', 'audit', 'clock']],
  ['sessions', 'SessionManager', 45_000, ['clock', 'crypto', 'lifecycle', 'lru-cache', 'session']],
  ['monitoring', 'openFileAdapter', 4_500, ['audit', 'clock', 'octets']],
];

it.each(PARTS)('hauberk/%s: %s takes at most %d bytes into a program', async (entry, name, most, parts) => {
  const use = (from: string): string => `import { ${name} } from '${from}'; globalThis.it = ${name};`;
  const [own, all] = await Promise.all([bundle(use(`hauberk/${entry}`)), bundle(use('hauberk'))]);
  expect(own.parts).toEqual(parts);
  expect(all.parts).toEqual(parts);
  expect(own.bytes).toBeLessThanOrEqual(most);
  expect(all.bytes).toBeLessThanOrEqual(most);
});

it('a CommonJS program of one part has no more than that', async () => {
  const { parts } = await bundle(`globalThis.it = require('hauberk/health').HealthMonitor;`);
  expect(parts).toEqual(['admin', 'audit', 'cjs', 'clock', 'entries']);
});

it('an unused import of everything takes nothing', async () => {
  const { bytes, parts } = await bundle(`import * as hauberk from 'hauberk'; globalThis.it = 1;`);
  expect([parts, bytes < 100]).toEqual([[], true]);
});
