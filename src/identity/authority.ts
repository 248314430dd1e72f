import { createPublicKey, type KeyObject } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '../clock/clock.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { BACK_DATED_MS, CertificateAuthority, type LeafKey } from './certificateauthority.ts';
import { spiffeIdOf } from './chain.ts';
import { IdentityError } from './errors.ts';
import { currentReader, readChecked, writeOwnerOnly } from './files.ts';
import { lockFor } from './issuelock.ts';
import { BUNDLE_FILE, type IdentityFiles, KEY_FILE, loadIdentity, SVID_FILE } from './load.ts';
import { certificatesIn, privateKeyIn, toPem } from './pem.ts';
import { fileNameFor, parseTrustDomain, spiffeIdForName } from './spiffeid.ts';
import { keyPem, writeSvid } from './svidfiles.ts';

/*
 * `hauberk init` and `hauberk issue`: a trust domain in a folder. All of it is made with owner-only permissions,
 * each file all or nothing. No private key is ever printed or returned.
 */

const CA_KEY = 'ca.key';
const BUNDLE = 'bundle.pem';
/** What may lie in a folder that `init` makes its own; as in a checkout of this repository. */
const HARMLESS = new Set(['README.md', '.gitignore']);

export interface InitOptions {
  /** Made, with mode 0700, if it does not exist. */
  dir: string;
  trustDomain: string;
  /** Lifetime of the CA certificate; 5 years by default. */
  ttlMs?: number;
  /** How many CAs may stand between this one and an SVID; none by default. */
  pathLength?: number;
  clock?: Clock;
}

export interface TrustDomainFiles {
  trustDomain: string;
  /** Path of the CA certificate, which peers need. */
  bundle: string;
  /** Path of the CA's private key, which `issueSvid` needs and nobody else. */
  caKey: string;
  /** End of the CA certificate; milliseconds since the epoch. */
  notAfter: number;
}

/**
 * Makes a trust domain: `ca.key`, `bundle.pem`, and a `.gitignore` that keeps them out of repositories. Throws
 * IdentityError `already-exists`, and changes nothing, if there is one in that folder.
 */
export async function initTrustDomain(options: InitOptions): Promise<TrustDomainFiles> {
  const { dir, ttlMs, pathLength, clock = systemClock } = options;
  const trustDomain = parseTrustDomain(options.trustDomain);
  const files = { bundle: join(dir, BUNDLE), caKey: join(dir, CA_KEY) };
  await prepareFolder(dir);
  for (const path of [files.caKey, files.bundle]) {
    if (await exists(path)) throw alreadyInitialised(path);
  }
  const { authority, key } = await CertificateAuthority.create({
    trustDomain,
    nowMs: clock.now(),
    ttlMs,
    pathLength,
  });
  await writeNew(files.caKey, keyPem(key));
  try {
    await writeNew(files.bundle, toPem('CERTIFICATE', authority.certificate.der));
  } catch (error) {
    await rm(files.caKey, { force: true });
    throw error;
  }
  const ignore = join(dir, '.gitignore');
  if (!(await exists(ignore))) await writeOwnerOnly(ignore, '*\n', true);
  return { trustDomain, ...files, notAfter: authority.certificate.notAfter };
}

export interface IssueOptions {
  /** The folder of `initTrustDomain`. */
  dir: string;
  /** `NAME`, `NAMESPACE/NAME` or a full SPIFFE ID. */
  name: string;
  /** If given, must be that of the CA in the folder. */
  trustDomain?: string;
  /** Lifetime of the SVID; 24 hours by default. The CA's end comes first. */
  ttlMs?: number;
  /** Kind of the new key; P-256 by default. */
  leafKey?: LeafKey;
  clock?: Clock;
}

export interface SvidFiles {
  spiffeId: string;
  /** Paths for the section `identity` of a configuration. */
  svid: string;
  key: string;
  bundle: string;
  /** End of the SVID; milliseconds since the epoch. */
  notAfter: number;
}

