import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemClock as clock } from '../clock/clock.ts'; // files have the system's times
import { IdentityError } from './errors.ts';

/** Whoever holds a lock for longer has died; issuing takes some tens of milliseconds. */
const STALE_MS = 10_000;
const WAIT_MS = 15_000;
const RETRY_MS = 25;

/** The right to replace an SVID and its key. */
export interface IssueLock {
  /** False once somebody has taken it for dead: nothing may be written any more. */
  holds(): Promise<boolean>;
  release(): Promise<void>;
}

/**
 * Waits for the right to write an SVID and its key: two files, so that of two who replace them at the same time one would
 * leave its key and the other its certificate. It is a file beside them, which says who has it; readers need no lock, for
 * they refuse what does not fit. Rejects with IdentityError `write-failed`.
 */
export async function lockFor(svid: string): Promise<IssueLock> {
  const path = join(dirname(svid), `.${basename(svid)}.lock`);
  const token = randomBytes(16).toString('hex');
  const until = clock.monotonic() + WAIT_MS;
  const release = clock.hold();
  try {
    while (!(await claim(path, token))) {
      if (clock.monotonic() > until) {
        throw new IdentityError('write-failed', 'others are replacing this SVID all the time', {
          file: svid,
          cure: `if nobody is, remove ${path}`,
        });
      }
      await new Promise<void>((resolve) => void clock.after(RETRY_MS * (0.5 + Math.random()), resolve));
    }
  } finally {
    release();
  }
  const holds = async (): Promise<boolean> => (await readFile(path, 'utf8').catch(() => '')) === token;
  return {
    holds,
    release: async () => {
      if (await holds()) await rm(path, { force: true });
    },
  };
}

/** Takes the lock if it is free, or its holder has died. */
async function claim(path: string, token: string): Promise<boolean> {
  try {
    const handle = await open(path, 'wx', 0o600);
    try {
      await handle.writeFile(token);
    } finally {
      await handle.close();
    }
    return true;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== 'EEXIST') {
      throw new IdentityError('write-failed', `cannot be written: ${code ?? message}`, {
        file: path,
        cure: `let the user that runs Hauberk write in ${dirname(path)}`,
        cause,
      });
    }
  }
  await removeStale(path);
  return false;
}

/** By a name of its own, so that of several who do it one succeeds; what proves to be alive comes back. */
async function removeStale(path: string): Promise<void> {
  if (!(await isStale(path))) return;
  const aside = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await rename(path, aside);
  } catch {
    return; // somebody else has
  }
  if (await isStale(aside)) await rm(aside, { force: true });
  else await rename(aside, path);
}

const isStale = (path: string): Promise<boolean> =>
  stat(path).then(
    ({ mtimeMs }) => Math.abs(clock.now() - mtimeMs) > STALE_MS,
    () => false,
  );
