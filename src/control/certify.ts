import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { Clock } from '../clock/clock.ts';
import type { LeafKey } from '../identity/certificateauthority.ts';
import { IdentityError, type IdentityErrorCode } from '../identity/errors.ts';
import { lockFor } from '../identity/issuelock.ts';
import type { Issuer } from '../identity/issuer.ts';
import type { IdentityFiles } from '../identity/load.ts';
import { type LocalIdentity, localIdentity } from '../identity/local.ts';
import { certificationRequest } from '../identity/signingrequest.ts';
import { writeBundle, writeSvid } from '../identity/svidfiles.ts';
import { TrustBundle } from '../identity/trustbundle.ts';
import type { ControlChannel, ControlMethod } from './channel.ts';
import { loadIdentityDefinition } from './definition.ts';
import { ControlError, type ControlErrorCode } from './errors.ts';
import type { CertifyRequest, CertifyResponse, GetBundleResponse } from './messages.ts';
import { readToken } from './token.ts';

export interface ControllerIssuerOptions {
  /** Where the SVID, its key and the trust bundle are put. */
  readonly files: IdentityFiles;
  readonly channel: ControlChannel;
  /** File of the service account token. */
  readonly token: string;
  readonly clock: Clock;
  /** Kind of each new key; P-256 by default. */
  readonly leafKey?: LeafKey;
}

const DEADLINE_MS = 15_000;
const ANSWER = "the controller's answer";
const STAYS = 'the identity that is in use stays; look at the log of the controller';

/**
 * The controller as the issuer of this program's SVID. Each has a new key, which never leaves here. What comes back is
 * verified as every peer will verify it, before it replaces anything; the bundle with it is believed because the channel has
 * proved who sent it.
 */
export class ControllerIssuer implements Issuer {
  readonly #options: ControllerIssuerOptions;

  constructor(options: ControllerIssuerOptions) {
    this.#options = options;
  }

  get files(): IdentityFiles {
    return this.#options.files;
  }

  async able(): Promise<boolean> {
    return true;
  }

  async issue(current: LocalIdentity | undefined): Promise<number> {
    const { files, clock, channel, token, leafKey = 'p256' } = this.#options;
    const key = newKey(leafKey);
    const answer = await asking(async () => {
      const { Certify } = await loadIdentityDefinition();
      const request: CertifyRequest = {
        csr: certificationRequest(key),
        proof: 'serviceAccountToken',
        serviceAccountToken: await readToken(token),
      };
      return await channel.call<CertifyResponse>(Certify as ControlMethod, request, DEADLINE_MS);
    });
    const { identity, bundle } = believed(() => {
      const bundle = bundleOf(answer.bundle, files.trustDomain);
      const identity = localIdentity(answer.chain, key, bundle, clock.now());
      checkId(identity, answer.spiffeId, current?.spiffeId);
      return { identity, bundle };
    });
    const lock = await lockFor(files.svid);
    try {
      await writeSvid(files, { chain: identity.chain, key, bundle: bundle.certificates }, lock);
    } finally {
      await lock.release();
    }
    return identity.notAfter;
  }

  /**
   * Asks whom to trust, and puts it into the file if it is not what `current` says. Resolves with whether it did. Rejects
   * with IdentityError.
   */
  async refreshBundle(current: TrustBundle): Promise<boolean> {
    const { files, channel } = this.#options;
    const answer = await asking(async () => {
      const { GetBundle } = await loadIdentityDefinition();
      return await channel.call<GetBundleResponse>(GetBundle as ControlMethod, {}, DEADLINE_MS);
    });
    const bundle = believed(() => bundleOf(answer.bundle, files.trustDomain));
    if (bundle.trustsAs(current)) return false;
    const lock = await lockFor(files.svid);
    try {
      await writeBundle(files, bundle.certificates, lock);
    } finally {
      await lock.release();
    }
    return true;
  }
}

function newKey(leafKey: LeafKey): KeyObject {
  return leafKey === 'p256'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    : generateKeyPairSync('ed25519').privateKey;
}

const bundleOf = (certificates: readonly Buffer[], trustDomain: string): TrustBundle =>
  new TrustBundle({ trustDomain, certificates });

function checkId({ spiffeId }: LocalIdentity, said: string, current: string | undefined): void {
  if (spiffeId !== said) {
    throw new IdentityError(
      'bad-answer',
      `the SVID is of ${spiffeId}, and the controller calls it ${said.slice(0, 256)}`,
    );
  }
  if (current === undefined || spiffeId === current) return;
  throw new IdentityError('other-identity', `it is the SVID of ${spiffeId}, and this is ${current}`, {
    cure: 'who a sidecar is changes only by a restart: has the service account of this pod changed?',
  });
}

/** What the check throws is the answer's fault. */
function believed<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof IdentityError)) {
      throw new IdentityError('bad-answer', `${ANSWER} makes no sense`, { cause: error, cure: STAYS });
    }
    const { code, what, cure, cause } = error.at(ANSWER);
    throw new IdentityError(code, what, { cure: cure ?? STAYS, cause });
  }
}

const CODES: Partial<Record<ControlErrorCode, IdentityErrorCode>> = {
  'untrusted-controller': 'controller-untrusted',
  UNAVAILABLE: 'controller-unreachable',
  DEADLINE_EXCEEDED: 'controller-unreachable',
  CANCELLED: 'controller-unreachable',
};

async function asking<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    const { code, message, retryAfterMs } = error;
    throw new IdentityError(CODES[code] ?? 'controller-refuses', message, { retryAfterMs, cause: error });
  }
}
