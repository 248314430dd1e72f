import { constants } from 'node:fs';
import { access, lstat } from 'node:fs/promises';
import { dirname, join, parse } from 'node:path';
import type { Clock } from '../clock/clock.ts';
import { IdentityError, type IdentityErrorCode } from './errors.ts';
import type { Issuer } from './issuer.ts';
import { IdentityKeeper, type IdentityKeeperOptions } from './keeper.ts';
import type { IdentityFiles } from './load.ts';
import type { LocalIdentity } from './local.ts';

const CURED_BY_RENEWAL: readonly IdentityErrorCode[] = ['expired', 'key-mismatch'];

/**
 * The CA key that lies beside the bundle in the folder that `hauberk init` makes: a development setup, where nobody else
 * renews. Of replicas that share the files the first to come does it, and the others find it done.
 */
export class FolderIssuer implements Issuer {
  readonly files: IdentityFiles;
  readonly #clock: Clock;

  constructor(files: IdentityFiles, clock: Clock) {
    this.files = files;
    this.#clock = clock;
  }

  able(): Promise<boolean> {
    return canRenew(this.files);
  }

  async issue(current: LocalIdentity | undefined): Promise<number | undefined> {
    const { renewSvid } = await import('./authority.ts');
    return await renewSvid({ files: this.files, current: current?.chain[0], clock: this.#clock });
  }
}

/** Whether the CA's key lies beside the bundle for this user, and the SVID is a file of its own that may be replaced. */
async function canRenew({ svid, key, bundle }: IdentityFiles): Promise<boolean> {
  try {
    await access(join(dirname(bundle), 'ca.key'), constants.R_OK);
    await access(dirname(svid), constants.W_OK);
    return (await Promise.all([svid, key].map((path) => lstat(path)))).every((stats) => stats.isFile());
  } catch {
    return false;
  }
}

/** A pair as `hauberk issue` names it. A key of another name that does not fit may be another service's: it is left alone. */
const isPair = ({ svid, key }: IdentityFiles): boolean =>
  dirname(svid) === dirname(key) && parse(svid).name === parse(key).name;

/**
 * Opens an identity that is renewed here. One that has expired, or whose key does not fit, is renewed first: a program that
 * was not run for a while starts. Rejects with IdentityError.
 */
export async function openRenewing(options: IdentityKeeperOptions): Promise<IdentityKeeper> {
  try {
    return await IdentityKeeper.open(options);
  } catch (error) {
    const { files, clock } = options;
    const curable = error instanceof IdentityError && CURED_BY_RENEWAL.includes(error.code);
    if (!curable || error.file === files.bundle) throw error;
    if (error.code === 'key-mismatch' && !isPair(files)) throw error;
    if (!(await canRenew(files))) throw error;
    await new FolderIssuer(files, clock).issue(undefined);
    return await IdentityKeeper.open(options);
  }
}
