import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { checkFolders } from '../../src/admin/socketfolder.ts';

const made: string[] = [];
afterEach(() => {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true });
});

/** A folder `a/b/c` of this user's, among the temporary files. */
function tree(): { a: string; b: string; c: string; socket: string } {
  const root = mkdtempSync(join(tmpdir(), 'hauberk-admin-'));
  made.push(root);
  const [a, b, c] = ['a', 'a/b', 'a/b/c'].map((path) => join(root, path)) as [string, string, string];
  mkdirSync(c, { recursive: true, mode: 0o755 });
  for (const folder of [a, b, c]) chmodSync(folder, 0o755);
  return { a, b, c, socket: join(c, 'admin.sock') };
}

/** What is wrong with the way to a socket. */
function objection(socket: string, user?: number): string | undefined {
  try {
    checkFolders(socket, user);
  } catch (error) {
    expect(error).toMatchObject({ code: 'listen-failed' });
    return (error as Error).message;
  }
  return undefined;
}

const OWN = process.geteuid?.() as number;
const STRANGER = OWN + 12_345;

/** Gives something to another user, or where that is not possible says as whom to look so that it is another's. */
function givenAway(give: (uid: number) => void): number {
  if (OWN !== 0) return STRANGER;
  give(STRANGER);
  return OWN;
}

describe('the way to an admin socket', () => {
  it('is good if nobody else may write on it, though all may in the sticky folder of temporary files', () => {
    expect(objection(tree().socket)).toBeUndefined();
  });

  it.each([
    ['c', '775'],
    ['c', '757'],
    ['b', '775'],
    ['a', '757'],
    ['a', '777'],
  ] as const)(
    'is refused with folder %s in mode %s: the message says which, and what to do',
    (name, octal) => {
      const mode = Number.parseInt(octal, 8);
      const folders = tree();
      const folder = folders[name];
      chmodSync(folder, mode);
      const message = objection(folders.socket);
      expect(message).toContain(
        name === 'c' ? `may write in ${folder} and` : `${folder}, which is above ${folders.c},`,
      );
      expect(message).toMatch(new RegExp(`; chmod go-w ${folder}$`));
      chmodSync(folder, mode & ~0o022);
      expect(objection(folders.socket)).toBeUndefined();
    },
  );

  it('may lead through folders that are sticky, in which nobody can rename what is another’s', () => {
    const { a, c, socket } = tree();
    for (const folder of [a, c]) chmodSync(folder, 0o1777);
    expect(objection(socket)).toBeUndefined();
  });

  it.each(['a', 'c'] as const)('is refused with a folder %s of another user', (name) => {
    const folders = tree();
    const user = givenAway((uid) => chownSync(folders[name], uid, uid));
    const message = objection(folders.socket, user);
    expect(message).toMatch(
      /belongs to user \d+, who could replace the socket; choose a folder of root's or of user/,
    );
    if (OWN === 0) expect(message).toContain(`the folder ${folders[name]} belongs to user ${STRANGER}`);
  });

  it('is looked at where symbolic links lead, and where they lie', () => {
    const { a, b, c } = tree();
    const other = tree();
    symlinkSync(join('..', 'b', 'c'), join(b, 'relative'));
    expect(objection(join(b, 'relative', 'admin.sock'))).toBeUndefined();
    symlinkSync(other.c, join(a, 'away'));
    const socket = join(a, 'away', 'admin.sock');
    expect(objection(socket)).toBeUndefined();
    chmodSync(other.b, 0o777);
    expect(objection(socket)).toContain(`chmod go-w ${other.b}`);
    chmodSync(other.b, 0o755);
    chmodSync(a, 0o777);
    expect(objection(socket)).toContain(`chmod go-w ${a}`);
    expect(objection(join(c, 'admin.sock'))).toContain(`chmod go-w ${a}`);
  });

  it('is refused through another’s symbolic link, who could point it elsewhere', () => {
    const { a, b, c } = tree();
    const link = join(a, 'link');
    symlinkSync(b, link);
    const user = givenAway((uid) => lchownSync(link, uid, uid));
    const message = objection(join(link, 'c', 'admin.sock'), user);
    if (OWN === 0) expect(message).toContain(`the symbolic link ${link} belongs to user ${STRANGER}`);
    expect(message).toContain('who could replace the socket');
    expect(objection(join(c, 'admin.sock'))).toBeUndefined();
  });

  it('that is not there, is no folder or goes round in circles, is told', () => {
    const { a, c, socket } = tree();
    expect(objection(join(c, 'd', 'e', 'admin.sock'))).toContain(`mkdir -p -m 700 ${join(c, 'd', 'e')}`);
    symlinkSync('round', join(a, 'round'));
    expect(objection(join(a, 'round', 'admin.sock'))).toContain('symbolic links');
    writeFileSync(join(c, 'file'), '');
    expect(objection(join(c, 'file', 'admin.sock'))).toMatch(/is not a folder$/);
    expect(objection(socket)).toBeUndefined();
  });
});
