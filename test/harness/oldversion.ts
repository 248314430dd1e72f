import { execFile } from 'node:child_process';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { atEnd } from './sidecars.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** The version before this one; test/fixtures/packed/README.md says where it is from. */
export const OLD_VERSION = '0.1.0';

/** Unpacks the version before this one, beside this checkout's dependencies; the path of its `hauberk`. */
export async function oldHauberk(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-old-'));
  atEnd(() => rm(folder, { recursive: true }));
  const tarball = join(ROOT, `test/fixtures/packed/hauberk-${OLD_VERSION}.tgz`);
  await promisify(execFile)('tar', ['-xzf', tarball, '-C', folder]);
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  return join(folder, 'package/dist/cli/main.js');
}
