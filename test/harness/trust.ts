import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import { initTrustDomain, issueSvid, type SvidFiles } from '../../src/identity/authority.ts';
import { CertificateAuthority, type LeafKey } from '../../src/identity/certificateauthority.ts';
import { type LocalIdentity, localIdentity } from '../../src/identity/local.ts';
import { spiffeIdForName } from '../../src/identity/spiffeid.ts';
import type { TrustBundle } from '../../src/identity/trustbundle.ts';

export interface TrustOptions {
  /** `shop.example` by default. */
  trustDomain?: string;
  /** Certificates are valid around this clock's time. */
  clock?: Clock;
}

export interface IdentityOptions {
  ttlMs?: number;
  leafKey?: LeafKey;
}

/** A trust domain in memory. Two of the same name are strangers to one another: each has its own CA. */
export interface Trust {
  readonly trustDomain: string;
  readonly bundle: TrustBundle;
  /** The CA's certificate, DER. */
  readonly ca: Buffer;
  /** A new identity with a new key: `web`, `shop/web` or a full SPIFFE ID. */
  identity(name: string, options?: IdentityOptions): Promise<LocalIdentity>;
}

export async function makeTrust(options: TrustOptions = {}): Promise<Trust> {
  const { trustDomain = 'shop.example', clock = systemClock } = options;
  const { authority } = await CertificateAuthority.create({ trustDomain, nowMs: clock.now() });
  const bundle = authority.bundle();
  return {
    trustDomain,
    bundle,
    ca: authority.certificate.der,
    identity: async (name, { ttlMs, leafKey } = {}) => {
      const spiffeId = spiffeIdForName(name, trustDomain);
      const nowMs = clock.now();
      const { chain, key } = await authority.issue({ spiffeId, nowMs, ttlMs, leafKey });
      return localIdentity(chain, key, bundle, nowMs);
    },
  };
}

/** A trust domain in a folder, as `hauberk init` makes it. */
export interface TrustFolder {
  readonly trustDomain: string;
  readonly dir: string;
  /** Path of bundle.pem. */
  readonly bundle: string;
  /** Issues an SVID into files; the paths are those of a configuration's section `identity`. */
  issue(name: string, options?: IdentityOptions): Promise<SvidFiles>;
  /** Removes the folder, if it was made here. */
  remove(): Promise<void>;
}

/** Without `dir` the folder is a new one among the temporary files. */
export async function makeTrustFolder(options: TrustOptions & { dir?: string } = {}): Promise<TrustFolder> {
  const { trustDomain = 'shop.example', clock = systemClock } = options;
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'hauberk-trust-')));
  const { bundle } = await initTrustDomain({ dir, trustDomain, clock });
  return {
    trustDomain,
    dir,
    bundle,
    issue: (name, more = {}) => issueSvid({ dir, name, clock, ...more }),
    remove: () => (options.dir === undefined ? rm(dir, { recursive: true }) : Promise.resolve()),
  };
}
