import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { link, lstat, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { IdentityError } from './errors.ts';

const READABLE_BY_OTHERS = 0o077; // mode bits of group and others
const WRITABLE_BY_OTHERS = 0o022;
const OWNER_ONLY = 0o600;

/** What a file is for, which decides who may read and write it. */
export interface FileKind {
  /** As in "a private key". */
  readonly what: string;
  readonly maxBytes: number;
  /** Nobody but its owner may read or write it. */
  readonly secret: boolean;
  /** Nobody but its owner may write it: whoever can, decides whom this sidecar trusts. */
  readonly guarded: boolean;
  /** What to do if it is missing. */
  readonly cure: string;
}

/** The user id that reads, undefined where the platform has none. */
export type Reader = number | undefined;

export const currentReader = (): Reader => process.geteuid?.();

/**
 * Reads a file after checking type, owner and mode on the descriptor that it then reads from, so that nothing
 * can be swapped in between. Symbolic links are followed (Kubernetes mounts secrets that way); their target is
 * what is checked. Does not block on a FIFO. Throws IdentityError naming `path` and a cure.
 */
export async function readChecked(path: string, kind: FileKind, reader = currentReader()): Promise<Buffer> {
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch(async (cause) => {
    throw await openError(path, kind, cause as NodeJS.ErrnoException);
  });
  try {
    checkStats(path, kind, await handle.stat(), reader);
    const bytes = Buffer.alloc(kind.maxBytes + 1);
    let length = 0;
    while (length < bytes.length) {
      const { bytesRead } = await handle.read(bytes, length, bytes.length - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    if (length <= kind.maxBytes) return bytes.subarray(0, length);
    bytes.fill(0);
    throw new IdentityError(
      'file-too-large',
      `larger than the ${kind.maxBytes} bytes that ${kind.what} may have`,
      {
        file: path,
        cure: `check that the path is that of ${kind.what}`,
      },
    );
  } catch (error) {
    if (error instanceof IdentityError) throw error;
    throw new IdentityError('unreadable-file', `cannot be read: ${(error as Error).message}`, {
      file: path,
      cause: error,
    });
  } finally {
    await handle.close();
  }
}

async function openError(path: string, kind: FileKind, cause: NodeJS.ErrnoException): Promise<IdentityError> {
  if (cause.code === 'ENOENT') {
    const dangling = await lstat(path).then(
      (stats) => stats.isSymbolicLink(),
      () => false,
    );
    const what = dangling ? 'a symbolic link to a file that does not exist' : 'the file does not exist';
    return new IdentityError('missing-file', what, { file: path, cure: kind.cure, cause });
  }
  if (cause.code === 'EACCES' || cause.code === 'EPERM') {
    return new IdentityError('unreadable-file', 'this user may not read it', {
      file: path,
      cure: `give it to the user that runs Hauberk: chown ${currentReader() ?? 'USER'} ${path}`,
      cause,
    });
  }
  return new IdentityError('unreadable-file', `cannot be opened: ${cause.code ?? cause.message}`, {
    file: path,
    cure: `check that the path is that of ${kind.what}`,
    cause,
  });
}

/**
 * Refuses what is not a regular file, and by the kind of file: a foreign owner, and a mode that lets others
 * read or write. Root may own anything, since root can do everything anyway.
 */
export function checkStats(path: string, kind: FileKind, stats: Stats, reader: Reader): void {
  if (!stats.isFile()) {
    const what = stats.isDirectory() ? 'a directory' : 'not a regular file';
    throw new IdentityError('not-a-file', `this is ${what}`, {
      file: path,
      cure: `give the path of ${kind.what}`,
    });
  }
  if (reader === undefined || !(kind.secret || kind.guarded)) return;
  if (stats.uid !== reader && stats.uid !== 0) {
    throw new IdentityError(
      'wrong-owner',
      `it belongs to user ${stats.uid}, and Hauberk runs as user ${reader}`,
      {
        file: path,
        cure: `chown ${reader} ${path}`,
      },
    );
  }
  const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0');
  if (kind.secret && stats.mode & READABLE_BY_OTHERS) {
    throw new IdentityError(
      'key-readable-by-others',
      `others than its owner have access to this key (mode ${mode})`,
      {
        file: path,
        cure: `chmod 600 ${path}`,
      },
    );
  }
  if (kind.guarded && stats.mode & WRITABLE_BY_OTHERS) {
    throw new IdentityError('writable-by-others', `others than its owner can change it (mode ${mode})`, {
      file: path,
      cure: `chmod go-w ${path}`,
    });
  }
}

/**
 * Writes a file that only its owner can read, all or nothing: into a new file beside it, which is synced and
 * then takes its name; the folder is synced last. With `replace` false an existing file stays and IdentityError `already-exists` is thrown.
 */
export async function writeOwnerOnly(
  path: string,
  data: string | Uint8Array,
  replace: boolean,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    const handle = await open(temporary, 'wx', OWNER_ONLY);
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (replace) await rename(temporary, path);
    else await link(temporary, path); // unlike rename, fails if the name is taken
    const folder = await open(dirname(path), constants.O_RDONLY);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST') {
      throw new IdentityError('already-exists', 'the file exists already', { file: path, cause });
    }
    const cure = cureOfWrite(code, dirname(path));
    throw new IdentityError('write-failed', `cannot be written: ${code ?? message}`, {
      file: path,
      cause,
      ...(cure === undefined ? {} : { cure }),
    });
  } finally {
    await rm(temporary, { force: true });
  }
}

function cureOfWrite(code: string | undefined, folder: string): string | undefined {
  switch (code) {
    case 'ENOENT':
      return `make its folder: mkdir -p ${folder}`;
    case 'EACCES':
    case 'EPERM':
      return `let the user that runs Hauberk write in its folder: chown ${currentReader() ?? 'USER'} ${folder}`;
    case 'EROFS':
      return 'put it on a volume that is mounted for writing';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'make room on its disk';
    default:
      return undefined;
  }
}
