import type { Clock } from '../clock/clock.ts';
import { type BlockedPeer, BlockFile, MAX_BLOCKED, wrongPeer, wrongReason } from './blockfile.ts';
import { BlockError } from './errors.ts';

/**
 * How long a block holds: until the peer is allowed again, over restarts; or not longer than this process, because
 * no file is configured, or it could not be written: `why` says which.
 */
export type Hold = { readonly until: 'allowed' } | { readonly until: 'restart'; readonly why: string };

/**
 * The peers that an operator has blocked. A block is in force before it is written; a peer is allowed only once
 * that is written: whatever fails, fails closed.
 */
export class Blocks {
  readonly #clock: Clock;
  readonly #file: BlockFile | undefined;
  readonly #peers: Map<string, BlockedPeer>;
  /** The last write; they go one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(clock: Clock, file: BlockFile | undefined, peers: readonly BlockedPeer[]) {
    this.#clock = clock;
    this.#file = file;
    this.#peers = new Map(peers.map((entry) => [entry.peer, entry]));
  }

  /** Reads the file, if there is one. Throws BlockError `file-unreadable`, `file-damaged` or `not-written`. */
  static async open(clock: Clock, path: string | undefined): Promise<Blocks> {
    const file = path === undefined ? undefined : new BlockFile(path);
    return new Blocks(clock, file, (await file?.read()) ?? []);
  }

  get size(): number {
    return this.#peers.size;
  }

  has(peer: string): boolean {
    return this.#peers.size > 0 && this.#peers.has(peer);
  }

  /** The longest blocked first. */
  list(): BlockedPeer[] {
    return [...this.#peers.values()].sort((a, b) => (a.since < b.since ? -1 : a.since > b.since ? 1 : 0));
  }

  /**
   * Blocks peers: in force when this returns, written when `held` resolves, which never rejects. Of a peer that was
   * blocked already the time stays. Throws BlockError `bad-peer`, `bad-reason` or `too-many`; none is blocked then.
   */
  block(
    peers: readonly string[],
    reason: string,
  ): { readonly blocked: readonly BlockedPeer[]; readonly held: Promise<Hold> } {
    for (const peer of peers) check('bad-peer', wrongPeer(peer));
    check('bad-reason', wrongReason(reason));
    const since = new Date(this.#clock.now()).toISOString();
    const blocked = peers.map((peer) => ({ peer, since: this.#peers.get(peer)?.since ?? since, reason }));
    if (new Set([...this.#peers.keys(), ...peers]).size > MAX_BLOCKED) {
      throw new BlockError(
        'too-many',
        `No more than ${MAX_BLOCKED} peers can be blocked; let ingress.allow name those that may call instead`,
      );
    }
    for (const entry of blocked) this.#peers.set(entry.peer, entry);
    return { blocked, held: this.#inTurn(() => this.#hold()) };
  }

  async #hold(): Promise<Hold> {
    if (this.#file === undefined) return { until: 'restart', why: 'revocation.file is not configured' };
    try {
      await this.#file.write([...this.#peers.values()]);
      return { until: 'allowed' };
    } catch (error) {
      return { until: 'restart', why: error instanceof Error ? error.message : String(error) };
    }
  }

  /**
   * Allows a peer again, once that is written. Resolves with the block that is over; with undefined if there was
   * none, or if the peer was blocked once more meanwhile. Rejects with BlockError `not-written`: it stays blocked.
   */
  allow(peer: string): Promise<BlockedPeer | undefined> {
    return this.#inTurn(async () => {
      const entry = this.#peers.get(peer);
      if (entry === undefined) return undefined;
      await this.#file?.write([...this.#peers.values()].filter((other) => other !== entry));
      if (this.#peers.get(peer) !== entry) return undefined;
      this.#peers.delete(peer);
      return entry;
    });
  }

  #inTurn<T>(job: () => Promise<T>): Promise<T> {
    const run = this.#last.then(job);
    this.#last = run.catch(() => undefined);
    return run;
  }
}

function check(code: 'bad-peer' | 'bad-reason', wrong: string | undefined): void {
  if (wrong !== undefined) throw new BlockError(code, wrong);
}
