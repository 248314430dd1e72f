import type { Clock, TimerHandle } from '../clock/clock.ts';
import { IdentityError } from './errors.ts';
import { stampOf } from './filestamp.ts';
import { type IdentityFiles, type LoadedIdentity, loadBundle, loadIdentity, loadSvid } from './load.ts';
import type { LocalIdentity } from './local.ts';
import type { TrustBundle } from './trustbundle.ts';

/** Who asked: the look at the files on its interval, a command, or the sidecar's own renewal. */
export type ReloadCause = 'files' | 'command' | 'renewal';

/** An identity has taken the place of another. */
export interface IdentityChange {
  readonly previous: LoadedIdentity;
  readonly current: LoadedIdentity;
  /** The SVID is another one. */
  readonly svid: boolean;
  /** Other CA certificates are trusted. */
  readonly bundle: boolean;
  readonly cause: ReloadCause;
}

export interface IdentityKeeperOptions {
  readonly files: IdentityFiles;
  readonly clock: Clock;
  /** How often the files are looked at, in milliseconds; undefined: only when asked. */
  readonly reloadMs: number | undefined;
  /** In [0, 1): when the first look is, as a share of the interval. */
  readonly random?: () => number;
}

export interface KeeperListener {
  readonly onChanged: (change: IdentityChange) => void;
  /** Files were refused; what was good stays. Told once for the same fault of the same files. */
  readonly onRefused: (error: IdentityError, cause: ReloadCause) => void;
}

/** Files that have changed are read once they have not changed for so long: one that is being written is left alone. */
const SETTLED_MS = 500;
/** How often a set is read that changes meanwhile. */
const READS = 3;

/**
 * Owns who this sidecar is and whom it trusts, and replaces both when their files change. What it has is always a whole
 * that was verified: an SVID without its key, or of another SPIFFE ID, is not taken. The bundle does not wait for the SVID:
 * a CA that is to be trusted no longer is not, also if our own SVID is still that CA's.
 */
export class IdentityKeeper {
  readonly #options: IdentityKeeperOptions;
  #current: LoadedIdentity;
  /** Of the files that were read last. */
  #stamp: string;
  #refusal: IdentityError | undefined;
  /** Of the files that were refused. */
  #refusedStamp = '';
  #listener: KeeperListener | undefined;
  #timer: TimerHandle;
  #closed = false;
  /** Reads follow one another. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: IdentityKeeperOptions, current: LoadedIdentity, stamp: string) {
    this.#options = options;
    this.#current = current;
    this.#stamp = stamp;
  }

  /** Loads the identity for the first time. Rejects with IdentityError. */
  static async open(options: IdentityKeeperOptions): Promise<IdentityKeeper> {
    const stamp = await stampOf(options.files);
    return new IdentityKeeper(options, await loadIdentity(options.files, options.clock), stamp);
  }

  get identity(): LocalIdentity {
    return this.#current.identity;
  }

  get bundle(): TrustBundle {
    return this.#current.bundle;
  }

  /** Why the files that are there now are not taken; undefined if they are. */
  get refusal(): IdentityError | undefined {
    return this.#refusal;
  }

  /** Begins to look at the files, if it is to; tells of what comes of it. */
  start(listener: KeeperListener): void {
    this.#listener = listener;
    const { reloadMs, random = Math.random } = this.#options;
    if (reloadMs !== undefined) this.#lookIn(reloadMs * random());
  }

