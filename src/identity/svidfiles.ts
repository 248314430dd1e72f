import type { KeyObject } from 'node:crypto';
import { IdentityError } from './errors.ts';
import { replaceOwnerOnly } from './files.ts';
import type { IssueLock } from './issuelock.ts';
import type { IdentityFiles } from './load.ts';
import { toPem } from './pem.ts';

/**
 * What an SVID consists of: certificates in DER, leaf first, and their key; and with whom to trust by then, if that is to
 * change.
 */
export interface SvidContents {
  readonly chain: readonly Uint8Array[];
  readonly key: KeyObject;
  readonly bundle?: readonly Uint8Array[];
}

/**
 * Puts an SVID into its files, which take their names one right after the other, the bundle first; a reader that comes in
 * between refuses what it finds. Whoever calls has the lock. Rejects with IdentityError `write-failed`.
 */
export async function writeSvid(
  files: Pick<IdentityFiles, 'svid' | 'key' | 'bundle'>,
  { chain, key, bundle }: SvidContents,
  lock: IssueLock,
): Promise<void> {
  await replaceOwnerOnly(
    [
      ...(bundle === undefined ? [] : [{ path: files.bundle, data: pemOf(bundle) }]),
      { path: files.key, data: keyPem(key) },
      { path: files.svid, data: pemOf(chain) },
    ],
    () => checkHeld(lock, files.svid),
  );
}

/** Puts a trust bundle into its file. Whoever calls has the lock of the SVID. Rejects with IdentityError `write-failed`. */
export async function writeBundle(
  files: Pick<IdentityFiles, 'svid' | 'bundle'>,
  bundle: readonly Uint8Array[],
  lock: IssueLock,
): Promise<void> {
  await replaceOwnerOnly([{ path: files.bundle, data: pemOf(bundle) }], () => checkHeld(lock, files.svid));
}

async function checkHeld(lock: IssueLock, file: string): Promise<void> {
  if (await lock.holds()) return;
  throw new IdentityError('write-failed', 'somebody else has replaced it meanwhile', { file });
}

const pemOf = (certificates: readonly Uint8Array[]): string =>
  certificates.map((der) => toPem('CERTIFICATE', der)).join('');

/** PKCS #8. */
export const keyPem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }) as string;
