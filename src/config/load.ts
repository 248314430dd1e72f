import { open } from 'node:fs/promises';
import type { SidecarConfig } from './config.ts';
import type { Environment } from './environment.ts';
import { ConfigError, type ConfigErrorCode } from './errors.ts';

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

/**
 * Reads a sidecar's file, with `HAUBERK_*` variables over it. Throws `ConfigError` with everything that is wrong.
 * The parser is loaded here and not before.
 */
export async function loadConfig(path: string, env: Environment = process.env): Promise<SidecarConfig> {
  let bytes: Buffer;
  try {
    bytes = await readBounded(path);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw fail(path, 'file-unreadable', (code === undefined ? undefined : CURES[code]) ?? message, cause);
  }
  if (bytes.length > MAX_FILE) {
    throw fail(path, 'file-too-large', 'more than 1 MiB: this is not a sidecar configuration');
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw fail(path, 'not-utf8', 'it is not UTF-8 text: save it as UTF-8', cause);
  }
  const { parseConfig } = await import('./parse.ts');
  return parseConfig(text, { file: path, env });
}