  /** Looks no more, and takes nothing that is still being read. */
  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
  }

  /**
   * Reads the files now. Resolves with whether anything was replaced. Rejects with IdentityError naming the file and the
   * cure; what was good stays, but for a good bundle, which is taken also if the SVID is refused.
   */
  reload(cause: ReloadCause = 'command'): Promise<boolean> {
    const reading = this.#last.then(() => this.#reload(cause));
    this.#last = reading.catch(() => undefined);
    return reading;
  }

  #lookIn(ms: number): void {
    const { clock, reloadMs } = this.#options;
    this.#timer = clock.after(ms, () => {
      this.#look().then(() => {
        if (!this.#closed) this.#lookIn(reloadMs as number);
      });
    });
  }

  /** Never rejects: a refusal has been told. */
  async #look(): Promise<void> {
    const { files, clock } = this.#options;
    const stamp = await stampOf(files);
    // What was refused may be good by now: its time may have come.
    if (stamp === this.#stamp && this.#refusal === undefined) return;
    if (stamp !== this.#stamp) {
      await new Promise<void>((resolve) => void clock.after(SETTLED_MS, resolve));
      if ((await stampOf(files)) !== stamp) return;
    }
    await this.reload('files').catch(() => undefined);
  }

  async #reload(cause: ReloadCause): Promise<boolean> {
    if (this.#closed) return false;
    let stamp = '';
    try {
      for (let reads = 0; reads < READS; reads++) {
        stamp = await stampOf(this.#options.files);
        const read = await this.#read();
        if (stamp === (await stampOf(this.#options.files))) {
          this.#stamp = stamp;
          return this.#take(read, cause);
        }
      }
      throw new IdentityError('files-changing', 'the files changed while they were read', {
        file: this.#options.files.svid,
        cure: 'write each file under another name, then rename it',
      });
    } catch (error) {
      const refusal = asIdentityError(error);
      const { code, file } = this.#refusal ?? {};
      const known = code === refusal.code && file === refusal.file && stamp === this.#refusedStamp;
      this.#refusal = refusal;
      this.#refusedStamp = stamp;
      if (!known && !this.#closed) this.#listener?.onRefused(refusal, cause);
      throw refusal;
    }
  }

  async #read(): Promise<ReadIdentity> {
    const { files, clock } = this.#options;
    const current = this.#current;
    const read = await loadBundle(files, current.bundle.generation + 1);
    const bundle = read.trustsAs(current.bundle) ? current.bundle : read;
    try {
      const identity = await loadSvid(files, bundle, clock);
      checkSameId(identity, current.identity, files.svid);
      return { bundle, identity: isSame(identity, current.identity) ? current.identity : identity };
    } catch (refusal) {
      return { bundle, identity: current.identity, refusal };
    }
  }

  #take({ bundle, identity, refusal }: ReadIdentity, cause: ReloadCause): boolean {
    if (this.#closed) return false;
    const previous = this.#current;
    const change = {
      svid: identity !== previous.identity,
      bundle: bundle !== previous.bundle,
    };
    if (change.svid || change.bundle) {
      this.#current = { identity, bundle };
      this.#listener?.onChanged({ previous, current: this.#current, ...change, cause });
    }
    if (refusal !== undefined) throw refusal;
    this.#refusal = undefined;
    return change.svid || change.bundle;
  }
}

interface ReadIdentity extends LoadedIdentity {
  /** Why the SVID is still the one before. */
  readonly refusal?: unknown;
}

function checkSameId({ spiffeId }: LocalIdentity, current: LocalIdentity, file: string): void {
  if (spiffeId === current.spiffeId) return;
  throw new IdentityError(
    'other-identity',
    `it is the SVID of ${spiffeId}, and this is ${current.spiffeId}`,
    {
      file,
      cure: 'put an SVID of the same SPIFFE ID there; who a sidecar is changes only by a restart',
    },
  );
}

/** The same certificates, which end at the same time in the path that the bundle gives. */
function isSame(one: LocalIdentity, other: LocalIdentity): boolean {
  return (
    one.notAfter === other.notAfter &&
    one.chain.length === other.chain.length &&
    one.chain.every((der, index) => der.equals(other.chain[index] as Buffer))
  );
}

function asIdentityError(error: unknown): IdentityError {
  if (error instanceof IdentityError) return error;
  const cure = 'the identity that was good stays; please report this';
  return new IdentityError('unreadable-file', `cannot be read: ${String(error)}`, { cause: error, cure });
}
