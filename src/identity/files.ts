import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { link, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { IdentityError } from './errors.ts';

const READABLE_BY_OTHERS = 0o077; // mode bits of group and others
const READABLE_BY_GROUP = 0o040;
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

const currentGroups = (): readonly number[] => [
  ...(process.getgroups?.() ?? []),
  ...(process.getegid === undefined ? [] : [process.getegid()]),
];

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
 * read or write. Root may own anything, since root can do everything anyway, and have a group of ours read a secret.
 */
export function checkStats(
  path: string,
  kind: FileKind,
  stats: Stats,
  reader: Reader,
  groups: readonly number[] = currentGroups(),
): void {
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
  if (kind.secret && stats.mode & READABLE_BY_OTHERS && !isMounted(stats, reader, groups)) {
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
 * A Secret that Kubernetes mounts for a pod with an fsGroup: it is root's, and the only way for another user to read it is a
 * group that is his, and that may do no more.
 */
function isMounted({ uid, gid, mode }: Stats, reader: number, groups: readonly number[]): boolean {
  return (
    uid === 0 && reader !== 0 && (mode & READABLE_BY_OTHERS) === READABLE_BY_GROUP && groups.includes(gid)
  );
}

/**
 * Writes a file that only its owner can read, all or nothing: into a new file beside it, which is synced and then takes
 * its name; the folder is synced last. With `replace` false an existing file stays and IdentityError `already-exists` is
 * thrown.
 */
export async function writeOwnerOnly(
  path: string,
  data: string | Uint8Array,
  replace: boolean,
): Promise<void> {
  if (replace) {
    await replaceOwnerOnly([{ path, data }]);
    return;
  }
  const temporary = temporaryFor(path);
  try {
    await blamingWrite(path, async () => {
      await writeSynced(temporary, data);
      await link(temporary, path); // unlike rename, fails if the name is taken
      await syncFolder(path);
    });
  } finally {
    await rm(temporary, { force: true });
  }
}

/**
 * Writes files that belong together as `writeOwnerOnly` does each of them: all are whole on the disk before the first takes
 * its name, and the next ones follow at once, in order. `before` is called when all is ready and may refuse by a throw.
 */
export async function replaceOwnerOnly(
  files: ReadonlyArray<{ readonly path: string; readonly data: string | Uint8Array }>,
  before: () => Promise<void> = async () => undefined,
): Promise<void> {
  const ready = files.map(({ path, data }) => ({ path, data, temporary: temporaryFor(path) }));
  try {
    for (const { path, data, temporary } of ready) {
      await blamingWrite(path, () => writeSynced(temporary, data));
    }
    await before();
    for (const { path, temporary } of ready) await blamingWrite(path, () => rename(temporary, path));
    for (const { path } of ready) await blamingWrite(path, () => syncFolder(path));
  } finally {
    for (const { temporary } of ready) await rm(temporary, { force: true });
  }
}

const temporaryFor = (path: string): string =>
  join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);

/**
 * Removes what writers of a file that were killed have left beside it. Only for a file that nobody else writes. Never rejects.
 */
export async function removeUnfinished(path: string): Promise<void> {
  const folder = dirname(path);
  const start = `.${basename(path)}.`;
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith(start) || !name.endsWith('.tmp')) continue;
    await rm(join(folder, name), { force: true }).catch(() => undefined);
  }
}

async function writeSynced(path: string, data: string | Uint8Array): Promise<void> {
  const handle = await open(path, 'wx', OWNER_ONLY);
  try {
    await handle.writeFile(data);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function blamingWrite(path: string, write: () => Promise<void>): Promise<void> {
  try {
    await write();
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