/**
 * Issues an SVID with a new key into `NAME.pem` and `NAME.key`. Files of the same SPIFFE ID are replaced, which
 * renews it; those of another are not touched. Throws IdentityError naming file and cure.
 */
export async function issueSvid(options: IssueOptions): Promise<SvidFiles> {
  const { dir, name, ttlMs, leafKey, clock = systemClock } = options;
  const nowMs = clock.now();
  const authority = await openAuthority(dir, nowMs);
  if (options.trustDomain !== undefined && parseTrustDomain(options.trustDomain) !== authority.trustDomain) {
    throw new IdentityError('wrong-trust-domain', `the CA is of trust domain ${authority.trustDomain}`, {
      file: join(dir, BUNDLE),
      cure: `use that trust domain, or the folder of ${options.trustDomain}`,
    });
  }
  const spiffeId = spiffeIdForName(name, authority.trustDomain);
  const base = join(dir, fileNameFor(spiffeId));
  const files = { svid: `${base}.pem`, key: `${base}.key`, bundle: join(dir, BUNDLE) };
  const lock = await lockFor(files.svid);
  try {
    await checkReplaceable(files, spiffeId.id);
    const issued = await authority.issue({ spiffeId, nowMs, ttlMs, leafKey });
    await writeSvid(files, issued, lock);
    return { spiffeId: issued.spiffeId, ...files, notAfter: issued.notAfter };
  } finally {
    await lock.release();
  }
}

export interface RenewOptions {
  /** The CA's key lies beside the bundle. */
  files: IdentityFiles;
  /** The leaf that is in use, DER: what is renewed. Without it what lies in the file, if it is not good as it is. */
  current?: Uint8Array | undefined;
  clock: Clock;
}

/**
 * Renews an SVID in its files, with a new key: for the same SPIFFE ID, lifetime and kind of key. Resolves with its end
 * (milliseconds since the epoch), or with undefined if somebody else has renewed it meanwhile. Throws IdentityError,
 * `ca-ending` if the CA ends with the SVID that is there.
 */
export async function renewSvid({ files, current, clock }: RenewOptions): Promise<number | undefined> {
  const lock = await lockFor(files.svid);
  try {
    const nowMs = clock.now();
    const [inFile] = certificatesIn(await readChecked(files.svid, SVID_FILE));
    const leaf = parseCertificate(current ?? (inFile as Buffer));
    const isOther = current === undefined || !leaf.der.equals(inFile as Buffer);
    if (isOther && (await isGood(files, clock))) return undefined;
    const authority = await openAuthority(dirname(files.bundle), nowMs, files.bundle);
    const { notAfter: end } = authority.certificate;
    if (end <= Math.max(leaf.notAfter, nowMs)) {
      throw new IdentityError(
        'ca-ending',
        `the CA ends at ${new Date(end).toISOString()}, as this SVID does`,
        {
          file: files.bundle,
          cure: 'make a new CA in another folder with `hauberk init`, and hand out both bundles before the old one ends',
        },
      );
    }
    const issued = await authority.issue({
      spiffeId: spiffeIdOf(leaf),
      nowMs,
      ttlMs: lifetimeOf(leaf),
      leafKey: leaf.keyType as LeafKey,
    });
    await writeSvid(files, issued, lock);
    return issued.notAfter;
  } finally {
    await lock.release();
  }
}

const isGood = (files: IdentityFiles, clock: Clock): Promise<boolean> =>
  loadIdentity(files, clock).then(
    () => true,
    () => false,
  );

/** What `hauberk issue --ttl` said. */
function lifetimeOf({ notBefore, notAfter }: Certificate): number {
  const whole = Math.round((notAfter - notBefore) / 1000) * 1000;
  return whole > BACK_DATED_MS ? whole - BACK_DATED_MS : whole;
}

