import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { currentReader, type Reader } from '../identity/files.ts';
import { ListenError } from '../relay/listener.ts';

const OTHERS_WRITE = 0o022;
const STICKY = 0o1000;
const MAX_LINKS = 40;

/**
 * Whoever may write in the folder of the admin socket could put a socket of his own there, and be told what operators ask;
 * whoever may write in one above could do that with the whole folder. So every folder and symbolic link on the way belongs to
 * this user or root, and others write in none of them, unless it is sticky: there they cannot replace what is not theirs.
 * Throws ListenError, which names the folder and the cure.
 */
export function checkFolders(socket: string, user: Reader = currentReader()): void {
  const folder = dirname(resolve(socket));
  let at = '/';
  let links = 0;
  checkFolder(at, lookAt(at, folder), folder, user);
  const names = namesOf(folder);
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    const next = join(at, name);
    const stats = lookAt(next, folder);
    if (!stats.isSymbolicLink()) {
      checkFolder(next, stats, folder, user);
      at = next;
      continue;
    }
    checkOwner(`the symbolic link ${next}`, stats, user);
    if (++links > MAX_LINKS) {
      throw new ListenError(`admin.listen: ${folder} leads through more than ${MAX_LINKS} symbolic links`);
    }
    const target = readlinkSync(next);
    if (target.startsWith('/')) at = '/';
    names.unshift(...namesOf(target));
  }
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '');
}

function checkFolder(path: string, stats: Stats, folder: string, user: Reader): void {
  if (!stats.isDirectory()) throw new ListenError(`admin.listen: ${path} is not a folder`);
  checkOwner(`the folder ${path}`, stats, user);
  if (user === undefined || (stats.mode & OTHERS_WRITE) === 0 || (stats.mode & STICKY) !== 0) return;
  const where = path === folder ? path : `${path}, which is above ${folder},`;
  throw new ListenError(
    `admin.listen: others than the owner may write in ${where} and could replace the socket; chmod go-w ${path}`,
  );
}

function checkOwner(what: string, { uid }: Stats, user: Reader): void {
  if (user === undefined || uid === user || uid === 0) return;
  throw new ListenError(
    `admin.listen: ${what} belongs to user ${uid}, who could replace the socket; choose a folder of root's or of user ${user}`,
  );
}

function lookAt(path: string, folder: string): Stats {
  try {
    return lstatSync(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const cure = code === 'ENOENT' ? `mkdir -p -m 700 ${folder}` : 'choose another';
    throw new ListenError(
      `admin.listen: the folder of the admin socket, ${path}, cannot be looked at (${code}): ${cure}`,
      { cause },
    );
  }
}
