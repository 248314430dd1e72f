import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { SidecarConfig } from './config.ts';
import type { ControllerConfig } from './controllerconfig.ts';
import type { Environment } from './environment.ts';
import { ConfigError, type ConfigErrorCode } from './errors.ts';

/** Holds a whole configuration, in place of a file. */
export const CONFIG_VARIABLE = 'HAUBERK_CONFIG';

const MAX_FILE = 1_048_576; // bytes

const CURES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file: check the path',
  EACCES: 'it cannot be read: check its owner and mode',
  EISDIR: 'it is a folder: name a file in it',
};

/** At most `MAX_FILE` bytes, also of pipes and of files that grow while they are read. */
async function readBounded(path: string): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(MAX_FILE + 1);
    let length = 0;
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return Buffer.from(buffer.subarray(0, length));
  } finally {
    await handle.close();
  }
}

function fail(path: string, code: ConfigErrorCode, message: string, cause?: unknown): ConfigError {
  return new ConfigError(path, [{ code, message }], cause);
}

/** A configuration and where it came from. */
export interface LoadedConfig<C = SidecarConfig> {
  readonly config: C;
  /** The path of its file, absolute, or the name of the variable that has its text. */
  readonly source: string;
  /** Of its text, in hex. */
  readonly sha256: string;
}

/** A sort of configuration: its parser is loaded when there is something to parse, and not before. */
interface Sort<C> {
  readonly noun: string;
  parse(text: string, options: { file: string; env: Environment }): Promise<C>;
}

const SIDECAR: Sort<SidecarConfig> = {
  noun: 'a sidecar configuration',
  parse: async (text, options) => (await import('./parse.ts')).parseConfig(text, options),
};

const CONTROLLER: Sort<ControllerConfig> = {
  noun: 'a controller configuration',
  parse: async (text, options) => {
    const { CONTROLLER_FORM } = await import('./controllerform.ts');
    return (await import('./parse.ts')).parseForm(CONTROLLER_FORM, text, options);
  },
};

/**
 * Reads a sidecar's file or, without a path, the text of the variable `HAUBERK_CONFIG`, in which relative paths are below
 * the working directory. Undefined if there is neither. Throws `ConfigError` with everything that is wrong, also if both
 * are given.
 */
export async function loadGivenConfig(
  path: string | undefined,
  env: Environment = process.env,
): Promise<LoadedConfig | undefined> {
  const inline = env[CONFIG_VARIABLE];
  if (inline === undefined || inline === '') {
    return path === undefined ? undefined : await load(SIDECAR, path, env);
  }
  if (path === undefined) {
    return await loadBytes(SIDECAR, CONFIG_VARIABLE, CONFIG_VARIABLE, Buffer.from(inline), env);
  }
  const message = `the variable ${CONFIG_VARIABLE} holds a configuration, too: unset it, or name no file`;
  throw fail(path, 'conflict', message);
}

/**
 * Reads a sidecar's file, with `HAUBERK_*` variables over it. Throws `ConfigError` with everything that is wrong.
 * The parser is loaded here and not before.
 */
export async function loadConfig(path: string, env: Environment = process.env): Promise<SidecarConfig> {
  return (await load(SIDECAR, path, env)).config;
}

/** As `loadConfig`, for the file of `hauberk controller`. */
export function loadControllerConfig(
  path: string,
  env: Environment = process.env,
): Promise<LoadedConfig<ControllerConfig>> {
  return load(CONTROLLER, path, env);
}

async function load<C>(sort: Sort<C>, path: string, env: Environment): Promise<LoadedConfig<C>> {
  let bytes: Buffer;
  try {
    bytes = await readBounded(path);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw fail(path, 'file-unreadable', (code === undefined ? undefined : CURES[code]) ?? message, cause);
  }
  return await loadBytes(sort, resolve(path), path, bytes, env);
}

/** `name` is what messages call it. */
async function loadBytes<C>(
  sort: Sort<C>,
  source: string,
  name: string,
  bytes: Buffer,
  env: Environment,
): Promise<LoadedConfig<C>> {
  if (bytes.length > MAX_FILE) {
    throw fail(name, 'file-too-large', `more than 1 MiB: this is not ${sort.noun}`);
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw fail(name, 'not-utf8', 'it is not UTF-8 text: save it as UTF-8', cause);
  }
  const config = await sort.parse(text, { file: name, env });
  return { config, source, sha256: createHash('sha256').update(bytes).digest('hex') };
}