/** The CA in a folder: its key, and the certificate in the bundle that the key belongs to. */
async function openAuthority(
  dir: string,
  nowMs: number,
  bundlePath = join(dir, BUNDLE),
): Promise<CertificateAuthority> {
  const keyPath = join(dir, CA_KEY);
  const cure = `make a trust domain there with \`hauberk init --trust-domain DOMAIN\``;
  const secret = await readChecked(keyPath, { ...KEY_FILE, cure });
  try {
    const key = inFile(keyPath, () => privateKeyIn(secret));
    const pem = await readChecked(bundlePath, { ...BUNDLE_FILE, cure });
    const certificate = inFile(bundlePath, () => certificateOf(key, certificatesIn(pem)));
    if (nowMs > certificate.notAfter) {
      const end = new Date(certificate.notAfter).toISOString();
      throw new IdentityError('expired', `the CA certificate expired at ${end}`, {
        file: bundlePath,
        cure: 'make a new trust domain with `hauberk init` in another folder, and hand out its bundle',
      });
    }
    return await CertificateAuthority.from(certificate, key);
  } finally {
    secret.fill(0);
  }
}

function certificateOf(key: KeyObject, bundle: readonly Buffer[]): Certificate {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const found = bundle
    .map((der) => parseCertificate(der))
    .find((certificate) => certificate.spki.equals(spki));
  if (found !== undefined) return found;
  throw new IdentityError('key-mismatch', `no certificate in it is that of ${CA_KEY}`, {
    cure: `put back the CA certificate that was made with ${CA_KEY}`,
  });
}

function inFile<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof IdentityError ? error.inFile(file) : error;
  }
}

/**
 * Makes the folder for its owner alone. One that is there is closed to others if it holds nothing yet, and is
 * otherwise left as it is, unless others could change what is in it.
 */
async function prepareFolder(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    if ((await readdir(dir)).every((entry) => HARMLESS.has(entry))) await chmod(dir, 0o700);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new IdentityError('write-failed', `cannot be made a folder for keys: ${code ?? message}`, {
      file: dir,
      cure: 'choose a folder that this user may write to',
      cause,
    });
  }
  const { mode } = await stat(dir);
  if (currentReader() !== undefined && mode & 0o022) {
    throw new IdentityError('writable-by-others', 'others than its owner can change what is in this folder', {
      file: dir,
      cure: `chmod 700 ${dir}`,
    });
  }
}

/** Refuses to write over files that are not the earlier ones of the same SPIFFE ID. */
async function checkReplaceable({ svid, key }: Pick<SvidFiles, 'svid' | 'key'>, id: string): Promise<void> {
  if (!(await exists(svid))) {
    if (await exists(key)) throw taken(key, 'a key without its certificate lies there');
    return;
  }
  let owner: string;
  try {
    const [leaf] = certificatesIn(await readChecked(svid, SVID_FILE));
    owner = spiffeIdOf(parseCertificate(leaf as Buffer)).id;
  } catch (cause) {
    throw taken(svid, 'what lies there is not an SVID', cause);
  }
  if (owner !== id) throw taken(svid, `the SVID of ${owner} lies there`);
}

const taken = (file: string, what: string, cause?: unknown): IdentityError =>
  new IdentityError('already-exists', what, { file, cure: 'move it away, or choose another name', cause });

const alreadyInitialised = (file: string, cause?: unknown): IdentityError =>
  new IdentityError('already-exists', 'there is a trust domain in this folder already', {
    file,
    cure: 'issue SVIDs from it with `hauberk issue NAME`, or choose another folder',
    cause,
  });

async function writeNew(path: string, data: string): Promise<void> {
  try {
    await writeOwnerOnly(path, data, false);
  } catch (error) {
    if (error instanceof IdentityError && error.code === 'already-exists')
      throw alreadyInitialised(path, error);
    throw error;
  }
}

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );
