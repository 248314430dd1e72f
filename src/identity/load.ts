import type { Clock } from '../clock/clock.ts';
import { IdentityError, type IdentityErrorCode } from './errors.ts';
import { type FileKind, readChecked } from './files.ts';
import { type LocalIdentity, localIdentity } from './local.ts';
import { certificatesIn, privateKeyIn } from './pem.ts';
import { TrustBundle } from './trustbundle.ts';

export const SVID_FILE: FileKind = {
  what: 'an SVID (certificates, leaf first)',
  maxBytes: 64 * 1024,
  secret: false,
  guarded: false,
  cure: 'make one with `hauberk issue NAME`',
};

export const KEY_FILE: FileKind = {
  what: 'a private key',
  maxBytes: 16 * 1024,
  secret: true,
  guarded: true,
  cure: 'make an SVID and its key with `hauberk issue NAME`',
};

export const BUNDLE_FILE: FileKind = {
  what: 'a trust bundle (CA certificates)',
  maxBytes: 512 * 1024,
  secret: false,
  guarded: true,
  cure: 'make a trust domain with `hauberk init --trust-domain DOMAIN`, or copy the bundle of an existing one',
};

/** Where an identity lies, as in the section `identity` of the configuration; paths relative to the process. */
export interface IdentityFiles {
  svid: string;
  key: string;
  bundle: string;
  trustDomain: string;
}

export interface LoadedIdentity {
  identity: LocalIdentity;
  bundle: TrustBundle;
}

const REISSUE = 'issue a new one with `hauberk issue NAME`';

/** What to do about an SVID that fails validation, by the reason. */
const SVID_CURES: Partial<Record<IdentityErrorCode, string>> = {
  expired: REISSUE,
  'not-yet-valid': "check this machine's clock",
  'chain-invalid': 'put the leaf first, then each issuer after the certificate that it issued',
  'untrusted-issuer':
    'use the bundle of the CA that issued this SVID, or issue it again from that trust domain',
  'bad-signature': 'use the bundle of the CA that issued this SVID, or issue it again from that trust domain',
  'wrong-trust-domain': 'issue one in this trust domain, or correct trustDomain in the configuration',
  'leaf-is-ca': 'put the SVID of the service there, not the certificate of a CA',
};

/**
 * Loads the SVID, its key and the trust bundle, and holds them against each other as every peer will. Throws
 * IdentityError naming the file at fault and the cure. `generation` counts the bundles of the process.
 */
export async function loadIdentity(
  files: IdentityFiles,
  clock: Clock,
  generation = 1,
): Promise<LoadedIdentity> {
  const bundle = await loadBundle(files, generation);
  return { identity: await loadSvid(files, bundle, clock), bundle };
}

/** Loads the SVID and its key, as they are seen with a bundle. Throws as `loadIdentity`. */
export async function loadSvid(
  files: Pick<IdentityFiles, 'svid' | 'key'>,
  bundle: TrustBundle,
  clock: Clock,
): Promise<LocalIdentity> {
  const svid = await readChecked(files.svid, SVID_FILE);
  const chain = blaming(files.svid, () => certificatesIn(svid));
  const secret = await readChecked(files.key, KEY_FILE);
  try {
    const key = blaming(files.key, () => privateKeyIn(secret));
    const now = clock.now();
    blaming(files.svid, () => bundle.verifyChain(chain, now), SVID_CURES, REISSUE);
    return blaming(files.key, () => localIdentity(chain, key, bundle, now), {
      'key-mismatch': `use the key that was made with ${files.svid}, or ${REISSUE}`,
    });
  } finally {
    secret.fill(0);
  }
}

/** Loads a trust bundle alone. Throws IdentityError naming the file and the cure. */
export async function loadBundle(
  { bundle: path, trustDomain }: Pick<IdentityFiles, 'bundle' | 'trustDomain'>,
  generation = 1,
): Promise<TrustBundle> {
  const pem = await readChecked(path, BUNDLE_FILE);
  return blaming(path, () => TrustBundle.fromPem(pem, trustDomain, generation), {
    'wrong-trust-domain': `use the bundle of ${trustDomain}, or correct trustDomain in the configuration`,
    'not-a-ca': 'leave only CA certificates in it',
  });
}

/** Runs `check`; an IdentityError from it is blamed on `file` and told how to cure. */
function blaming<T>(
  file: string,
  check: () => T,
  cures: Partial<Record<IdentityErrorCode, string>> = {},
  otherwise?: string,
): T {
  try {
    return check();
  } catch (error) {
    throw error instanceof IdentityError ? error.inFile(file, cures[error.code] ?? otherwise) : error;
  }
}
