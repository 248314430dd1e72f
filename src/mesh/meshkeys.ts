/** The identity of a mesh: which files it is in, and what they say of whom. */
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseCertificate } from '../identity/certificate.ts';
import { spiffeIdOf } from '../identity/chain.ts';
import { IdentityError } from '../identity/errors.ts';
import { readChecked } from '../identity/files.ts';
import { SVID_FILE } from '../identity/load.ts';
import { certificatesIn } from '../identity/pem.ts';
import type { SpiffeId } from '../identity/spiffeid.ts';
import { MeshError } from './errors.ts';
import type { KeyFiles } from './options.ts';

/** The folder that `hauberk init` makes if it is told no other. */
const DEFAULT_FOLDER = 'keys';
const BUNDLE = 'bundle.pem';
const NAMES_SHOWN = 8;

export interface MeshKeys {
  /** Absolute paths. */
  readonly files: KeyFiles;
  /** Whom the SVID says that it is of; it has not been verified yet. */
  readonly spiffeId: SpiffeId;
}

/** The keys of a service. Throws MeshError `bad-keys`, which says what is missing and how to make it. */
export async function meshKeys(
  serviceId: string,
  keys: string | KeyFiles = DEFAULT_FOLDER,
): Promise<MeshKeys> {
  const files = typeof keys === 'string' ? await filesIn(resolve(keys), serviceId) : absolute(keys);
  try {
    const [leaf] = certificatesIn(await readChecked(files.svid, SVID_FILE));
    return { files, spiffeId: spiffeIdOf(parseCertificate(leaf as Uint8Array)) };
  } catch (error) {
    throw badKeys(error instanceof IdentityError ? error.inFile(files.svid) : error);
  }
}

/** An identity that could not be used, as the error of a mesh. */
export function badKeys(cause: unknown): MeshError {
  return new MeshError('bad-keys', cause instanceof Error ? cause.message : String(cause), { cause });
}

function absolute({ svid, key, bundle }: KeyFiles): KeyFiles {
  return { svid: resolve(svid), key: resolve(key), bundle: resolve(bundle) };
}

async function filesIn(folder: string, serviceId: string): Promise<KeyFiles> {
  const [name = '', namespace = 'default'] = serviceId.split('.');
  const base = namespace === 'default' ? name : `${namespace}.${name}`;
  const issue = `hauberk issue ${namespace === 'default' ? name : `${namespace}/${name}`}${inFolder(folder)}`;
  let present: string[];
  try {
    present = await readdir(folder);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const what = code === 'ENOENT' ? 'there is no such folder' : `it cannot be read (${code})`;
    const cure = `make a trust domain with \`hauberk init --trust-domain shop.example${inFolder(folder)}\` and an identity with \`${issue}\`, or say in options.keys where they are`;
    throw new MeshError('bad-keys', `the keys of ${serviceId}, in ${folder}: ${what}; ${cure}`, { cause });
  }
  if (!present.includes(`${base}.pem`)) {
    const names = present
      .filter((file) => file.endsWith('.pem') && file !== BUNDLE)
      .map((file) => file.slice(0, -'.pem'.length));
    const others = names.slice(0, NAMES_SHOWN).join(', ');
    const found = names.length === 0 ? 'it has none' : `it has those of ${others}`;
    throw new MeshError(
      'bad-keys',
      `there is no ${base}.pem in ${folder}, which is where the identity of ${serviceId} should be (${found}); make one with \`${issue}\`, or correct options.serviceId or options.keys`,
    );
  }
  return {
    svid: join(folder, `${base}.pem`),
    key: join(folder, `${base}.key`),
    bundle: join(folder, BUNDLE),
  };
}

const inFolder = (folder: string): string => (folder === resolve(DEFAULT_FOLDER) ? '' : ` --dir ${folder}`);
