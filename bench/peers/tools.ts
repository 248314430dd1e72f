import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { BenchError } from './errors.ts';
import type { Machine, PairName } from './result.ts';

/** Programs that npm does not install, with the Debian package of each and the option that prints its version. */
const TOOLS = {
  h2load: { package: 'nghttp2-client', version: '--version' },
  nghttpd: { package: 'nghttp2-server', version: '--version' },
  nghttpx: { package: 'nghttp2-proxy', version: '--version' },
  haproxy: { package: 'haproxy', version: '-v' },
  nginx: { package: 'nginx', version: '-v' },
  openssl: { package: 'openssl', version: 'version' },
} as const;

export type Tool = keyof typeof TOOLS;

/** The tools of a pair itself; the generator and the back end are needed by all. */
const NEEDED: Readonly<Record<PairName, readonly Tool[]>> = {
  hauberk: [],
  nghttpx: ['nghttpx', 'openssl'],
  haproxy: ['haproxy', 'openssl'],
  nginx: ['nginx', 'openssl'],
  direct: [],
};

// Debian puts servers where an ordinary user's PATH does not look.
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

function locate(tool: Tool): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_FOLDERS];
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, tool))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

export type ToolPaths = ReadonlyMap<Tool, string>;

/** Finds what the pairs need. Throws BenchError `missing-tool` that names every missing package at once. */
export function findTools(pairs: readonly PairName[]): ToolPaths {
  const needed = new Set<Tool>(['h2load', 'nghttpd', ...pairs.flatMap((pair) => NEEDED[pair])]);
  const found = new Map<Tool, string>();
  const missing: Tool[] = [];
  for (const tool of needed) {
    const path = locate(tool);
    if (path === undefined) missing.push(tool);
    else found.set(tool, path);
  }
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((tool) => TOOLS[tool].package))];
    throw new BenchError(
      'missing-tool',
      `not installed: ${missing.join(', ')}\n  sudo apt-get install ${packages.join(' ')}\n` +
        'or leave pairs out, for instance --pairs hauberk,nghttpx,direct',
    );
  }
  return found;
}

/** The path of a tool that `findTools` was asked for. */
export function toolPath(tools: ToolPaths, tool: Tool): string {
  const path = tools.get(tool);
  if (path === undefined) throw new BenchError('missing-tool', `${tool} was not looked for`);
  return path;
}

function versionOf(tool: Tool, path: string): string {
  const { stdout, stderr } = spawnSync(path, [TOOLS[tool].version], { encoding: 'utf8' });
  return `${stdout}${stderr}`.trim().split('\n')[0] ?? '';
}

export function describeMachine(tools: ToolPaths): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    node: process.version,
    tools: Object.fromEntries([...tools].map(([tool, path]) => [tool, versionOf(tool, path)])),
  };
}
