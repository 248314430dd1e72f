import type { IdentityFiles } from './load.ts';
import type { LocalIdentity } from './local.ts';

/** Whoever renews the SVID of this program: the CA key beside its bundle, or the controller. */
export interface Issuer {
  /** Where it puts what it issues. */
  readonly files: IdentityFiles;
  /** Whether it can, as far as that is known here. */
  able(): Promise<boolean>;
  /**
   * Puts a successor of an SVID into the files, of the same SPIFFE ID; without `current` the first one. Resolves with its end
   * (milliseconds since the epoch), or with undefined if somebody else has done it meanwhile. Rejects with IdentityError;
   * the files are then as they were.
   */
  issue(current: LocalIdentity | undefined): Promise<number | undefined>;
}
